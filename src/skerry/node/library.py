"""A pipeline as a library: the one of the configuration, over rows or a file, without a node."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from skerry.config import NodeConfig, load
from skerry.node.check import scorer_of
from skerry.pipeline import PipelineSpec, read_messages, read_rows, run_messages


class Pipeline:
    """One pipeline of a configuration, with its model loaded."""

    def __init__(self, config: NodeConfig, name: str) -> None:
        """Raises `ConfigError` for an unknown name, `RejectedError` when the model does not load or does not fit."""
        self.spec: PipelineSpec = config.pipeline(name)
        self._node = config.node.name
        self._scorer = scorer_of(config, self.spec)

    @classmethod
    def from_config(cls, path: str | Path, name: str) -> "Pipeline":
        """The pipeline `name` of a `skerry.toml`. Raises `ConfigError`, `RejectedError`."""
        return cls(load(Path(path)), name)

    def run(self, source: str | Path | Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        """Run over a JSONL, CSV or Parquet file, or over rows; deterministic.

        Rows are `{"topic", "payload", "at"?}` messages, or `{"device", <time>, <values>…}` samples. Answers `{"events",
        "messages", "windows", "late", "dead_letters", "ledger"}`. Raises `RejectedError` with the place of what is no message.
        """
        if isinstance(source, str | Path):
            messages = read_messages(self.spec, Path(source))
        else:
            messages = read_rows(self.spec, source)
        return run_messages(self.spec, self._scorer, self._node, messages)

    def test(self, source: str | Path | Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The events of `run`."""
        events: list[dict[str, Any]] = self.run(source)["events"]
        return events
