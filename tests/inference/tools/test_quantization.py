"""Optimized and int8 models: near the original and kept, or refused and gone. No figure of time decides a test."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from skl2onnx import to_onnx
from sklearn.ensemble import RandomForestClassifier

from skerry.core.errors import RejectedError
from skerry.inference.engine.opening import open_session
from skerry.inference.engine.seam import EngineOptions
from skerry.inference.tools.quantization import optimize_model, quantize_model, quantized_table, saturates, time_by_turns
from tests.inference.conftest import FLOAT, MakeModel

node = helper.make_node
WIDE = 64
RANDOM = np.random.default_rng(1)
ROWS = {"x": RANDOM.normal(size=(60, WIDE)).astype(np.float32)}


def net(make_model: MakeModel, batch: int | str = "N") -> Path:
    """Two dense layers and a softmax, with a dropped-out identity that an optimizer takes away."""
    weights = [RANDOM.normal(0, WIDE**-0.5, shape).astype(np.float32) for shape in ((WIDE, WIDE), (WIDE, 3))]
    return make_model(
        [
            node("Identity", ["x"], ["i"]),
            node("MatMul", ["i", "w0"], ["a"]),
            node("Relu", ["a"], ["b"]),
            node("MatMul", ["b", "w1"], ["c"]),
            node("Softmax", ["c"], ["probs"], axis=1),
        ],
        [("probs", FLOAT, [batch, 3])],
        shape=(batch, WIDE),
        constants=[numpy_helper.from_array(weight, f"w{at}") for at, weight in enumerate(weights)],
        metadata={"labels": '["a", "b", "c"]'},
    )


@pytest.mark.parametrize("static", [False, True])
def test_an_int8_model_is_near_the_original(make_model: MakeModel, tmp_path: Path, static: bool) -> None:
    path, to = net(make_model), tmp_path / "int8.onnx"
    found = quantize_model(path, to, static=static, data=ROWS, min_speedup=0.0, seconds=0.0)
    assert (found.refused, found.file, found.inputs) == ("", str(to), "recorded")
    assert found.kind == ("static" if static else "dynamic")
    assert found.difference.rows == 30  # the half that did not calibrate
    assert 0 < found.relative < 0.05
    assert found.difference.agreement is not None
    assert found.difference.agreement > 0.9
    assert (found.size_before, found.size_after) == (path.stat().st_size, to.stat().st_size)
    weights = {each.data_type for each in onnx.load(to).graph.initializer}
    assert onnx.TensorProto.INT8 in weights
    session, original = open_session(to), open_session(path)
    assert session.run(ROWS)["probs"] == pytest.approx(original.run(ROWS)["probs"], abs=0.1)
    assert session.metadata["labels"] == original.metadata["labels"]
    session.close()
    original.close()
    assert set(quantized_table(found)) == {"size, KiB", "p50, ms", "p99, ms", "rows/s"}


@pytest.mark.parametrize(
    ("bound", "speedup", "says"),
    [(0.0, 0.0, "of the largest on average, the bound is 0.00%"), (0.5, 1e9, "at least 1000000000.00 is wanted")],
)
def test_what_misses_a_bound_is_not_kept(make_model: MakeModel, tmp_path: Path, bound: float, speedup: float, says: str) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    found = quantize_model(net(make_model), folder / "q.onnx", data=ROWS, bound=bound, min_speedup=speedup, seconds=0.0)
    assert says in found.refused
    assert found.file == ""
    assert list(folder.iterdir()) == []


def test_a_refusal_leaves_the_file_that_was_there(make_model: MakeModel, tmp_path: Path) -> None:
    to = tmp_path / "q.onnx"
    to.write_bytes(b"older")
    assert quantize_model(net(make_model), to, data=ROWS, bound=0.0, seconds=0.0).refused
    assert to.read_bytes() == b"older"


def test_without_data_rows_are_made_up(make_model: MakeModel, tmp_path: Path) -> None:
    found = quantize_model(net(make_model), tmp_path / "q.onnx", min_speedup=0.0, seconds=0.0)
    assert (found.inputs, found.difference.rows) == ("random", 128)


def test_a_fixed_batch_is_fed_as_it_is(make_model: MakeModel, tmp_path: Path) -> None:
    found = quantize_model(net(make_model, 4), tmp_path / "q.onnx", static=True, data=ROWS, min_speedup=0.0, seconds=0.0)
    assert (found.refused, found.difference.rows) == ("", 30)


def test_a_forest_has_nothing_to_quantize(tmp_path: Path) -> None:
    rows = RANDOM.normal(size=(60, 4)).astype(np.float32)
    forest = RandomForestClassifier(3, random_state=0).fit(rows, rows[:, 0] > 0)
    path = tmp_path / "forest.onnx"
    path.write_bytes(to_onnx(forest, rows[:1]).SerializeToString())
    with pytest.raises(RejectedError, match=r"nothing to quantize: its operators are .*TreeEnsembleClassifier"):
        quantize_model(path, tmp_path / "q.onnx", data={"X": rows}, seconds=0.0)
    assert not (tmp_path / "q.onnx").exists()


def test_a_model_that_does_not_load(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"no model")
    for build in (quantize_model, optimize_model):
        with pytest.raises(RejectedError, match=r"m\.onnx"):
            build(tmp_path / "m.onnx", tmp_path / "out.onnx")
    assert [each.name for each in tmp_path.iterdir()] == ["m.onnx"]


def test_a_model_is_not_written_over_itself(make_model: MakeModel, tmp_path: Path) -> None:
    path = net(make_model)
    for build in (quantize_model, optimize_model):
        with pytest.raises(RejectedError, match="overwrite the model itself"):
            build(path, path)
        with pytest.raises(RejectedError, match="the directory does not exist"):
            build(path, tmp_path / "none" / "q.onnx")


@pytest.mark.parametrize("level", ["all", "basic"])
def test_an_optimized_graph_answers_the_same(make_model: MakeModel, tmp_path: Path, level: str) -> None:
    path, to = net(make_model), tmp_path / "o.onnx"
    found = optimize_model(path, to, level, seconds=0.0)
    assert (found.file, found.portable) == (str(to), level != "all")
    assert found.nodes_after < found.nodes_before == 5
    assert found.difference.max_abs < 1e-5
    assert found.before.load_ms > 0
    assert found.after.timing.runs >= 5
    one, other = open_session(path), open_session(to, EngineOptions(optimize="none"))
    assert other.run(ROWS)["probs"] == pytest.approx(one.run(ROWS)["probs"], rel=1e-4)
    assert other.metadata == one.metadata
    one.close()
    other.close()


def test_an_initializer_that_is_an_input_too_is_not_left_behind(make_model: MakeModel, tmp_path: Path) -> None:
    """As IR version 3 has it."""
    model = onnx.load(net(make_model))
    for each in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(each.name, FLOAT, list(each.dims)))
    model.ir_version = 3
    path = tmp_path / "old.onnx"
    onnx.save(model, path)
    before = sorted(tmp_path.iterdir())
    assert optimize_model(path, tmp_path / "o.onnx", "basic", seconds=0.0).difference.max_abs < 1e-5
    assert [each.name for each in onnx.load(tmp_path / "o.onnx").graph.input] == ["x"]
    assert quantize_model(path, tmp_path / "q.onnx", data=ROWS, min_speedup=0.0, seconds=0.0).refused == ""
    assert sorted(tmp_path.iterdir()) == sorted([*before, tmp_path / "o.onnx", tmp_path / "q.onnx"])


def test_a_level_that_there_is_not(make_model: MakeModel, tmp_path: Path) -> None:
    with pytest.raises(RejectedError, match="'most' is no level; allowed: all, extended, basic"):
        optimize_model(net(make_model), tmp_path / "o.onnx", "most")


def test_both_are_timed_as_often(make_model: MakeModel) -> None:
    one, other = open_session(net(make_model)), open_session(net(make_model))
    first, second = time_by_turns(one, other, {"x": ROWS["x"][:4]}, 0.0)
    assert first.runs == second.runs == 10
    one.close()
    other.close()


def test_this_cpu_has_an_answer() -> None:
    flags = Path("/proc/cpuinfo").read_text()
    assert saturates() is ("_vnni" not in flags) or "aarch64" in flags or "ARM" in flags
