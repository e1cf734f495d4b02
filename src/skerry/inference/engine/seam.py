"""The seam between skerry and what runs a model: options, the session's protocol, and who opens one.

onnxruntime is built in. `openvino` is an extra that is faster on some convolution nets and slower elsewhere, so it is used only
where it is named, and `choose_engine` (in `openvino`) measures whether it should be.
"""

import functools
import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec
from numpy.typing import NDArray

from skerry.core.errors import ConfigError, RejectedError
from skerry.inference.engine.signature import Signature

Feed = Mapping[str, NDArray[Any]]
LEVELS = ("all", "extended", "basic", "none")
ENGINES = ("auto", "onnxruntime", "openvino")
# y = x: float32 [N], IR 7, opset 13
_SMALLEST = (
    b'\x08\x07\x12\x00:9\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x01gZ\x10\n\x01x\x12\x0b\n\t\x08\x01\x12\x05\n\x03\x12\x01N'
    b"b\x10\n\x01y\x12\x0b\n\t\x08\x01\x12\x05\n\x03\x12\x01NB\x04\n\x00\x10\r"
)


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


@functools.cache
def load_engine(engine: str = "auto", preparing: bool = False) -> None:
    """Bring the engine itself into this process, and open the smallest model once: what is measured from then on as a model is
    loaded is the model's.

    Args:
        preparing: also what looks into model files.
    """
    if preparing:
        importlib.import_module("onnx")
    open_session(_SMALLEST, EngineOptions(engine=engine)).close()


def open_session(source: Path | bytes, options: EngineOptions = EngineOptions(), cache: Path | None = None) -> Session:  # noqa: B008 - options are frozen
    """Load a model.

    Args:
        source: the file, or its content (then without external data).
        cache: directory of optimized graphs, by content, engine version and CPU; made when missing. It is never needed: what is
            unreadable or cannot be written there is passed over.

    Raises `RejectedError` in one sentence: missing, not ONNX, corrupt, opset or IR too new, external data missing, too large.
    """
    from skerry.inference.engine.onnxruntime import OrtSession  # late: it brings the engine

    if isinstance(source, Path) and not source.is_file():
        raise RejectedError("the model file does not exist", where=str(source), mend="mend the path")
    if options.engine != "openvino":
        return OrtSession(source, options, cache)
    from skerry.inference.engine.openvino import OpenVinoSession

    try:
        return OpenVinoSession(source, options, cache)
    except RejectedError as error:
        session: Session = OrtSession(source, options, cache)
        session.note = f"onnxruntime runs the model, for openvino cannot: {error.message}"
        return session
