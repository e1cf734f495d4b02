"""OpenVINO behind the engine seam, an extra."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from skerry.core.errors import RejectedError, UnavailableError
from skerry.inference.engine.onnxruntime import OrtSession, reason_of
from skerry.inference.engine.seam import EngineOptions, Feed
from skerry.inference.engine.signature import check_feed, is_exotic


class OpenVinoSession:
    """A model in openvino: CPU, float32, one run at a time. See `seam.Session`.

    Signatures and metadata are read by onnxruntime, which is freed again: both engines describe a model in the same words.
    """

    engine: Literal["onnxruntime", "openvino"] = "openvino"

    def __init__(self, source: Path | bytes, options: EngineOptions, cache: Path | None = None) -> None:
        try:
            import openvino
        except ImportError as error:
            raise RejectedError("openvino is not installed", mend='install the extra: pip install "skerry[openvino]"') from error
        described = OrtSession(source, msgspec.structs.replace(options, optimize="none"))
        self.inputs, self.outputs, self.metadata = described.inputs, described.outputs, described.metadata
        described.close()
        for each in [*self.inputs, *self.outputs]:
            if not each.tensor or each.dtype == "string" or is_exotic(each.dtype):
                raise RejectedError(f"openvino takes no {each.dtype} ({each.name!r})")
        self.note = ""
        self._lock = threading.Lock()
        settings: dict[str, Any] = {
            "INFERENCE_NUM_THREADS": options.threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",  # else a CPU that can takes bfloat16, and answers differ
        }
        if cache is not None:
            settings["CACHE_DIR"] = str(cache)
        try:
            core = openvino.Core()
            model = core.read_model(str(source)) if isinstance(source, Path) else core.read_model(source)
            self._request: Any = core.compile_model(model, "CPU", settings).create_infer_request()
            names = {name for port in model.inputs for name in port.get_names()}
            found = [port.get_names() for port in model.outputs]
        except Exception as error:
            raise RejectedError(f"openvino cannot load the model: {reason_of(error)[:160]}") from error
        self._ports = {each.name: at for each in self.outputs for at, known in enumerate(found) if each.name in known}
        missing = [each.name for each in self.inputs if each.name not in names]
        missing += [each.name for each in self.outputs if each.name not in self._ports]
        if missing:
            raise RejectedError(f"openvino lost {missing[0]!r} of the model")

    def run(self, feed: Feed, wanted: Sequence[str] | None = None) -> dict[str, Any]:
        """See `seam.Session.run`. The feed is checked: openvino would cast in silence."""
        checked = check_feed(self.inputs, feed)
        names = list(self._ports) if wanted is None else list(wanted)
        for name in names:
            if name not in self._ports:
                raise RejectedError(f"there is no output {name!r}", mend=f"outputs: {', '.join(self._ports)}")
        with self._lock:  # a request holds one set of outputs
            if self._request is None:
                raise UnavailableError("the model is unloaded", mend="load it again")
            try:
                self._request.infer({name: np.ascontiguousarray(array).reshape(array.shape) for name, array in checked.items()})
                return {name: np.array(self._request.get_output_tensor(self._ports[name]).data) for name in names}
            except Exception as error:
                raise RejectedError(f"the model did not run on this input: {reason_of(error)[:160]}") from error

    def close(self) -> None:
        """Free the model, after a run that is under way."""
        with self._lock:
            self._request = None
