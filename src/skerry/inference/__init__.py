"""ONNX models: sessions tuned for a small shared box, and the score and label of a row."""

import os
from typing import TYPE_CHECKING

from skerry.core.lazy import lazy
from skerry.inference.catalogue.config import ModelConfig, Models

if TYPE_CHECKING:
    from skerry.inference.batching.edge import EdgeInference
    from skerry.inference.batching.loading import Batching, Optimized, Stats
    from skerry.inference.batching.sync import SyncInference
    from skerry.inference.catalogue.copying import copy_catalogue
    from skerry.inference.catalogue.description import describe
    from skerry.inference.catalogue.exchange import (
        adopt_index,
        coming_folder,
        export_index,
        index_files,
        missing_files,
        take_model_file,
    )
    from skerry.inference.catalogue.memory import check_memory, memory_limit
    from skerry.inference.catalogue.rollout import NOISE_S, Counts, Verdict, decide, slowness
    from skerry.inference.catalogue.staging import activate, stage
    from skerry.inference.catalogue.trial import try_model
    from skerry.inference.catalogue.version import Version
    from skerry.inference.catalogue.versions import MOST_VERSIONS, Catalogue
    from skerry.inference.drift.measure import Meter, psi, reference_in, reference_json, reference_of, shown
    from skerry.inference.drift.state import DriftReport, DriftState, Reference, merge_drift, merge_states
    from skerry.inference.engine.opening import load_engine
    from skerry.inference.engine.seam import EngineOptions
    from skerry.inference.engine.signature import Signature
    from skerry.inference.host import EngineHost
    from skerry.inference.model import Model, load_model
    from skerry.inference.tools.commands import Bench, Optimize, Quantize, Verify
    from skerry.inference.tools.compare import Difference
    from skerry.inference.tools.quantization import quantized_table
    from skerry.inference.tools.sweep import plot_sweep

# before any module of this room loads the engine: from 1.29 on it would report its use to its makers, from a thread of its own
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__getattr__ = lazy(
    __name__,
    {
        "Catalogue": "catalogue.versions",
        "MOST_VERSIONS": "catalogue.versions",
        "Difference": "tools.compare",
        "Bench": "tools.commands",
        "Optimize": "tools.commands",
        "Quantize": "tools.commands",
        "Verify": "tools.commands",
        "plot_sweep": "tools.sweep",
        "quantized_table": "tools.quantization",
        "Batching": "batching.loading",
        "DriftReport": "drift.state",
        "DriftState": "drift.state",
        "EdgeInference": "batching.edge",
        "EngineHost": "host",
        "adopt_index": "catalogue.exchange",
        "export_index": "catalogue.exchange",
        "index_files": "catalogue.exchange",
        "missing_files": "catalogue.exchange",
        "coming_folder": "catalogue.exchange",
        "take_model_file": "catalogue.exchange",
        "EngineOptions": "engine.seam",
        "load_engine": "engine.opening",
        "Signature": "engine.signature",
        "Meter": "drift.measure",
        "Model": "model",
        "Optimized": "batching.loading",
        "Reference": "drift.state",
        "Stats": "batching.loading",
        "SyncInference": "batching.sync",
        "Counts": "catalogue.rollout",
        "NOISE_S": "catalogue.rollout",
        "Verdict": "catalogue.rollout",
        "Version": "catalogue.version",
        "activate": "catalogue.staging",
        "copy_catalogue": "catalogue.copying",
        "check_memory": "catalogue.memory",
        "memory_limit": "catalogue.memory",
        "decide": "catalogue.rollout",
        "describe": "catalogue.description",
        "slowness": "catalogue.rollout",
        "stage": "catalogue.staging",
        "try_model": "catalogue.trial",
        "load_model": "model",
        "merge_drift": "drift.state",
        "merge_states": "drift.state",
        "psi": "drift.measure",
        "reference_in": "drift.measure",
        "reference_json": "drift.measure",
        "reference_of": "drift.measure",
        "shown": "drift.measure",
    },
)

__all__ = [
    "MOST_VERSIONS",
    "NOISE_S",
    "Batching",
    "Bench",
    "Catalogue",
    "Counts",
    "Difference",
    "DriftReport",
    "DriftState",
    "EdgeInference",
    "EngineHost",
    "EngineOptions",
    "Meter",
    "Model",
    "ModelConfig",
    "Models",
    "Optimize",
    "Optimized",
    "Quantize",
    "Reference",
    "Signature",
    "Stats",
    "SyncInference",
    "Verdict",
    "Verify",
    "Version",
    "activate",
    "adopt_index",
    "check_memory",
    "coming_folder",
    "copy_catalogue",
    "decide",
    "describe",
    "export_index",
    "index_files",
    "load_engine",
    "load_model",
    "memory_limit",
    "merge_drift",
    "merge_states",
    "missing_files",
    "plot_sweep",
    "psi",
    "quantized_table",
    "reference_in",
    "reference_json",
    "reference_of",
    "shown",
    "slowness",
    "stage",
    "take_model_file",
    "try_model",
]  # fmt: skip
