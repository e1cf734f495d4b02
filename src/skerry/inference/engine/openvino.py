"""OpenVINO behind the engine seam, an extra; and the measuring that says whether a model should use it."""

import contextlib
import importlib.util
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from skerry.core.clock import Clock, SystemClock
from skerry.core.errors import RejectedError, SkerryError, UnavailableError
from skerry.inference.engine.onnxruntime import OrtSession, reason_of
from skerry.inference.engine.samples import OPEN_SIZES, agree, sample_feed
from skerry.inference.engine.seam import EngineOptions, Feed, Session, open_session
from skerry.inference.engine.signature import check_feed, is_exotic

MEASURED_S = 0.15  # of runs, a batch size and engine
MOST_RUNS = 200
WORTH_S = 2e-4  # a run that is shorter than this is shorter than what a call of openvino costs beside it
GAIN = 0.9  # openvino is chosen when its runs take at most this share of onnxruntime's
_BATCHES = (1, 16)


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


class Measurement(msgspec.Struct, frozen=True):
    """What an engine took.

    Attributes:
        load_seconds: to open the model. seconds: fastest run, by its rows (0: as the model's shape is). note: why it cannot run it.
    """

    engine: str
    load_seconds: float
    seconds: dict[int, float]
    note: str = ""


def choose_engine(
    path: Path, options: EngineOptions = EngineOptions(), clock: Clock | None = None  # noqa: B008 - options are frozen
) -> tuple[str, list[Measurement]]:  # fmt: skip
    """The engine for a model, by measuring both on made-up rows for well under a second, and the measurements.

    openvino is chosen where it gives the same outputs and no batch size is slower and the sum is 10 % faster. It is not even
    loaded where the runs of onnxruntime are so short that it cannot be.
    Raises `RejectedError` when onnxruntime cannot load the model.
    """
    now = (clock or SystemClock()).monotonic
    measured: list[Measurement] = []
    outputs: list[dict[int, dict[str, Any]]] = []
    for engine in ("onnxruntime", "openvino"):
        started = now()
        session = open_session(path, msgspec.structs.replace(options, engine=engine))
        took = now() - started
        with contextlib.closing(session):
            if session.engine != engine:
                measured.append(Measurement(engine, took, {}, session.note))
                continue
            seconds, found = _measure(session, now)
        measured.append(Measurement(engine, took, seconds, "" if seconds else "no made-up input runs"))
        outputs.append(found)
        if engine == "onnxruntime" and seconds and max(seconds.values()) < WORTH_S:
            return engine, [*measured, Measurement("openvino", 0.0, {}, "not measured: the runs are too short for it to gain")]
    return _judge(measured, outputs), measured


def engine_for(path: Path, engine: str = "") -> str:
    """The engine that is named; where none is, the faster one of those that are installed. Raises as `choose_engine`."""
    if engine:
        return engine
    return choose_engine(path)[0] if importlib.util.find_spec("openvino") is not None else "auto"


def _judge(measured: list[Measurement], outputs: list[dict[int, dict[str, Any]]]) -> str:
    if len(outputs) < 2 or not measured[0].seconds or measured[0].seconds.keys() != measured[1].seconds.keys():
        return "onnxruntime"
    for rows, expected in outputs[0].items():
        if not all(agree(value, outputs[1][rows][name]) for name, value in expected.items()):
            measured[1] = msgspec.structs.replace(measured[1], note="its outputs differ from onnxruntime's")
            return "onnxruntime"
    ours, theirs = measured[0].seconds, measured[1].seconds
    slower = any(theirs[rows] > ours[rows] for rows in ours)
    return "onnxruntime" if slower or sum(theirs.values()) > GAIN * sum(ours.values()) else "openvino"


def _measure(session: Session, now: Any) -> tuple[dict[int, float], dict[int, dict[str, Any]]]:
    """Fastest run and outputs by rows; a fixed batch is measured once, as 0 rows."""
    open_batch = bool(session.inputs) and all(each.shape and each.shape[0] is None for each in session.inputs)
    seconds: dict[int, float] = {}
    outputs: dict[int, dict[str, Any]] = {}
    for rows in _BATCHES if open_batch else (0,):
        for size in OPEN_SIZES:
            try:
                feed = sample_feed(session.inputs, max(rows, 1), size)
                outputs[rows] = session.run(feed)  # and warm
            except (SkerryError, TypeError):
                continue
            ends, fastest, runs = now() + MEASURED_S, float("inf"), 0
            while runs < 3 or (runs < MOST_RUNS and now() < ends):
                started = now()
                session.run(feed)
                fastest, runs = min(fastest, now() - started), runs + 1
            seconds[rows] = fastest
            break
    return seconds, outputs
