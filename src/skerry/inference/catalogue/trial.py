"""Looks at a model file and tries it, in a child process: a model that crashes the engine or eats memory ends only the child.

`try_model` is the parent's side; it imports no engine and no numpy. `look` is what the child does.
"""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from skerry.core.errors import InsufficientResources, RejectedError
from skerry.inference.catalogue.version import Tensor, Version
from skerry.inference.host import EngineHost, statm
from skerry.runtime import trim

if TYPE_CHECKING:
    from skerry.inference.engine.seam import Session

MEMORY = 2 << 30  # bytes that a trial may take beyond the engine itself
SECONDS = 60.0
_RUNS, _RUN_BUDGET_S = 30, 0.5


class Question(msgspec.Struct):
    """The file to try, where to write it converted first (empty: not converted), the engine where it is known, and the cache of
    what workers will want of the model (empty: nothing is kept)."""

    path: str
    memory: int = MEMORY
    convert_to: str = ""
    engine: str = ""
    cache: str = ""


class Report(msgspec.Struct, omit_defaults=True):
    """What the child saw of a model that runs. See `Version`."""

    ir: int = 0
    opset: int = 0
    most_ir: int = 0
    most_opset: int = 0
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    metadata: dict[str, str] = {}
    engine: str = ""
    batching: str = ""
    latency_ms: float = 0.0
    load_ms: float = 0.0
    memory: int = 0
    nan: bool = False
    warnings: list[str] = []

    def version(self, name: str, version: str, sha256: str, size: int) -> Version:
        """The row of the catalogue that this report makes."""
        return Version(
            name, version, sha256=sha256, size=size, inputs=self.inputs, outputs=self.outputs, metadata=self.metadata, ir=self.ir,
            opset=self.opset, engine=self.engine, batching=self.batching, latency_ms=self.latency_ms, load_ms=self.load_ms,
            most_ir=self.most_ir, most_opset=self.most_opset, memory=self.memory, nan=self.nan, warnings=tuple(self.warnings),
        )  # fmt: skip


def try_model(
    path: Path,
    *,
    memory: int = MEMORY,
    seconds: float = SECONDS,
    convert_to: Path | None = None,
    where: str = "",
    engine: str = "",
    cache: Path | None = None,
    host: EngineHost | None = None,
) -> Report:
    """Try a model in a child process.

    Args:
        memory: bytes that it may take. seconds: until it is ended.
        convert_to: convert the model to a newer opset, write it here, and try that.
        where: what errors call the file; its path where empty.
        engine: the one to use; where empty it is chosen by measuring.
        cache: where the graph that workers load next is kept; without one nothing is.
        host: what runs it; without one, a host of its own, which takes the time of importing the engine.

    Raises `RejectedError` in one sentence when it does not load or run, also when it ended the child.
    """
    where = where or str(path)
    if not path.is_file():
        raise RejectedError("the model file does not exist", where=where, mend="mend the path")
    if host is None:
        with EngineHost() as own:
            return try_model(
                path, memory=memory, seconds=seconds, convert_to=convert_to, where=where, engine=engine, cache=cache, host=own
            )
    question = Question(str(path.absolute()), memory, str(convert_to or ""), engine, str(cache or ""))
    try:
        return host.ask("catalogue.trial:look", question, Report, seconds=seconds, memory=memory, where=where)
    except (RejectedError, InsufficientResources) as error:
        raise RejectedError(error.message, where=where, mend=error.mend) from error


def look(question: bytes, _progress: Callable[[int, int], None]) -> Report:
    """What the child does with a `Question`. Raises `SkerryError`: why the model is refused."""
    from skerry.inference.engine.choice import engine_for
    from skerry.inference.engine.opening import open_session
    from skerry.inference.engine.seam import EngineOptions
    from skerry.inference.graph.conversion import convert
    from skerry.inference.graph.prepare import prepare

    asked = msgspec.json.decode(question, type=Question)
    report = Report()
    report.most_ir, report.most_opset = _engine_takes()
    path, cache = Path(asked.path), Path(asked.cache) if asked.cache else None
    if asked.convert_to:
        done = convert(path, Path(asked.convert_to))
        report.warnings.append(f"converted to opset {done.opset}: {done.note}, largest difference {done.largest:.2g}")
        path = Path(asked.convert_to)
    _versions(path, report)
    prepared = prepare(path, cache)
    report.batching = f"{prepared.batch}: {prepared.reason}" if prepared.reason else prepared.batch
    try:
        engine = engine_for(prepared.path, asked.engine)
        trim()  # what looking at the file has left is not the model's
        before, started = _own(), time.perf_counter()
        session = open_session(prepared.path, EngineOptions(engine=engine), cache)
    except RejectedError as error:
        if report.opset and report.opset < 7:
            error.mend = "convert it: add --convert"
        raise
    report.load_ms = (time.perf_counter() - started) * 1000
    report.engine, report.metadata = session.engine, session.metadata
    report.inputs = tuple(Tensor(each.name, each.dtype, each.shape) for each in session.inputs)
    report.outputs = tuple(Tensor(each.name, each.dtype, each.shape) for each in session.outputs)
    _run(session, report)
    trim()  # what opening it took for a moment is not what it holds
    report.memory = max(0, _own() - before)
    return report


def _own() -> int:
    """Resident bytes but those of files: the engine's code is there already, and only comes to be seen in a fork."""
    return statm(1) - statm(2)


def _engine_takes() -> tuple[int, int]:
    """The newest IR and opset that the engine takes. It says them only in its refusals, so it is asked for what cannot be;
    0 where it does not say."""
    import onnxruntime as ort
    from onnx import TensorProto, helper

    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N"]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", value[:1], value[1:])
    found = []
    for ir, opset, pattern in ((9999, 17, r"max supported IR version: (\d+)"), (8, 9999, r"ai\.onnx is till opset (\d+)")):
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)
        try:
            ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        except Exception as error:  # noqa: BLE001 - the refusal is what is wanted
            said = re.search(pattern, str(error))
            found.append(int(said[1]) if said else 0)
        else:
            found.append(0)
    return found[0], found[1]


def _versions(path: Path, report: Report) -> None:
    """IR and opset; and data beside the file, which a store by content cannot keep."""
    import onnx

    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:
        raise RejectedError(
            "the model cannot be loaded: this is no ONNX file, or one that is cut off", mend="check it with onnx.checker"
        ) from error
    report.ir = model.ir_version
    report.opset = next((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), 0)
    if any(each.data_location == onnx.TensorProto.EXTERNAL for each in model.graph.initializer):
        raise RejectedError("the model keeps weights in other files", mend="save it in one: onnx.save_model(onnx.load(FILE), NEW)")


def _run(session: "Session", report: Report) -> None:
    """Run it on rows that are made up; it is refused only where they are certain to fit."""
    import numpy as np

    from skerry.inference.engine.samples import OPEN_SIZES, sample_feed
    from skerry.inference.engine.signature import is_exotic

    failures: list[Exception] = []
    for size in OPEN_SIZES:
        try:
            feed = sample_feed(session.inputs, 1, size)
            found = session.run(feed)
            break
        except Exception as error:  # noqa: BLE001 - whatever the engine says is told below
            failures.append(error)
    else:
        reason = getattr(failures[-1], "message", str(failures[-1]))
        if all(isinstance(each, InsufficientResources) for each in failures):  # whatever it is fed
            raise RejectedError(reason, mend="use a smaller model")
        packed = any(is_exotic(each.dtype) for each in session.inputs)
        certain = all((each.dtype.startswith("float") or packed) and None not in each.shape[1:] for each in session.inputs)
        if certain:
            mend = "let it take another type and cast inside the model" if packed else "run it where it was trained"
            raise RejectedError(f"the model does not run: {reason}", mend=mend)
        report.warnings.append(f"it was not run, no made-up input fits it: {reason}")
        return
    arrays: list[Any] = [value for value in found.values() if isinstance(value, np.ndarray) and value.dtype.kind == "f"]
    report.nan = any(bool(np.isnan(array).any()) for array in arrays)
    if report.nan:
        report.warnings.append("it answered NaN to made-up input")
    times: list[float] = []
    end = time.perf_counter() + _RUN_BUDGET_S
    while len(times) < _RUNS and time.perf_counter() < end:
        started = time.perf_counter()
        session.run(feed)
        times.append(time.perf_counter() - started)
    report.latency_ms = sorted(times)[len(times) // 2] * 1000 if times else 0.0
