"""Which engine a model should use: measured, on made-up rows."""

import contextlib
import importlib.util
from pathlib import Path
from typing import Any

import msgspec

from skerry.core.clock import Clock, SystemClock
from skerry.core.errors import SkerryError
from skerry.inference.engine.opening import open_session
from skerry.inference.engine.samples import OPEN_SIZES, agree, sample_feed
from skerry.inference.engine.seam import EngineOptions, Session

MEASURED_S = 0.15  # of runs, a batch size and engine
MOST_RUNS = 200
WORTH_S = 2e-4  # a run that is shorter than this is shorter than what a call of openvino costs beside it
GAIN = 0.9  # openvino is chosen when its runs take at most this share of onnxruntime's
_BATCHES = (1, 16)


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
