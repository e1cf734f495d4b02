"""A model of an opset that the engine takes no more, brought to a newer one, and held to what it gave before.

Source: onnx.version_converter; the old model is run by onnx' own reference evaluator. onnx is imported late.
"""

import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from skerry.core.errors import RejectedError, SkerryError
from skerry.inference.engine.opening import open_session
from skerry.inference.engine.samples import OPEN_SIZES, agree, sample_feed
from skerry.inference.engine.seam import Session
from skerry.inference.graph.prepare import dims_of, read_model, write_whole


class Comparison(msgspec.Struct, frozen=True):
    """What became of a conversion.

    Attributes:
        opset: of the new file. compared: whether the old model could be run at all, by onnx' own reference evaluator.
        largest: the largest absolute difference of an output. note: what was compared, or why nothing was.
    """

    opset: int
    compared: bool
    largest: float
    note: str


def convert(path: Path, to: Path, opset: int = 13) -> Comparison:
    """Write the model with another opset, for an engine that takes its own no more, and compare outputs.

    The old model is run where the reference evaluator knows its operators.
    Raises `RejectedError`: it cannot be converted, the new one does not load, or its outputs differ; then nothing is written.
    """
    model = read_model(path)
    told = f"the model cannot be converted to opset {opset}"
    try:
        made = _converted(model, opset)
        ranks = _ranks(made)
        for each in (made, model):  # the evaluator too takes slopes as they are since opset 7
            _place_slopes(each, ranks)
        # where the converter loses a type it may have lost its way too: then only a comparison shows that the result is right
        lost = [each.name for each in made.graph.value_info if each.type.tensor_type.elem_type == 0]
        del made.graph.value_info[:]  # of the graph before, or of a batch of 1
        made.ir_version = max(made.ir_version, 4)  # from 4 on initializers need not be inputs
        known = {each.key for each in made.metadata_props}
        made.metadata_props.extend(prop for prop in model.metadata_props if prop.key not in known)
        content = made.SerializeToString()
        session = open_session(content)
    except Exception as error:
        reason = error.message if isinstance(error, SkerryError) else _why(error)
        raise RejectedError(f"{told}: {reason}", where=str(path), mend="export it again with a newer opset") from error
    try:
        same, compared, largest, note = _compare(model, session)
    finally:
        session.close()
    if not same:
        reason = note if largest == float("inf") else f"its outputs differ by {largest:g}"
        what = "gives other outputs" if compared else "does not run as before"
        raise RejectedError(f"converted to opset {opset} it {what}: {reason}", where=str(path), mend="export it again")
    if lost and not compared:
        raise RejectedError(f"{told}: tensor {lost[0]!r} lost its type", where=str(path), mend="export it again with a newer opset")
    write_whole(to, content)
    return Comparison(opset, compared, largest, note)


def _converted(model: Any, opset: int) -> Any:
    """The converter needs a known shape wherever an operator broadcasts, and no open dimension in it.

    So where it fails at first, open dimensions are 1 for as long as it works, and the shapes in between are filled in.
    """
    from onnx import version_converter

    try:
        return version_converter.convert_version(model, opset)
    except Exception:  # noqa: BLE001 - it has one kind of error for all; what it says the second time is told
        made = version_converter.convert_version(_shaped(model), opset)
    kinds = {value.name: value.type for value in [*model.graph.input, *model.graph.output]}
    for value in [*made.graph.input, *made.graph.output]:
        value.type.CopyFrom(kinds[value.name])
    return made


def _ranks(made: Any) -> dict[str, int]:
    """Number of dimensions of each tensor that the graph says it of; asked for where slopes are to be placed."""
    from onnx import shape_inference

    if not any(node.op_type == "PRelu" for node in made.graph.node):
        return {}
    known = shape_inference.infer_shapes(made).graph
    return {value.name: len(dims_of(value)) for value in [*known.value_info, *known.input, *known.output]}


def _place_slopes(model: Any, ranks: dict[str, int]) -> None:
    """Before opset 7 a PRelu had a slope a channel, since then slopes broadcast from the right; the converter leaves them."""
    from onnx import numpy_helper

    slopes = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type == "PRelu" and node.input[1] in slopes]
    for number, node in enumerate(nodes):
        values = numpy_helper.to_array(slopes[node.input[1]])
        rank = ranks.get(node.input[0], 0)
        if values.ndim == 1 and values.size > 1 and rank > 2:
            name = f"{node.input[1]}_by_channel_{number}"
            placed = values.reshape(-1, *[1] * (rank - 2))
            model.graph.initializer.append(numpy_helper.from_array(placed, name))
            node.input[1] = name


def _shaped(model: Any) -> Any:
    """A copy with a batch of 1 and the shapes of all tensors that can be known.

    Operators before opset 7 do not say the shape of what they give; those of opset 7 do, and mean the same where they load.
    """
    from onnx import shape_inference

    closed = type(model)()
    closed.CopyFrom(model)
    del closed.graph.value_info[:]
    for value in [*closed.graph.input, *closed.graph.output]:
        for dim in dims_of(value):
            if not dim.HasField("dim_value"):
                dim.dim_value = 1
    newer = type(model)()
    newer.CopyFrom(closed)
    for each in newer.opset_import:
        each.version = max(each.version, 7) if each.domain in ("", "ai.onnx") else each.version
    closed.graph.value_info.extend(shape_inference.infer_shapes(newer).graph.value_info)
    return closed


def _why(error: Exception) -> str:
    """The converter's own reason, without its source path and the C++ of an assertion."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = re.sub(r"^\S+\.(?:cc|h):\d+: \w+: (?:Assertion `.*?` failed: )?", "", text)
    return text[:200].rstrip(" .")


def _compare(model: Any, session: Session) -> tuple[bool, bool, float, str]:
    """Whether nothing speaks against the new model, whether the old one could be run, the largest difference, and what was done."""
    from onnx.reference import ReferenceEvaluator

    reason, names = "no made-up input runs", [value.name for value in session.outputs]
    ran = False  # the old model: one that runs must still do so
    for size in OPEN_SIZES:
        try:
            feed = sample_feed(session.inputs, 2, size)
            with np.errstate(all="ignore"):
                expected = ReferenceEvaluator(model).run(names, dict(feed))
            ran = True
            found = session.run(feed)
        except Exception as error:  # noqa: BLE001 - operators without a reference, or inputs that do not fit
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            continue
        largest = 0.0
        for one, other in zip(found.values(), expected, strict=True):
            if not isinstance(one, np.ndarray):
                if not agree(one, other):
                    return False, True, float("inf"), "values differ"
                continue
            wanted = np.asarray(other)
            if one.shape != wanted.shape:
                return False, True, float("inf"), "shapes differ"
            if not agree(one, wanted.astype(one.dtype)):
                return False, True, _difference(one, wanted), "values differ"
            largest = max(largest, _difference(one, wanted))
        return True, True, largest, "compared with the reference evaluator"
    return not ran, False, float("inf") if ran else 0.0, f"not compared: {reason[:120]}"


def _difference(one: NDArray[Any], other: NDArray[Any]) -> float:
    """The largest absolute difference; infinite where only one is not a number, or where there are no numbers at all."""
    if one.dtype.kind not in "fiu":
        return 0.0 if np.array_equal(one, other) else float("inf")
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.abs(one.astype(np.float64) - other.astype(np.float64))
        equal = (one == other) | (np.isnan(one) & np.isnan(other))  # infinity and NaN are equal to themselves here
    return float(np.max(np.where(equal, 0.0, np.where(np.isnan(apart), np.inf, apart)), initial=0.0))
