"""An onnxruntime session set for a small box that others share."""

from pathlib import Path
from typing import Any

from skerry.core.errors import RejectedError


def open_session(source: Path | bytes, threads: int = 1) -> Any:
    """A CPU `onnxruntime.InferenceSession`: sequential, `threads` threads, no spinning (an idle pool must not burn the core that
    others need), all graph optimizations. Raises `RejectedError` in one sentence when the model cannot be loaded."""
    import onnxruntime as ort  # late: only processes that run models pay for it

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    where = str(source) if isinstance(source, Path) else "model"
    try:
        return ort.InferenceSession(
            str(source) if isinstance(source, Path) else source, options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        reason = str(error).splitlines()[0].split(" : ")[-1]
        raise RejectedError(f"the model cannot be loaded: {reason}", where=where, mend="check it with onnx.checker") from error
