"""What can be said of a configuration without a running node: do models and functions load and fit, and what would a file give."""

import sys
from pathlib import Path
from typing import Any

from skerry.config import NodeConfig
from skerry.core.errors import RejectedError, SkerryError
from skerry.core.ports import Scorer
from skerry.inference import Models
from skerry.pipeline import PipelineSpec, PipelineState, Runner, run_file


def scorer_of(config: NodeConfig, spec: PipelineSpec) -> Scorer | None:
    """The pipeline's loaded model, if what the pipeline makes fits it. Raises `ConfigError`, `RejectedError`."""
    if str(config.base) not in sys.path:
        sys.path.insert(0, str(config.base))
    if not spec.model:
        return None
    model = Models(config.catalogue().configs(), config.base).load(spec.model)
    if spec.columns:
        model.check_columns(len(spec.columns))
    elif not spec.features and spec.window.kind == "count":
        model.check_columns(spec.window.count * len(spec.source.names))
    return model


def check_pipelines(config: NodeConfig) -> list[dict[str, Any]]:
    """Load what each pipeline needs: `{name, ok, problem, columns}` each."""
    rows = []
    for spec in config.pipelines:
        problem = ""
        try:
            Runner(spec, scorer_of(config, spec), config.node.name, PipelineState())
        except SkerryError as error:
            problem = str(error)
        rows.append({"name": spec.name, "ok": not problem, "problem": problem, "columns": spec.columns})
    return rows


def offline_test(config: NodeConfig, name: str, file: Path) -> dict[str, Any]:
    """Run one pipeline over a recorded file. Raises `ConfigError`, `RejectedError`."""
    spec = config.pipeline(name)
    try:
        return run_file(spec, scorer_of(config, spec), config.node.name, file)
    except UnicodeDecodeError as error:
        raise RejectedError(f"is not text: {error}", where=str(file)) from error
