"""ONNX models: sessions tuned for a small shared box, and the score and label of a row."""

import os
from typing import TYPE_CHECKING

from skerry.core.lazy import lazy
from skerry.inference.catalogue import ModelConfig, Models

if TYPE_CHECKING:
    from skerry.inference.compare import Difference
    from skerry.inference.copying import copy_catalogue
    from skerry.inference.description import describe
    from skerry.inference.drift import Meter, psi, reference_in, reference_json, reference_of, shown
    from skerry.inference.drift_state import DriftReport, DriftState, Reference, merge_drift, merge_states
    from skerry.inference.edge import EdgeInference
    from skerry.inference.engine import EngineOptions, load_engine
    from skerry.inference.exchange import adopt_index, coming_folder, export_index, index_files, missing_files, take_model_file
    from skerry.inference.host import EngineHost
    from skerry.inference.loading import Batching, Optimized, Stats
    from skerry.inference.memory import check_memory, memory_limit
    from skerry.inference.model import Model, load_model
    from skerry.inference.quantization import quantized_table
    from skerry.inference.rollout import NOISE_S, Counts, Verdict, decide, slowness
    from skerry.inference.signature import Signature
    from skerry.inference.staging import activate, stage
    from skerry.inference.sweep import plot_sweep
    from skerry.inference.sync import SyncInference
    from skerry.inference.tools import Bench, Optimize, Quantize, Verify
    from skerry.inference.trial import try_model
    from skerry.inference.version import Version
    from skerry.inference.versions import MOST_VERSIONS, Catalogue

# before any module of this room loads the engine: from 1.29 on it would report its use to its makers, from a thread of its own
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__getattr__ = lazy(
    __name__,
    {
        "Catalogue": "versions",
        "MOST_VERSIONS": "versions",
        "Difference": "compare",
        "Bench": "tools",
        "Optimize": "tools",
        "Quantize": "tools",
        "Verify": "tools",
        "plot_sweep": "sweep",
        "quantized_table": "quantization",
        "Batching": "loading",
        "DriftReport": "drift_state",
        "DriftState": "drift_state",
        "EdgeInference": "edge",
        "EngineHost": "host",
        "adopt_index": "exchange",
        "export_index": "exchange",
        "index_files": "exchange",
        "missing_files": "exchange",
        "coming_folder": "exchange",
        "take_model_file": "exchange",
        "EngineOptions": "engine",
        "load_engine": "engine",
        "Signature": "signature",
        "Meter": "drift",
        "Model": "model",
        "Optimized": "loading",
        "Reference": "drift_state",
        "Stats": "loading",
        "SyncInference": "sync",
        "Counts": "rollout",
        "NOISE_S": "rollout",
        "Verdict": "rollout",
        "Version": "version",
        "activate": "staging",
        "copy_catalogue": "copying",
        "check_memory": "memory",
        "memory_limit": "memory",
        "decide": "rollout",
        "describe": "description",
        "slowness": "rollout",
        "stage": "staging",
        "try_model": "trial",
        "load_model": "model",
        "merge_drift": "drift_state",
        "merge_states": "drift_state",
        "psi": "drift",
        "reference_in": "drift",
        "reference_json": "drift",
        "reference_of": "drift",
        "shown": "drift",
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
