"""Who opens a model: onnxruntime, which is built in, or openvino where it is named and can.

`openvino` is an extra that is faster on some convolution nets and slower elsewhere; `choose_engine` (in `choice`) measures whether
it should be named.
"""

import functools
import importlib
from pathlib import Path

from skerry.core.errors import RejectedError
from skerry.inference.engine.seam import EngineOptions, Session

# y = x: float32 [N], IR 7, opset 13
_SMALLEST = (
    b'\x08\x07\x12\x00:9\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x01gZ\x10\n\x01x\x12\x0b\n\t\x08\x01\x12\x05\n\x03\x12\x01N'
    b"b\x10\n\x01y\x12\x0b\n\t\x08\x01\x12\x05\n\x03\x12\x01NB\x04\n\x00\x10\r"
)


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
