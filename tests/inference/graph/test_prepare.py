"""Fixed batches are freed where the graph allows, and only believed when rows together give what rows alone give."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from skerry.core.errors import RejectedError
from skerry.inference.engine.opening import open_session
from skerry.inference.graph.conversion import convert
from skerry.inference.graph.prepare import prepare
from tests.inference.conftest import FLOAT, STRING, MakeModel

node = helper.make_node


def ints(name: str, *values: int) -> Any:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def test_an_open_batch_is_left_alone(make_model: MakeModel, tmp_path: Path) -> None:
    path = make_model([node("Relu", ["x"], ["y"])], [("y", FLOAT, ["N", 3])])
    prepared = prepare(path, tmp_path / "cache")
    assert (prepared.path, prepared.batch, prepared.reason, prepared.opset, prepared.ir) == (path, "symbolic", "", 17, 8)


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("cached", [True, False])
def test_a_fixed_batch_is_freed(make_model: MakeModel, tmp_path: Path, batch: int, cached: bool) -> None:
    path = make_model([node("Relu", ["x"], ["y"])], [("y", FLOAT, [batch, 3])], shape=[batch, 3])
    prepared = prepare(path, tmp_path / "cache" if cached else None)
    assert (prepared.batch, prepared.reason) == ("freed", "fixed batch made symbolic, verified with 2 and 3 rows")
    session = open_session(prepared.path)
    assert session.inputs[0].shape == (None, 3)
    rows = np.arange(15, dtype=np.float32).reshape(5, 3) - 7
    assert np.array_equal(session.run({"x": rows})["y"], np.maximum(rows, 0))


@pytest.mark.parametrize("where", ["initializer", "constant", "value_ints"])
def test_a_batch_written_in_a_reshape_is_freed_too(make_model: MakeModel, tmp_path: Path, where: str) -> None:
    nodes = [node("Reshape", ["x", "to"], ["flat"]), node("Relu", ["flat"], ["y"])]
    target = ints("to", 1, 6)
    if where == "constant":
        nodes.insert(0, node("Constant", [], ["to"], value=target))
    elif where == "value_ints":
        nodes.insert(0, node("Constant", [], ["to"], value_ints=[1, 6]))
    constants = [target] if where == "initializer" else []
    path = make_model(nodes, [("y", FLOAT, [1, 6])], shape=[1, 2, 3], constants=constants)
    prepared = prepare(path, tmp_path / "cache")
    assert prepared.batch == "freed"
    rows = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
    assert np.array_equal(open_session(prepared.path).run({"x": rows})["y"], rows.reshape(4, 6))


@pytest.mark.parametrize(
    ("nodes", "outputs", "constants", "told"),
    [
        ([node("Softmax", ["x"], ["y"], axis=0)], [("y", FLOAT, [1, 3])], [], "depends on the rows beside it"),
        ([node("ReduceSum", ["x"], ["y"], keepdims=0)], [("y", FLOAT, [])], [], "has not one row for each row of the input"),
        ([node("Transpose", ["x"], ["y"])], [("y", FLOAT, [3, 1])], [], "has not one row"),
        ([node("Expand", ["w", "to"], ["e"]), node("MatMul", ["x", "e"], ["m"]), node("Reshape", ["m", "flat"], ["r"]),
          node("Gather", ["r", "at"], ["y"])], [("y", FLOAT, [1, 3])],
         [numpy_helper.from_array(np.ones((3, 3), np.float32), "w"), ints("to", 3, 3), ints("flat", 3),
          numpy_helper.from_array(np.array([[0, 1, 2]]), "at")], ""),
    ],
)  # fmt: skip
def test_what_cannot_be_freed_stays_and_says_why(
    make_model: MakeModel, tmp_path: Path, nodes: list[Any], outputs: list[Any], constants: list[Any], told: str
) -> None:
    path = make_model(nodes, outputs, shape=[1, 3], constants=constants)
    prepared = prepare(path, tmp_path / "cache")
    assert (prepared.path, prepared.batch) == (path, "fixed")
    assert told in prepared.reason
    assert prepared.reason
    assert not list(tmp_path.glob("cache/*.freed.onnx"))


def test_inputs_without_a_batch_say_so(make_model: MakeModel) -> None:
    single = make_model([node("Relu", ["x"], ["y"])], [("y", FLOAT, [])], shape=[])
    assert (prepare(single).batch, prepare(single).reason) == ("none", "input 'x' has no dimensions")


def test_the_verdict_is_kept(make_model: MakeModel, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    path = make_model([node("Relu", ["x"], ["y"])], [("y", FLOAT, [1, 3])], shape=[1, 3])
    first = prepare(path, cache)
    verdict = next(cache.glob("*.prepared.json"))
    written = verdict.stat().st_mtime_ns
    assert prepare(path, cache) == first
    assert verdict.stat().st_mtime_ns == written
    for broken in (b"", b"{}", b"[99, true, {}]"):
        verdict.write_bytes(broken)
        assert prepare(path, cache) == first
    first.path.unlink()
    assert prepare(path, cache) == first
    assert first.path.is_file()
    moved = tmp_path / "moved.onnx"
    symbolic = make_model([node("Relu", ["x"], ["y"])], [("y", FLOAT, ["N", 3])])
    prepare(symbolic, cache)
    symbolic.rename(moved)
    assert prepare(moved, cache).path == moved


def test_what_a_file_claims_is_refused_before_anything_is_allocated(make_model: MakeModel, tmp_path: Path) -> None:
    lying = TensorProto(name="w", data_type=FLOAT, dims=[2_500_000_000])
    nodes = [node("Add", ["x", "w"], ["y"])]
    with pytest.raises(RejectedError, match=r"tensor 'w' claims 2,500,000,000 numbers, the file has \d+ bytes; export it again"):
        prepare(make_model(nodes, [("y", FLOAT, ["N"])], constants=[lying]))
    filled = [node("ConstantOfShape", ["to"], ["w"]), *nodes]
    with pytest.raises(RejectedError, match=r"ConstantOfShape 'w' \[2500000000\] takes more than 2 GiB"):
        prepare(make_model(filled, [("y", FLOAT, ["N"])], constants=[ints("to", 2_500_000_000)]))
    with pytest.raises(RejectedError, match=r"input 'x' .* takes more than 2 GiB"):
        prepare(make_model([node("Relu", ["x"], ["y"])], [("y", FLOAT, ["N", 2_500_000_000])], shape=["N", 2_500_000_000]))


@pytest.mark.parametrize("content", [b"", b"not onnx", b"\x08\x08" * 50])
def test_what_is_no_model_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(RejectedError, match="the model cannot be loaded: this is no ONNX file"):
        prepare(path, tmp_path / "cache")
    with pytest.raises(RejectedError, match="does not exist"):
        prepare(tmp_path / "gone.onnx")


def old(path: Path, nodes: list[Any], opset: int = 5) -> Path:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "g", [value("x", FLOAT, ["N", 3])], [value("y", FLOAT, ["N", 3])])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=3)
    helper.set_model_props(made, {"labels": '["a"]'})
    path.write_bytes(made.SerializeToString())
    return path


def test_an_old_opset_is_converted_and_compared(tmp_path: Path) -> None:
    path, to = old(tmp_path / "old.onnx", [node("Relu", ["x"], ["r"]), node("Tanh", ["r"], ["y"])]), tmp_path / "new.onnx"
    with pytest.raises(RejectedError, match="convert it to opset 13"):
        open_session(path)
    found = convert(path, to)
    assert (found.opset, found.compared) == (13, True)
    assert found.largest < 1e-6
    session = open_session(to)
    assert session.metadata == {"labels": '["a"]'}
    rows = np.array([[-1, 0, 0.5]], np.float32)
    assert session.run({"x": rows})["y"] == pytest.approx(np.tanh(np.maximum(rows, 0)))
    assert prepare(to).opset == 13


def test_what_cannot_be_converted_leaves_no_file(tmp_path: Path) -> None:
    path, to = old(tmp_path / "old.onnx", [node("Foo", ["x"], ["y"])]), tmp_path / "new.onnx"
    with pytest.raises(RejectedError, match=r"cannot be converted to opset 13|cannot be loaded") as caught:
        convert(path, to)
    assert "\n" not in str(caught.value)
    assert not to.exists()


def test_strings_are_freed_like_numbers(make_model: MakeModel, tmp_path: Path) -> None:
    path = make_model([node("Identity", ["x"], ["y"])], [("y", STRING, [1, 3])], shape=[1, 3], dtype=STRING)
    prepared = prepare(path, tmp_path)
    assert prepared.batch == "freed"
    assert onnx.load(prepared.path).graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
