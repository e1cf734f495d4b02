"""The seam between skerry and what runs a model: how an engine is set, and what a loaded model can be asked."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec
from numpy.typing import NDArray

from skerry.core.errors import ConfigError
from skerry.inference.engine.signature import Signature

Feed = Mapping[str, NDArray[Any]]
LEVELS = ("all", "extended", "basic", "none")
ENGINES = ("auto", "onnxruntime", "openvino")


class EngineOptions(msgspec.Struct, frozen=True):
    """How an engine is set. The defaults are those of a small box that others share, as measured.

    Attributes:
        threads: of one run.
        spinning: whether idle threads burn their core while they wait; faster alone, ruinous beside others.
        arena: keep freed memory for the next run.
        optimize: graph optimizations: `all`, `extended`, `basic` or `none`.
        engine: `auto` is onnxruntime; `openvino` falls back to it with a note where it cannot run the model.
    """

    threads: int = 1
    spinning: bool = False
    arena: bool = True
    optimize: str = "all"
    engine: str = "auto"

    def __post_init__(self) -> None:
        if not 1 <= self.threads <= 256:
            raise ConfigError(f"{self.threads} is no number of threads", where="threads", allowed="1 to 256")
        if self.optimize not in LEVELS:
            raise ConfigError(f"{self.optimize!r} is no level", where="optimize", allowed=", ".join(LEVELS))
        if self.engine not in ENGINES:
            raise ConfigError(f"there is no engine {self.engine!r}", where="engine", allowed=", ".join(ENGINES))


class Session(Protocol):
    """A loaded model. Several threads may call `run` at once.

    Attributes:
        engine: `onnxruntime` or `openvino`.
        metadata: the model's metadata_props.
        note: why the engine is not the one asked for; empty when it is.
    """

    engine: Literal["onnxruntime", "openvino"]
    inputs: list[Signature]
    outputs: list[Signature]
    metadata: dict[str, str]
    note: str

    def run(self, feed: Feed, wanted: Sequence[str] | None = None) -> dict[str, Any]:
        """The outputs (all, or those wanted) by name: arrays; for a sequence a list, for a sequence of maps a list of dicts.

        Raises `RejectedError` (the feed does not fit, or the model fails on it), `InsufficientResources` (no memory),
        `UnavailableError` (closed).
        """

    def close(self) -> None:
        """Free the model. A run under way ends first; a second call does nothing."""
