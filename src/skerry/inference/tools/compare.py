"""Whether two models, or two ways to run one, answer the same; and whether a file is what it should be (`skerry model verify`).

`python -m skerry.inference.tools.compare MODEL IN.npz OUT.npz` runs onnx' reference evaluator in a process of its own: it is slow,
and a bound on its time must be able to end it.
"""

import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from skerry.core.errors import RejectedError, SkerryError
from skerry.inference.engine.opening import open_session
from skerry.inference.engine.samples import agree
from skerry.inference.engine.seam import EngineOptions, Session
from skerry.inference.graph.prepare import Prepared, prepare
from skerry.inference.tools.recorded import Feed, random_rows, take_rows
from skerry.inference.tools.sweep import fixed_batch

RELATIVE, ABSOLUTE = 1e-3, 1e-4  # as in onnx' own backend tests
ROWS = 5  # of the comparisons of verify
REFERENCE_TIMEOUT_S = 60.0
_REFERENCE_OPSET = 13  # it runs older operators as the newer ones, such as a softmax over the last axis
_LARGEST_CHECKED = 2 << 30  # protobuf's bound; onnx.checker takes a path above it


class Difference(msgspec.Struct, frozen=True):
    """How far two models' outputs are apart, over the same rows.

    Attributes:
        rows: compared.
        max_abs, mean_abs: of all numbers of all floating outputs; infinite where one is finite and the other is not.
        largest: the largest number among the first one's outputs, to see the difference in proportion.
        agreement: fraction of rows whose label is the same: of integer and text outputs, else of the arg-max of outputs that are
            wide; None where there is neither.
    """

    rows: int
    max_abs: float
    mean_abs: float
    largest: float
    agreement: float | None


class Check(msgspec.Struct, frozen=True):
    """One check: `ok`, `failed` or `skipped`, and what was seen."""

    name: str
    state: str
    detail: str


def difference(one: Mapping[str, Any], other: Mapping[str, Any], rows: int) -> Difference:
    """Compare outputs by name. Raises `RejectedError` when names or shapes differ."""
    if one.keys() != other.keys():
        raise RejectedError(f"the outputs are {', '.join(one)} and {', '.join(other)}")
    parts: list[NDArray[np.float64]] = []
    largest = 0.0
    same: list[NDArray[np.bool_]] = []
    likeness: list[NDArray[np.bool_]] = []
    for name, value in one.items():
        first, second = _table(value), _table(other[name])
        if first.shape != second.shape:
            raise RejectedError(f"output {name!r} has the shapes {list(first.shape)} and {list(second.shape)}")
        if not first.size:
            continue
        if not _is_float(first):
            same.append((first == second).reshape(len(first), -1).all(axis=1) if first.ndim else np.array([first == second]))
            continue
        left, right = first.astype(np.float64), second.astype(np.float64)
        parts.append(_apart(left, right).ravel())
        largest = max(largest, float(np.max(np.abs(left[np.isfinite(left)]), initial=0.0)))
        if left.ndim == 2 and left.shape[1] > 1:
            likeness.append(left.argmax(axis=1) == right.argmax(axis=1))
    apart = np.concatenate(parts) if parts else np.zeros(1)
    chosen = same or likeness
    agreement = float(np.mean(np.concatenate(chosen))) if chosen else None
    return Difference(rows, float(apart.max(initial=0.0)), float(apart.mean()), largest, agreement)


def _is_float(array: NDArray[Any]) -> bool:
    return array.dtype.kind in "fc" or array.dtype.kind == "V" or array.dtype.name.startswith(("bfloat", "float"))


def _table(value: Any) -> NDArray[Any]:
    """An output as an array: the maps of a ZipMap become columns in the order of their keys."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return np.array([[row[key] for key in value[0]] for row in value])
    return np.asarray(value)


def _apart(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):
        apart = np.abs(one - other)
    apart[(one == other) | (np.isnan(one) & np.isnan(other))] = 0.0
    apart[np.isnan(apart)] = np.inf
    return apart


def run_in_parts(session: Session, feed: Feed) -> dict[str, Any]:
    """The outputs for all rows of a feed: at once, or in parts of the batch that the model is fixed to, the last filled up."""
    fixed = fixed_batch(session)
    rows = len(next(iter(feed.values()))) if feed and all(array.ndim for array in feed.values()) else None
    if fixed is None or rows is None or rows == fixed:
        return session.run(feed)
    runs = [session.run(take_rows(feed, at, fixed)) for at in range(0, rows, fixed)]
    return {name: np.concatenate([_table(run[name]) for run in runs])[:rows] for name in runs[0]}


def verify_model(
    path: Path,
    *,
    expect: Path | None = None,
    digest: str = "",
    data: Feed | None = None,
    reference: bool = True,
    engine: str = "auto",
) -> list[Check]:
    """Check a model file in every way there is; a check that fails ends none of the others.

    Args:
        expect: npz of inputs and the outputs that they must give, as `record_outputs` writes it.
        digest: the sha256 that the file must have; empty: it is shown only.
        data: rows to run; made up without.
        reference: whether to compare with onnx' reference evaluator, which may take a minute.
        engine: what runs it; the model is freed of a fixed batch first where a node would do so.
    """
    checks = [_checked("digest", lambda: _digest(path, digest)), _checked("onnx.checker", lambda: _structure(path))]
    opened: list[Session] = []
    prepared: list[Prepared] = []

    def load() -> str:
        prepared.append(prepare(path))
        opened.append(open_session(prepared[0].path, EngineOptions(engine=engine)))
        inputs = ", ".join(f"{each.name} {each}" for each in opened[0].inputs) or "no inputs"
        return f"{inputs}; {opened[0].engine}, batch {prepared[0].batch}"

    checks.append(_checked("loads", load))
    if not opened:
        return checks
    session = opened[0]
    try:
        fixed = fixed_batch(session)
        feed: Feed = {}

        def run() -> str:
            rows = ROWS if fixed is None else fixed
            feed.update(random_rows(session, rows) if data is None else take_rows(data, 0, rows) if data else {})
            return _finite(session.run(feed))

        checks.append(_checked("runs", run))
        if checks[-1].state == "ok":
            checks.append(_checked("batched = one by one", lambda: _one_by_one(session, feed, fixed)))
            if reference:
                checks.append(_checked("reference evaluator", lambda: _reference(prepared[0].path, session, feed)))
        if expect is not None:
            checks.append(_checked("expected outputs", lambda: _expected(session, expect)))
    finally:
        session.close()
    return checks


class _Skipped(Exception):
    """A check that cannot be made here, and why."""


def _checked(name: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name, "ok", check())
    except _Skipped as reason:
        return Check(name, "skipped", str(reason))
    except SkerryError as error:
        return Check(name, "failed", str(error))


def _digest(path: Path, expected: str) -> str:
    if not path.is_file():
        raise RejectedError("the model file does not exist", where=str(path), mend="mend the path")
    with path.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if expected and found != expected.lower().removeprefix("sha256:"):
        raise RejectedError(f"the file has sha256 {found}, expected {expected}", where=str(path), mend="fetch it again")
    return f"sha256 {found}"


def _structure(path: Path) -> str:
    import onnx  # late: few commands need it

    try:
        onnx.checker.check_model(str(path) if path.stat().st_size >= _LARGEST_CHECKED else path.read_bytes())
        model = onnx.load(path, load_external_data=False)
    except Exception as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise RejectedError(f"onnx.checker refuses it: {reason:.200}") from error
    opsets = ", ".join(f"{each.domain or 'ai.onnx'} {each.version}" for each in model.opset_import)
    return f"IR version {model.ir_version}, opset {opsets}, {len(model.graph.node)} nodes"


def _finite(outputs: Mapping[str, Any]) -> str:
    for name, value in outputs.items():
        array = _table(value)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise RejectedError(
                f"output {name!r} is not finite for usual inputs", mend="give real rows with --data FILE, or mend the model"
            )
    return ", ".join(f"{name} {list(_table(value).shape)}" for name, value in outputs.items())


def _one_by_one(session: Session, feed: Feed, fixed: int | None) -> str:
    if fixed is not None:
        raise _Skipped(f"the batch is fixed at {fixed}")
    together = session.run(feed)
    rows = len(next(iter(feed.values())))
    for at in range(rows):
        alone = session.run(take_rows(feed, at, 1))
        for name, value in together.items():
            if len(_table(value)) != rows:
                raise RejectedError(f"output {name!r} has {len(_table(value))} rows for {rows}", mend="its rows cannot be batched")
            if not agree(value[at : at + 1], alone[name]):
                raise RejectedError(f"output {name!r} of row {at} differs when it runs alone", mend="its rows cannot be batched")
    return f"{rows} rows"


def _reference(path: Path, session: Session, feed: Feed) -> str:
    """onnxruntime against onnx' reference evaluator, which is plain numpy."""
    with tempfile.TemporaryDirectory(prefix="skerry-verify-") as folder:
        given, found = Path(folder) / "in.npz", Path(folder) / "out.npz"
        np.savez(given, **{name: _storable(array) for name, array in feed.items()})  # type: ignore[arg-type]  # numpy's stub takes allow_pickle for one of these
        command = [sys.executable, "-m", "skerry.inference.tools.compare", str(path.resolve()), str(given), str(found)]
        try:
            child = subprocess.run(command, capture_output=True, timeout=REFERENCE_TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired:
            raise _Skipped(f"it takes longer than {REFERENCE_TIMEOUT_S:.0f} s on this model") from None
        if child.returncode:
            raise _Skipped(f"it cannot run this model: {child.stdout.decode(errors='replace') or 'it crashed'}")
        with np.load(found, allow_pickle=False) as stored:
            expected = {name: stored[name] for name in stored.files}
    ours = {name: _table(value) for name, value in session.run(feed).items() if name in expected}
    try:
        return _compared(ours, expected)
    except RejectedError as error:
        opset = _opset(path)
        if opset < _REFERENCE_OPSET:
            raise _Skipped(f"{error}, but it follows opset {_REFERENCE_OPSET} and newer, and the model has {opset}") from error
        raise


def _opset(path: Path) -> int:
    import onnx  # late: few commands need it

    imports = onnx.load(path, load_external_data=False).opset_import
    return next((each.version for each in imports if each.domain in ("", "ai.onnx")), _REFERENCE_OPSET)


def _storable(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.kind == "V" or array.dtype.name.startswith(("bfloat", "float8", "int4", "uint4")):
        raise _Skipped(f"{array.dtype.name} cannot be passed to it")
    return array.astype(str) if array.dtype.kind == "O" else array


def _compared(ours: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """What two runs have in common. Raises `RejectedError` where a number is off by more than rounding or a label differs."""
    told = difference(expected, ours, 0)
    for name, value in expected.items():
        one, other = np.asarray(value), np.asarray(ours[name])
        if _is_float(one):
            close = np.allclose(other.astype(np.float64), one.astype(np.float64), RELATIVE, ABSOLUTE, equal_nan=True)
        else:
            close = bool((one.astype(other.dtype) == other).all())
        if not close:
            raise RejectedError(f"output {name!r} differs by up to {told.max_abs:.3g} (largest value {told.largest:.3g})")
    return f"{len(expected)} outputs, largest difference {told.max_abs:.2g}"


def _expected(session: Session, file: Path) -> str:
    inputs, outputs = read_record(file, session)
    found = run_in_parts(session, inputs)
    return _compared({name: _table(found[name]) for name in outputs}, outputs)


def read_record(file: Path, session: Session) -> tuple[Feed, dict[str, NDArray[Any]]]:
    """Inputs and outputs of an npz: arrays `input:NAME` and `output:NAME`, or bare names. Raises `RejectedError`."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
    except (OSError, ValueError) as error:
        raise RejectedError(
            f"the expected outputs cannot be read: {error}", where=str(file), mend="make it with --record"
        ) from error
    inputs = {}
    for each in session.inputs:
        found = arrays.get(f"input:{each.name}", arrays.get(each.name))
        if found is None:
            raise RejectedError(f"there is no array 'input:{each.name}'", where=str(file), mend=f"it holds {', '.join(arrays)}")
        inputs[each.name] = found.astype(object) if each.dtype == "string" else found
    names = [each.name for each in session.outputs]
    outputs = {name: arrays.get(f"output:{name}", arrays.get(name)) for name in names}
    kept = {name: array for name, array in outputs.items() if array is not None}
    if not kept:
        raise RejectedError("there is no output among its arrays", where=str(file), mend=f"name one output:{names[0]}")
    return inputs, kept


def record_outputs(path: Path, to: Path, data: Feed | None = None, rows: int = 100, engine: str = "auto") -> int:
    """Write inputs and the outputs that the model gives for them now; answers the number of rows."""
    session = open_session(prepare(path).path, EngineOptions(engine=engine))
    try:
        fixed = fixed_batch(session)
        feed = data if data is not None else random_rows(session, fixed or rows)
        outputs = run_in_parts(session, feed)
    finally:
        session.close()
    stored = {f"input:{name}": array for name, array in feed.items()} | {
        f"output:{name}": _table(each) for name, each in outputs.items()
    }
    plain = {name: array.astype(str) if array.dtype.kind == "O" else array for name, array in stored.items()}
    try:
        with to.open("wb") as file:
            np.savez(file, **plain)  # type: ignore[arg-type]  # numpy's stub takes allow_pickle for one of these
    except OSError as error:
        raise RejectedError(
            f"it cannot be written: {error.strerror}", where=str(to), mend="name a file in a directory that exists"
        ) from error
    return next((len(array) for array in feed.values() if array.ndim), 1)


def main(model: str, given: str, to: str) -> int:
    """Run the reference evaluator; exit code 1 with a line why when it cannot."""
    try:
        from onnx.reference import ReferenceEvaluator

        evaluator = ReferenceEvaluator(model)
        with np.load(given, allow_pickle=False) as stored:
            feed = {name: stored[name].astype(object) if stored[name].dtype.kind == "U" else stored[name] for name in stored.files}
        found = dict(zip(evaluator.output_names, evaluator.run(None, feed), strict=True))
        tables = {name: _table(value) for name, value in found.items()}
        np.savez(to, **{name: each.astype(str) if each.dtype.kind == "O" else each for name, each in tables.items()})  # type: ignore[arg-type]  # numpy's stub, as above
    except Exception as error:  # noqa: BLE001 - whatever it raises means that it cannot: many operators are missing there
        reason = " ".join(str(error).split()).partition(" in ArrayFeatureExtractor")[0]  # a list of all operators follows
        sys.stdout.write(reason[:120] or type(error).__name__)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
