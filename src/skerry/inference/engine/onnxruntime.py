"""onnxruntime behind the engine seam: set for a shared small box, its errors as sentences, its optimized graphs kept on disk."""

import contextlib
import ctypes
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from skerry.core.errors import InsufficientResources, RejectedError, SkerryError, UnavailableError
from skerry.inference.engine.graph_cache import keep, place_of, scratch_for
from skerry.inference.engine.seam import EngineOptions, Feed
from skerry.inference.engine.signature import Signature, check_feed, dtype_name, is_exotic, numpy_dtype

_QUIET = 4  # errors come as exceptions, once

# onnxruntime's words → what happened, and the mend; {0} is what the pattern caught
_SENTENCES = (
    (r"Unsupported model IR version: (\d+), max supported IR version: (\d+)",
     "its IR version {0} is newer than the {1} that this engine takes", "export it with ir_version {1} or lower"),
    (r"Opset (\d+) is under development|guarantees\* support for models stamped with offi.*?Opset (\d+)",
     "its opset {0} is newer than this engine takes", "export it with a lower opset, or install a newer onnxruntime"),
    (r"guarantees\* support", "its opset is newer than this engine takes",
     "export it with a lower opset, or install a newer onnxruntime"),
    (r"External data path does not exist: \"?([^\"]+)", "its external data {0} is missing", "put that file beside the model"),
    (r"External initializer: (\S+) offset: \d+ size to read: (\d+) given file_length: (\d+)",
     "its external data is cut off: tensor {0} wants {1} bytes, the file has {2}", "copy that file again"),
    (r"(?:Absolute path not allowed|External data path escapes)", "its external data lies outside the model's directory",
     "save the data beside the model"),
    (r"Could not find an implementation for ([\w.]+)\((\d+)\)", "the engine has no operator {0} of opset {1}",
     "convert it to opset 13 or newer"),
    (r"No Op registered for (\w+) with domain_version of (\d+)", "there is no operator {0} in its opset {1}",
     "check it with onnx.checker"),
    (r"([\w.]+\(-?\d+\)) is not a registered function/op", "there is no operator {0}", "export it without custom operators"),
    (r"Protobuf parsing failed", "this is no ONNX file, or one that is cut off", "check it with onnx.checker"),
    (r"No graph was found", "this is no ONNX file: it has no graph", "check it with onnx.checker"),
)  # fmt: skip


class OrtSession:
    """A model in onnxruntime: CPU, sequential. See `seam.Session`."""

    engine: Literal["onnxruntime", "openvino"] = "onnxruntime"

    def __init__(self, source: Path | bytes, options: EngineOptions, cache: Path | None = None) -> None:
        self.note = ""
        self._where = str(source) if isinstance(source, Path) else "model"
        self._session: Any = _open(source, options, cache)
        self._run = self._session.run
        self.inputs = [_signature(node) for node in self._session.get_inputs()]
        self.outputs = [_signature(node) for node in self._session.get_outputs()]
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        self._names = [each.name for each in self.outputs]
        self._exotic = any(is_exotic(each.dtype) for each in [*self.inputs, *self.outputs])
        self._tensors = all(each.tensor for each in self.inputs)
        self._words = any(each.dtype == "string" for each in self.inputs)

    def run(self, feed: Feed, wanted: Sequence[str] | None = None) -> dict[str, Any]:
        """See `seam.Session.run`."""
        names = self._names if wanted is None else list(wanted)
        try:
            # the engine would make arrays of lists, and text of whatever is among strings; the rest it checks itself
            if self._words:
                check_feed(self.inputs, feed)
            elif self._tensors:
                for value in feed.values():
                    if type(value) is not np.ndarray:
                        check_feed(self.inputs, feed)
            if self._exotic:
                return self._run_exotic(names, feed)
            return dict(zip(names, self._run(names, feed), strict=True))
        except SkerryError:
            raise
        except Exception as error:
            raise self._explain(error, names, feed) from error

    def _explain(self, error: Exception, names: Sequence[str], feed: Feed) -> SkerryError:
        """What went wrong in a run. The feed is looked at only now: the engine checks it anyway, in fewer words."""
        if self._session is None:
            return UnavailableError("the model is unloaded", where=self._where, mend="load it again")
        try:
            check_feed(self.inputs, feed)
        except RejectedError as misfit:
            return misfit
        for name in names:
            if name not in self._names:
                return RejectedError(f"there is no output {name!r}", mend=f"outputs: {', '.join(self._names)}")
        if isinstance(error, UnicodeDecodeError):
            mend = "ask for other outputs, or let the model give numbers"
            return RejectedError("the model answered with text that is not UTF-8, which the engine cannot hand out", mend=mend)
        text = str(error)
        if isinstance(error, MemoryError) or "bad_alloc" in text or "Failed to allocate memory" in text:
            return InsufficientResources("the model needs more memory than there is for this input", mend="send fewer rows at once")
        return RejectedError(f"the model did not run on this input: {reason_of(error)}")

    def _run_exotic(self, names: list[str], feed: Feed) -> dict[str, Any]:
        """Run through OrtValues: numpy has no number for bfloat16 and float8, so onnxruntime takes their bytes."""
        import onnxruntime as ort
        from onnxruntime.capi.onnxruntime_pybind11_state import RunOptions

        checked = check_feed(self.inputs, feed)
        values = {}
        for each in self.inputs:
            array = np.ascontiguousarray(checked[each.name]) if each.tensor else checked[each.name]
            if is_exotic(each.dtype):
                raw = array.view(np.uint16 if array.dtype.itemsize == 2 else np.uint8)
                kind = _element_type(each.dtype)
                values[each.name] = ort.OrtValue.ortvalue_from_numpy_with_onnx_type(raw, kind)
            elif each.tensor:
                values[each.name] = ort.OrtValue.ortvalue_from_numpy(array)
            else:
                raise RejectedError(f"input {each.name!r}: {each.dtype} beside an input of an 8 or 16 bit float is not possible")
        found = self._session.run_with_ort_values(names, values, RunOptions())
        kinds = {each.name: each.dtype for each in self.outputs}
        return {name: _array(value, kinds[name]) for name, value in zip(names, found, strict=True)}

    def close(self) -> None:
        """Free the model; a run under way keeps it until it ends."""
        self._session = None
        self._run = _closed


def _closed(*_: Any) -> Any:
    raise UnavailableError("the model is unloaded", mend="load it again")


def _signature(node: Any) -> Signature:
    # 0, -1, None and text all mean symbolic: exporters write each of them
    shape = tuple(size if isinstance(size, int) and size > 0 else None for size in node.shape or ())
    return Signature(node.name, dtype_name(node.type), shape)


def _element_type(dtype: str) -> int:
    numbers = {"bfloat16": 16, "float8e4m3fn": 17, "float8e4m3fnuz": 18, "float8e5m2": 19, "float8e5m2fnuz": 20}  # onnx.proto
    if dtype not in numbers:
        raise RejectedError(f"onnxruntime takes no {dtype} from outside")
    return numbers[dtype]


def _array(value: Any, dtype: str) -> Any:
    """The numpy array of an OrtValue, copied out of the engine's memory where numpy has no such type."""
    if not is_exotic(dtype):
        return value.numpy()
    kind = numpy_dtype(dtype)
    shape = value.shape()
    size = int(np.prod(shape)) * kind.itemsize
    if not size:
        return np.empty(shape, kind)
    content = bytes((ctypes.c_ubyte * size).from_address(value.data_ptr()))
    found: NDArray[Any] = np.frombuffer(bytearray(content), kind).reshape(shape)
    return found


def reason_of(error: Exception) -> str:
    """The engine's own reason in one line, without its source paths and C++ signatures."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    text = re.sub(r"/\S+\.(?:cc|h|cpp):\d+ .*?\) (?=[A-Z\"'(])", "", text)
    text = re.sub(r"^Load model from .*? failed:", "", text)
    return text[:300].rstrip(" .")


def explain_load(error: Exception, where: str) -> RejectedError:
    """Why a model does not load, in one sentence."""
    text = str(error)
    for pattern, sentence, mend in _SENTENCES:
        found = re.search(pattern, text, re.DOTALL)
        if found:
            caught = [group for group in found.groups() if group is not None]
            return RejectedError(f"the model cannot be loaded: {sentence.format(*caught)}", where=where, mend=mend.format(*caught))
    if "bad_alloc" in text or isinstance(error, MemoryError):
        told = "the model cannot be loaded: it needs more memory than there is"
        return RejectedError(told, where=where, mend="use a smaller one")
    return RejectedError(f"the model cannot be loaded: {reason_of(error)}", where=where, mend="check it with onnx.checker")


def _settings(options: EngineOptions, optimize: str) -> Any:
    import onnxruntime as ort  # late: only processes that run models pay for it

    level = ort.GraphOptimizationLevel
    levels = {
        "all": level.ORT_ENABLE_ALL,
        "extended": level.ORT_ENABLE_EXTENDED,
        "basic": level.ORT_ENABLE_BASIC,
        "none": level.ORT_DISABLE_ALL,
    }
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    settings.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    settings.graph_optimization_level = levels[optimize]
    settings.log_severity_level = _QUIET
    settings.enable_cpu_mem_arena = options.arena
    spinning = "1" if options.spinning else "0"
    settings.add_session_config_entry("session.intra_op.allow_spinning", spinning)
    settings.add_session_config_entry("session.inter_op.allow_spinning", spinning)
    return settings


def _open(source: Path | bytes, options: EngineOptions, cache: Path | None) -> Any:
    """A session, from the cached graph where there is one; one is written where there is none."""
    import onnxruntime as ort

    where = str(source) if isinstance(source, Path) else "model"
    kept = None if cache is None or options.optimize == "none" else place_of(source, options, cache)
    if kept is not None and kept.is_file():
        try:
            session = ort.InferenceSession(str(kept), _settings(options, "none"), providers=["CPUExecutionProvider"])
        except Exception:  # noqa: BLE001 - written by a crash, or by another build: made again below
            kept.unlink(missing_ok=True)
        else:
            with contextlib.suppress(OSError):
                os.utime(kept)
            return session
    settings = _settings(options, options.optimize)
    written = scratch_for(kept)
    if written is not None:
        settings.optimized_model_filepath = written
    content = str(source) if isinstance(source, Path) else source
    try:
        session = ort.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
        # initializers that a feed may override come back from the written graph as inputs that every feed must have
        if written is not None and kept is not None and not session.get_overridable_initializers():
            keep(Path(written), kept)
    except Exception as error:
        raise explain_load(error, where) from error
    finally:
        if written is not None:
            with contextlib.suppress(OSError):
                Path(written).unlink(missing_ok=True)
    return session
