"""Models of opset 1 to 6 are brought to one that the engine takes: same outputs, same shapes, same metadata, or one sentence."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from skerry.core.errors import RejectedError
from skerry.inference.batching.sync import SyncInference
from skerry.inference.engine.opening import open_session
from skerry.inference.graph.conversion import Comparison, convert
from skerry.inference.graph.prepare import prepare
from tests.inference.conftest import FLOAT

node = helper.make_node
ROWS = np.array([[-1, 0, 2], [3, -4, 5]], np.float32)
WEIGHTS = np.arange(9, dtype=np.float32).reshape(3, 3) / 4
BIAS = np.array([1, 2, 3], np.float32)
OPSETS = [1, 3, 5, 6]
BATCHES = ["N", 1, 2]


def old(
    path: Path,
    nodes: Sequence[Any],
    opset: int,
    shape: Sequence[int | str],
    out: Sequence[int | str],
    constants: dict[str, Any] | None = None,
) -> Path:
    """A model as exporters wrote them then: IR 3, its initializers among its inputs."""
    value = helper.make_tensor_value_info
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in (constants or {}).items()]
    inputs = [value("x", FLOAT, shape), *(value(each.name, each.data_type, each.dims) for each in tensors)]
    graph = helper.make_graph(list(nodes), "g", inputs, [value("y", FLOAT, out)], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=3)
    helper.set_model_props(model, {"labels": '["a", "b"]', "threshold": "0.5"})
    path.write_bytes(model.SerializeToString())
    return path


def converted(tmp_path: Path, *what: Any, **more: Any) -> tuple[Comparison, Path]:
    to = tmp_path / "new.onnx"
    return convert(old(tmp_path / "old.onnx", *what, **more), to), to


def shapes(path: Path) -> list[list[int | str]]:
    graph = onnx.load(path).graph
    known = {each.name for each in graph.initializer}
    values = [*(each for each in graph.input if each.name not in known), *graph.output]
    return [[dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in values]


def rows_for(batch: int | str) -> np.ndarray:
    return ROWS[:1] if batch == 1 else ROWS


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("batch", BATCHES)
def test_a_sum_that_broadcasts_is_converted(tmp_path: Path, opset: int, batch: int | str) -> None:
    nodes = [node("Relu", ["x"], ["r"]), node("Add", ["r", "b"], ["y"], broadcast=1)]
    found, to = converted(tmp_path, nodes, opset, [batch, 3], [batch, 3], {"b": BIAS})
    assert (found.opset, found.compared, found.largest) == (13, True, 0.0)
    assert shapes(to) == [[batch, 3], [batch, 3]], "an open dimension is open again"
    rows = rows_for(batch)
    assert np.array_equal(open_session(to).run({"x": rows})["y"], np.maximum(rows, 0) + BIAS)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("batch", BATCHES)
def test_a_dense_layer_is_converted(tmp_path: Path, opset: int, batch: int | str) -> None:
    nodes = [node("Gemm", ["x", "w", "b"], ["y"], broadcast=1)]
    found, to = converted(tmp_path, nodes, opset, [batch, 3], [batch, 3], {"w": WEIGHTS, "b": BIAS})
    assert found.compared == (opset == 6), "the reference evaluator knows it from opset 6 on"
    assert found.note.startswith("compared" if opset == 6 else "not compared: No implementation for operator 'Gemm'")
    rows = rows_for(batch)
    assert open_session(to).run({"x": rows})["y"] == pytest.approx(rows @ WEIGHTS + BIAS)


@pytest.mark.parametrize("opset", OPSETS)
def test_a_target_that_was_an_attribute_becomes_an_input(tmp_path: Path, opset: int) -> None:
    if opset < 5:
        nodes, constants = [node("Reshape", ["x"], ["y"], shape=[-1, 6])], {}
    else:
        nodes, constants = [node("Reshape", ["x", "to"], ["y"])], {"to": np.array([-1, 6])}
    found, to = converted(tmp_path, nodes, opset, ["N", 2, 3], ["N", 6], constants)
    assert found.compared == (opset >= 5)
    rows = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
    assert np.array_equal(open_session(to).run({"x": rows})["y"], rows.reshape(4, 6))


@pytest.mark.parametrize("opset", OPSETS)
def test_a_picture_network_of_its_time_is_converted(tmp_path: Path, opset: int) -> None:
    """Convolution, normalization with the inputs it consumed, dropout of an attribute, pooling."""
    consumed = {"consumed_inputs": [0, 0, 0, 1, 1]} if opset < 6 else {}
    nodes = [
        node("Conv", ["x", "k"], ["c"], kernel_shape=[1, 1]),
        node("BatchNormalization", ["c", "scale", "zero", "zero", "scale"], ["n"], is_test=1, **consumed),
        node("Dropout", ["n"], ["d"], is_test=1),
        node("MaxPool", ["d"], ["y"], kernel_shape=[2, 2], strides=[2, 2]),
    ]
    kernel = np.array([[1, 0], [0, 2]], np.float32).reshape(2, 2, 1, 1)
    constants = {"k": kernel, "scale": np.ones(2, np.float32), "zero": np.zeros(2, np.float32)}
    _, to = converted(tmp_path, nodes, opset, ["N", 2, 4, 4], ["N", 2, 2, 2], constants)
    rows = np.arange(96, dtype=np.float32).reshape(3, 2, 4, 4)
    wanted = rows.reshape(3, 2, 2, 2, 2, 2).max((3, 5)) * np.array([1, 2]).reshape(1, 2, 1, 1)
    assert open_session(to).run({"x": rows})["y"] == pytest.approx(wanted, rel=1e-4)


def test_metadata_goes_along_and_the_result_is_batched(tmp_path: Path) -> None:
    _, to = converted(tmp_path, [node("Mul", ["x", "b"], ["y"], broadcast=1)], 1, ["N", 3], ["N", 3], {"b": BIAS})
    assert prepare(to).opset == 13
    with SyncInference.load(to, cache=tmp_path / "cache") as model:
        assert model.metadata == {"labels": '["a", "b"]', "threshold": "0.5"}
        assert [each.name for each in model.inputs] == ["x"], "weights are no inputs"
        assert model.batching.kind == "rows"
        assert np.array_equal(model.infer({"x": ROWS})["y"], ROWS * BIAS)


def test_another_target_opset_is_kept(tmp_path: Path) -> None:
    path = old(tmp_path / "old.onnx", [node("Softmax", ["x"], ["y"])], 6, ["N", 3], ["N", 3])
    assert convert(path, tmp_path / "new.onnx", opset=17).opset == 17
    assert prepare(tmp_path / "new.onnx").opset == 17


@pytest.mark.parametrize("batch", BATCHES)
def test_a_broadcast_along_an_axis_is_never_converted_wrongly(tmp_path: Path, batch: int | str) -> None:
    """onnx' converter puts one axis too many in front of the bias: such a file must not get through."""
    nodes = [node("Add", ["x", "b"], ["y"], broadcast=1, axis=1)]
    with pytest.raises(RejectedError, match="cannot be converted to opset 13: ") as caught:
        converted(tmp_path, nodes, 6, [batch, 3, 4, 4], [batch, 3, 4, 4], {"b": BIAS})
    assert_sentence(caught.value, tmp_path / "old.onnx")
    assert not (tmp_path / "new.onnx").exists()


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("operator", ["Foo", "ATen", "GRUUnit"])
def test_an_operator_without_a_successor_is_one_sentence(tmp_path: Path, operator: str, batch: int | str) -> None:
    nodes = [node("Add", ["x", "b"], ["s"], broadcast=1), node(operator, ["s"], ["y"])]
    with pytest.raises(RejectedError, match="cannot be converted to opset 13: ") as caught:
        converted(tmp_path, nodes, 1, [batch, 3], [batch, 3], {"b": BIAS})
    assert_sentence(caught.value, tmp_path / "old.onnx")
    assert operator in str(caught.value)


def test_what_the_converter_asserts_is_told_without_its_source(tmp_path: Path) -> None:
    nodes = [node("Add", ["x", "b"], ["y"], broadcast=1)]
    with pytest.raises(RejectedError) as caught:
        converted(tmp_path, nodes, 6, ["N", 5], ["N", 5], {"b": BIAS})
    assert_sentence(caught.value, tmp_path / "old.onnx")


def assert_sentence(error: RejectedError, path: Path) -> None:
    text = str(error)
    assert error.where == str(path)
    for word in ("\n", "Assertion", ".cc", ".h:", "/project", "is a param", "Traceback"):
        assert word not in text
    assert text.count("cannot be converted") == 1
    assert len(text) < 400 + len(str(path))


@pytest.mark.parametrize("content", [b"", b"no model at all"])
def test_what_is_no_model_is_told_before_anything_is_converted(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "old.onnx"
    path.write_bytes(content)
    with pytest.raises(RejectedError, match="this is no ONNX file"):
        convert(path, tmp_path / "new.onnx")
    assert not (tmp_path / "new.onnx").exists()


def test_a_place_that_holds_something_is_replaced_whole_or_left_alone(tmp_path: Path) -> None:
    to = tmp_path / "new.onnx"
    to.write_bytes(b"before")
    with pytest.raises(RejectedError):
        convert(old(tmp_path / "bad.onnx", [node("Foo", ["x"], ["y"])], 5, ["N", 3], ["N", 3]), to)
    assert to.read_bytes() == b"before"
    convert(old(tmp_path / "good.onnx", [node("Tanh", ["x"], ["y"])], 5, ["N", 3], ["N", 3]), to)
    assert open_session(to).run({"x": ROWS})["y"] == pytest.approx(np.tanh(ROWS))
    assert {each.name for each in tmp_path.iterdir()} == {"bad.onnx", "good.onnx", "new.onnx"}


def test_large_numbers_are_compared_by_their_size(tmp_path: Path) -> None:
    """A rounding of float32 at 1e8 is larger than any fixed bound would be."""
    nodes = [node("Tanh", ["x"], ["t"]), node("MatMul", ["t", "w"], ["y"])]
    found, _ = converted(tmp_path, nodes, 5, ["N", 3], ["N", 3], {"w": WEIGHTS * np.float32(1e8) + 1e7})
    assert found.compared
    assert found.largest < 1e3


def test_not_a_number_is_equal_to_itself(tmp_path: Path) -> None:
    nodes = [node("Sub", ["x", "x"], ["zero"]), node("Div", ["zero", "zero"], ["y"])]
    found, to = converted(tmp_path, nodes, 6, ["N", 3], ["N", 3])
    assert (found.compared, found.largest) == (True, 0.0)
    assert np.isnan(open_session(to).run({"x": ROWS})["y"]).all()


def test_whole_numbers_and_truths_are_compared_too(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [node("Less", ["x", "b"], ["less"]), node("Not", ["less"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", FLOAT, ["N", 3]), helper.make_tensor_value_info("b", FLOAT, [3])],
        [helper.make_tensor_value_info("y", TensorProto.BOOL, ["N", 3])],
        [numpy_helper.from_array(BIAS, "b")],
    )
    path = tmp_path / "old.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 7)], ir_version=3)
    path.write_bytes(model.SerializeToString())
    assert convert(path, tmp_path / "new.onnx").compared
    assert np.array_equal(open_session(tmp_path / "new.onnx").run({"x": ROWS})["y"], ROWS >= BIAS)
