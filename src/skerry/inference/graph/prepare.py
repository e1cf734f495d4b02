"""What a model file is before an engine sees it: its opset, what it claims, and whether its rows can share a run.

A model exported with a fixed batch is freed where its graph allows that: the dimension is made symbolic, and the result believed
only when 2 and 3 rows together give what they give one by one. onnx is imported late, and not at all when the verdict is cached.
"""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from skerry.core.errors import RejectedError, SkerryError
from skerry.inference.engine.graph_cache import content_digest, let_go
from skerry.inference.engine.opening import open_session
from skerry.inference.engine.samples import OPEN_SIZES, agree, join, rows_of, sample_feed
from skerry.inference.engine.seam import EngineOptions, Session

Batch = Literal["symbolic", "freed", "fixed", "none"]
MOST_BYTES = 2 << 30  # that one tensor may claim; more cannot be meant for a small box
MOST_BESIDE = 512 << 20  # bytes of tensors in files beside the model that a freed copy takes in
_FORMAT = 2  # of the cached verdict: raised when prepare decides differently
_SYMBOL = "batch"
_STATES = {"RNN": (5,), "GRU": (5,), "LSTM": (5, 6)}
"""Operators that keep a state from step to step, and which of their inputs it begins with (left out: zero)."""


class Prepared(msgspec.Struct, frozen=True):
    """A model file that an engine may open.

    Attributes:
        path: the file itself, or the freed copy in the cache.
        batch: `symbolic`, `freed` (was fixed, see above), `fixed` (and stays so) or `none` (no input has a batch dimension).
        reason: why, in a few words; empty for `symbolic`.
        opset: of the operators of ONNX itself; ir: of the file format.
    """

    path: Path
    batch: Batch
    reason: str
    opset: int
    ir: int


def prepare(path: Path, cache: Path | None = None) -> Prepared:
    """Look at a model file and free its batch where that is possible.

    Args:
        cache: where verdicts and freed copies are kept; without one a freed copy lies in the system's temporary directory for as
            long as this process lives.

    Raises `RejectedError` in one sentence: missing, not ONNX, cut off, external data missing, too large.
    """
    if not path.is_file():
        raise RejectedError("the model file does not exist", where=str(path), mend="mend the path")
    with contextlib.suppress(OSError, ValueError):
        digest = content_digest(path)
        verdict = cache / f"{digest}.prepared.json" if cache is not None and digest else None
        if verdict is not None and (known := _read_verdict(verdict, path)) is not None:
            return known
        prepared = _prepare(path, cache, digest)
        if verdict is not None:
            write_whole(verdict, msgspec.json.encode([_FORMAT, prepared.batch == "freed", prepared], enc_hook=str))
            let_go(verdict.parent, "*.prepared.json")
        return prepared
    return _prepare(path, None, None)


def _read_verdict(verdict: Path, path: Path) -> Prepared | None:
    try:
        version, freed, prepared = msgspec.json.decode(verdict.read_bytes(), type=tuple[int, bool, dict[str, Any]])
        if version != _FORMAT:
            return None
        found = msgspec.convert({**prepared, "path": str(path)} if not freed else prepared, Prepared, dec_hook=_as_path)
    except (OSError, ValueError, TypeError):
        return None
    return found if found.path.is_file() else None


def _as_path(kind: type, value: Any) -> Any:
    if kind is Path:
        return Path(value)
    raise TypeError(kind)


def write_whole(place: Path, content: bytes) -> None:
    """Write a file: all of it or nothing."""
    place.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=place.parent, prefix=".", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(place)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _prepare(path: Path, cache: Path | None, digest: str | None) -> Prepared:
    model = read_model(path)
    opset = max((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), default=0)
    batch, reason = _batch(model)
    place = path
    if batch == "fixed":
        with _folder(cache) as folder:
            freed = folder / f"{digest or hashlib.sha256(str(path).encode()).hexdigest()}.freed.onnx"
            reason = _take_in(model, path) or free(path, model, freed)
            if not reason:
                batch, reason, place = "freed", "fixed batch made symbolic, verified with 2 and 3 rows", freed
                if cache is not None:
                    let_go(cache, "*.freed.onnx")
    return Prepared(place, batch, reason, opset, model.ir_version)


_own: list[tempfile.TemporaryDirectory[str]] = []  # removed when the process ends


@contextlib.contextmanager
def _folder(cache: Path | None) -> Iterator[Path]:
    if cache is not None:
        cache.mkdir(parents=True, exist_ok=True)
        yield cache
        return
    if not _own:
        _own.append(tempfile.TemporaryDirectory(prefix="skerry-freed-", ignore_cleanup_errors=True))
    yield Path(_own[0].name)


def read_model(path: Path) -> Any:
    """The `onnx.ModelProto` of a file, its external data left where it is. Raises `RejectedError` in one sentence."""
    import onnx  # late, see above

    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:
        raise RejectedError(
            "the model cannot be loaded: this is no ONNX file, or one that is cut off",
            where=str(path), mend="check it with onnx.checker",
        ) from error  # fmt: skip
    if not model.HasField("graph") or not (model.graph.node or model.graph.output):
        raise RejectedError(
            "the model cannot be loaded: this is no ONNX file: it has no graph", where=str(path), mend="check it with onnx.checker"
        )
    _check_claims(model, path)
    return model


def _check_claims(model: Any, path: Path) -> None:
    """Refuse tensors that claim more than `MOST_BYTES` or more than the file holds, before anything allocates them."""
    import onnx

    size = path.stat().st_size
    shapes = {}
    for tensor in model.graph.initializer:
        claimed = int(np.prod([max(each, 0) for each in tensor.dims], dtype=object)) if tensor.dims else 1
        outside = tensor.data_location == onnx.TensorProto.EXTERNAL
        if claimed > MOST_BYTES or (not outside and claimed // 4 > size):
            raise RejectedError(
                f"the model cannot be loaded: tensor {tensor.name!r} claims {claimed:,} numbers, the file has {size:,} bytes",
                where=str(path), mend="export it again",
            )  # fmt: skip
        if tensor.data_type == onnx.TensorProto.INT64 and not outside and len(tensor.dims) <= 1 and claimed <= 16:
            shapes[tensor.name] = onnx.numpy_helper.to_array(tensor)
    for node in model.graph.node:
        if node.op_type == "ConstantOfShape" and node.input and node.input[0] in shapes:
            _check_size(f"operator ConstantOfShape {node.output[0]!r}", [int(each) for each in shapes[node.input[0]].ravel()], path)
    for value in model.graph.input:
        if value.type.HasField("tensor_type"):
            _check_size(f"input {value.name!r}", [each.dim_value or 1 for each in value.type.tensor_type.shape.dim], path)


def _check_size(what: str, dims: list[int], path: Path) -> None:
    claimed = int(np.prod([max(each, 0) for each in dims], dtype=object)) if dims else 1
    if claimed * 4 > MOST_BYTES:
        raise RejectedError(
            f"the model cannot be loaded: {what} {dims} takes more than {MOST_BYTES >> 30} GiB",
            where=str(path), mend="use a smaller one",
        )  # fmt: skip


def _take_in(model: Any, path: Path) -> str:
    """Put tensors that lie in files beside the model into it, for its copy lies elsewhere; why that is not possible, else empty."""
    import onnx

    files = {
        entry.value for tensor in model.graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL
        for entry in tensor.external_data if entry.key == "location"
    }  # fmt: skip
    try:
        size = sum((path.parent / name).stat().st_size for name in files)
        if size > MOST_BESIDE:
            return f"its tensors lie in files beside it that are too large to copy ({size >> 20} MiB)"
        if files:
            onnx.load_external_data_for_model(model, str(path.parent))
    except Exception:  # noqa: BLE001 - missing, cut off, outside of the directory: the engine tells it when it opens the model
        return "its tensors lie in files beside it that cannot be read"
    return ""


def _inputs(model: Any) -> list[Any]:
    """Inputs that a caller feeds: old files list their initializers too."""
    known = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in known]


def dims_of(value: Any) -> Any:
    """Dimensions of an `onnx.ValueInfoProto`; none for what is no tensor."""
    return value.type.tensor_type.shape.dim if value.type.HasField("tensor_type") else ()


def _batch(model: Any) -> tuple[Batch, str]:
    """Whether the first dimension of the inputs is open. By the first dimension: an engine cannot tell what a symbol means."""
    inputs = _inputs(model)
    if not inputs:
        return "none", "no inputs"
    for value in inputs:
        if not value.type.HasField("tensor_type"):
            return "none", f"input {value.name!r} is no tensor"
        if not value.type.tensor_type.HasField("shape") or not len(dims_of(value)):
            return "none", f"input {value.name!r} has no dimensions"
    fixed = [value.name for value in inputs if dims_of(value)[0].dim_value > 0]
    if not fixed:
        return "symbolic", ""
    if len(fixed) < len(inputs):
        return "none", f"the first dimension of input {fixed[0]!r} is fixed, others are open"
    return "fixed", ""


def free(path: Path, model: Any, to: Path) -> str:
    """Write a copy of a fixed-batch model with an open batch; why it is not possible, empty when it was done and verified."""
    inputs, outputs = _inputs(model), model.graph.output
    sizes = {dims_of(value)[0].dim_value for value in inputs}
    if len(sizes) > 1:
        return f"the first dimensions of its inputs differ: {', '.join(str(size) for size in sorted(sizes))}"
    batch = sizes.pop()
    for value in outputs:
        if not len(dims_of(value)) or dims_of(value)[0].dim_value not in (batch, 0):
            return f"output {value.name!r} has not one row for each row of the input"
    fed = {value.name for value in inputs}
    for node in model.graph.node:
        turned = any(each.name == "layout" and each.i for each in node.attribute)
        if node.op_type in _STATES and not turned and node.input[0] in fed:
            return f"operator {node.op_type} reads the first dimension of input {node.input[0]!r} as its steps"
    _open_batch(model, batch)
    _open_states(model)
    try:
        write_whole(to, model.SerializeToString())
        if not (reason := _verify(path, to, batch)):
            return ""
    except (SkerryError, OSError, ValueError, TypeError) as error:
        reason = f"its graph needs the fixed batch: {getattr(error, 'message', error)}"
    to.unlink(missing_ok=True)
    return reason


def _open_batch(model: Any, batch: int) -> None:
    """Make dimension 0 of inputs and outputs a symbol, and the batch in the target of a Reshape "as it comes" (0)."""
    for value in [*_inputs(model), *model.graph.output]:
        if len(dims_of(value)):
            dims_of(value)[0].dim_param = _SYMBOL
    del model.graph.value_info[:]
    targets = {node.input[1] for node in model.graph.node if node.op_type == "Reshape" and len(node.input) > 1}
    for tensor in model.graph.initializer:
        if tensor.name in targets:
            _open_target(tensor, batch)
    for node in model.graph.node:
        if node.op_type == "Constant" and node.output[0] in targets:
            for attribute in node.attribute:
                if attribute.name == "value":
                    _open_target(attribute.t, batch)
                elif attribute.name == "value_ints" and attribute.ints and attribute.ints[0] == batch:
                    attribute.ints[0] = -1 if -1 not in attribute.ints else 0
        elif node.op_type == "Reshape" and len(node.input) == 1:  # opset 1: the target is an attribute
            for attribute in node.attribute:
                if attribute.name == "shape" and attribute.ints and attribute.ints[0] == batch:
                    attribute.ints[0] = 0


def _open_states(model: Any) -> None:
    """Leave out initial states that are zero: they are zero without it, for any batch. Others stay, and fix the batch."""
    from onnx import numpy_helper

    values = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            values |= dict.fromkeys(node.output, next((each.t for each in node.attribute if each.name == "value"), None))
    for node in model.graph.node:
        for at in _STATES.get(node.op_type, ()):
            begins = values.get(node.input[at]) if at < len(node.input) else None
            if begins is not None and not numpy_helper.to_array(begins).any():
                node.input[at] = ""


def _open_target(tensor: Any, batch: int) -> None:
    from onnx import numpy_helper

    target = numpy_helper.to_array(tensor).copy()
    if target.ndim == 1 and len(target) and target[0] == batch:
        target[0] = 0 if -1 in target else -1  # -1: whatever is left, also where the input's first dimension is not the batch
        tensor.CopyFrom(numpy_helper.from_array(target, tensor.name))


def _verify(path: Path, freed: Path, batch: int) -> str:
    """Why the freed model cannot be believed: against the model as it was, and 2 and 3 rows together against one by one."""
    original = open_session(path, EngineOptions(optimize="basic"))
    opened = open_session(freed, EngineOptions(optimize="basic"))
    try:
        for size in OPEN_SIZES:
            try:
                feed = sample_feed(original.inputs, batch, size)
                expected = original.run(feed)
            except (SkerryError, TypeError):
                continue
            if not all(agree(value, expected[name]) for name, value in opened.run(feed).items()):
                return "freed, it gives other outputs than before"
            return _verify_rows(opened, size)
        return "no made-up input runs"
    finally:
        original.close()
        opened.close()


def _verify_rows(session: Session, size: int) -> str:
    for rows in (2, 3):
        feed = sample_feed(session.inputs, rows, size, seed=rows)
        together = session.run(feed)
        each = [session.run({name: array[at : at + 1] for name, array in feed.items()}) for at in range(rows)]
        for name, value in together.items():
            if rows_of(value) != rows or any(rows_of(one[name]) != 1 for one in each):
                return f"output {name!r} has not one row for each row of the input"
            if not agree(value, join([one[name] for one in each])):
                return f"output {name!r} of a row depends on the rows beside it"
    return ""
