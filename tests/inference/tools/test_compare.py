"""How far two models are apart, and every check of a model file: each can pass, fail, and be skipped with a reason."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from skl2onnx import to_onnx
from sklearn.ensemble import RandomForestClassifier

from skerry.core.errors import RejectedError
from skerry.inference.engine.opening import open_session
from skerry.inference.tools.compare import Check, difference, main, record_outputs, verify_model
from tests.inference.conftest import FLOAT, STRING, MakeModel

node = helper.make_node


def states(checks: Sequence[Check]) -> dict[str, str]:
    return {check.name: check.state for check in checks}


def detail(checks: Sequence[Check], name: str) -> str:
    return next(check.detail for check in checks if check.name == name)


@pytest.fixture
def softmax(make_model: MakeModel) -> Path:
    return make_model([node("Softmax", ["x"], ["probs"], axis=1)], [("probs", FLOAT, ["N", 3])])


@pytest.fixture
def mixing(make_model: MakeModel) -> Path:
    """Rows of one batch change each other."""
    return make_model([node("Softmax", ["x"], ["probs"], axis=0)], [("probs", FLOAT, ["N", 3])])


def test_numbers_are_compared() -> None:
    found = difference({"y": np.array([[1.0, -4.0], [2.0, 3.0]])}, {"y": np.array([[1.5, -4.0], [2.0, 1.0]])}, 2)
    assert found.max_abs == 2.0
    assert found.mean_abs == 0.625
    assert found.largest == 4.0
    assert found.agreement == 0.5
    assert found.rows == 2


def test_labels_count_before_the_arg_max() -> None:
    one = {"label": np.array([1, 2, 3, 4]), "p": np.zeros((4, 2))}
    other = {"label": np.array([1, 2, 3, 0]), "p": np.zeros((4, 2))}
    found = difference(one, other, 4)
    assert found.agreement == 0.75
    assert found.max_abs == 0.0


def test_a_single_column_has_no_label() -> None:
    assert difference({"y": np.zeros((2, 1))}, {"y": np.ones((2, 1))}, 2).agreement is None


def test_what_is_finite_on_one_side_only_is_infinitely_far() -> None:
    one, other = np.array([np.nan, np.inf, 1.0]), np.array([np.nan, np.inf, np.nan])
    assert difference({"y": one}, {"y": one}, 3).max_abs == 0.0
    assert difference({"y": one}, {"y": other}, 3).max_abs == np.inf


def test_maps_are_compared_as_columns_and_text_as_labels() -> None:
    one = {"p": [{"a": 0.25, "b": 0.75}], "label": np.array(["b"], object)}
    other = {"p": [{"a": 0.5, "b": 0.5}], "label": np.array(["a"], object)}
    found = difference(one, other, 1)
    assert (found.max_abs, found.agreement) == (0.25, 0.0)


def test_other_names_or_shapes_cannot_be_compared() -> None:
    with pytest.raises(RejectedError, match="the outputs are y and z"):
        difference({"y": np.zeros(2)}, {"z": np.zeros(2)}, 2)
    with pytest.raises(RejectedError, match=r"output 'y' has the shapes \[2\] and \[3\]"):
        difference({"y": np.zeros(2)}, {"y": np.zeros(3)}, 2)


def test_no_rows_are_no_difference() -> None:
    assert difference({"y": np.zeros((0, 2))}, {"y": np.zeros((0, 2))}, 0).max_abs == 0.0


def test_a_good_model_passes_all(softmax: Path) -> None:
    digest = hashlib.sha256(softmax.read_bytes()).hexdigest()
    checks = verify_model(softmax, digest=f"sha256:{digest.upper()}")
    assert states(checks) == {
        "digest": "ok",
        "onnx.checker": "ok",
        "loads": "ok",
        "runs": "ok",
        "batched = one by one": "ok",
        "reference evaluator": "ok",
    }
    assert detail(checks, "digest") == f"sha256 {digest}"
    assert detail(checks, "onnx.checker") == "IR version 8, opset ai.onnx 17, ai.onnx.ml 3, 1 nodes"
    assert detail(checks, "loads") == "x float32 [N, 3]; onnxruntime, batch symbolic"
    assert detail(checks, "runs") == "probs [5, 3]"


def test_what_sklearn_exports_passes_all(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    forest = RandomForestClassifier(5, random_state=0).fit(rows, rows[:, 0] > 0)
    path = tmp_path / "forest.onnx"
    path.write_bytes(to_onnx(forest, rows[:1], options={"zipmap": False}).SerializeToString())
    assert set(states(verify_model(path, data={"X": rows})).values()) == {"ok"}


def test_another_digest_fails(softmax: Path) -> None:
    checks = verify_model(softmax, digest="00", reference=False)
    assert states(checks)["digest"] == "failed"
    assert states(checks)["runs"] == "ok"
    assert "expected 00" in detail(checks, "digest")


def test_rows_that_change_each_other_fail(mixing: Path) -> None:
    checks = verify_model(mixing, reference=False)
    assert states(checks)["batched = one by one"] == "failed"
    assert "row 0 differs when it runs alone; its rows cannot be batched" in detail(checks, "batched = one by one")


def test_an_output_without_rows_fails(make_model: MakeModel) -> None:
    path = make_model([node("ReduceSum", ["x"], ["y"], keepdims=1)], [("y", FLOAT, [1, 1])])
    assert "output 'y' has 1 rows for 5" in detail(verify_model(path, reference=False), "batched = one by one")


def test_a_fixed_batch_is_not_compared_one_by_one(make_model: MakeModel) -> None:
    path = make_model([node("Softmax", ["x"], ["probs"], axis=0)], [("probs", FLOAT, [4, 3])], shape=(4, 3))
    checks = verify_model(path, reference=False)
    assert states(checks)["batched = one by one"] == "skipped"
    assert detail(checks, "batched = one by one") == "the batch is fixed at 4"


def test_not_a_number_fails(make_model: MakeModel) -> None:
    path = make_model([node("Sub", ["x", "x"], ["z"]), node("Div", ["z", "z"], ["y"])], [("y", FLOAT, ["N", 3])])
    checks = verify_model(path, reference=False)
    assert states(checks)["runs"] == "failed"
    assert "output 'y' is not finite" in detail(checks, "runs")
    assert "reference evaluator" not in states(checks)


def test_what_the_reference_evaluator_lacks_is_skipped(make_model: MakeModel, tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("FastGelu", ["x"], ["y"], domain="com.microsoft")],
        "g",
        [helper.make_tensor_value_info("x", FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("y", FLOAT, ["N", 3])],
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), tmp_path / "m.onnx")
    checks = verify_model(tmp_path / "m.onnx")
    assert states(checks)["runs"] == "ok"
    assert states(checks)["reference evaluator"] == "skipped"
    assert "it cannot run this model" in detail(checks, "reference evaluator")


def test_the_reference_evaluator_is_not_believed_on_old_opsets(tmp_path: Path) -> None:
    """Before opset 13 a softmax goes over all axes from the first on."""
    graph = helper.make_graph(
        [node("Softmax", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", FLOAT, ["N", 3, 1])],
        [helper.make_tensor_value_info("y", FLOAT, ["N", 3, 1])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9)], ir_version=4), tmp_path / "m.onnx")
    checks = verify_model(tmp_path / "m.onnx")
    assert states(checks)["reference evaluator"] == "skipped"
    assert "it follows opset 13 and newer, and the model has 9" in detail(checks, "reference evaluator")


@pytest.mark.parametrize(("content", "failed"), [(None, "does not exist"), (b"no model", "onnx.checker refuses it"), (b"", "")])
def test_a_bad_file_fails_in_sentences(tmp_path: Path, content: bytes | None, failed: str) -> None:
    path = tmp_path / "m.onnx"
    if content is not None:
        path.write_bytes(content)
    checks = verify_model(path, reference=False)
    assert states(checks)["loads"] == "failed"
    assert "runs" not in states(checks)
    assert any(failed in check.detail for check in checks if check.state == "failed")
    assert all("\n" not in check.detail for check in checks)


def test_recorded_outputs_are_expected(softmax: Path, mixing: Path, tmp_path: Path) -> None:
    file = tmp_path / "r.npz"
    assert record_outputs(softmax, file, rows=7) == 7
    assert states(verify_model(softmax, expect=file, reference=False))["expected outputs"] == "ok"
    checks = verify_model(mixing, expect=file, reference=False)
    assert states(checks)["expected outputs"] == "failed"
    assert "output 'probs' differs by up to" in detail(checks, "expected outputs")


def test_text_is_recorded_too(make_model: MakeModel, tmp_path: Path) -> None:
    path = make_model([node("Identity", ["x"], ["y"])], [("y", STRING, ["N", 1])], shape=("N", 1), dtype=STRING)
    file = tmp_path / "r.npz"
    rows = {"x": np.array([["disk full"], ["all well"]], object)}
    assert record_outputs(path, file, rows) == 2
    assert states(verify_model(path, expect=file, data=rows, reference=False)) == dict.fromkeys(
        ["digest", "onnx.checker", "loads", "runs", "batched = one by one", "expected outputs"], "ok"
    )
    np.savez(file, x=np.array([["a"]]), y=np.array([["b"]]))
    assert "output 'y' differs" in detail(verify_model(path, expect=file, reference=False), "expected outputs")


def test_a_fixed_batch_answers_any_number_of_rows(make_model: MakeModel, tmp_path: Path) -> None:
    path = make_model([node("Abs", ["x"], ["y"])], [("y", FLOAT, [4, 3])], shape=(4, 3))
    rows = -np.arange(18, dtype=np.float32).reshape(6, 3)
    assert record_outputs(path, tmp_path / "r.npz", {"x": rows}) == 6
    with np.load(tmp_path / "r.npz") as stored:
        assert stored["output:y"].tolist() == np.abs(rows).tolist()


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"y": np.zeros((1, 3))}, "there is no array 'input:x'"),
        ({"x": np.zeros((1, 3), np.float32)}, "there is no output among its arrays; name one output:probs"),
        ({"x": np.zeros((1, 3)), "probs": np.zeros((1, 3))}, "expected dtype float32, got float64"),
        ({"x": np.zeros((1, 3), np.float32), "probs": np.zeros((2, 3))}, "has the shapes [2, 3] and [1, 3]"),
    ],
)
def test_an_expectation_that_does_not_fit_says_why(softmax: Path, tmp_path: Path, arrays: dict[str, np.ndarray], says: str) -> None:
    np.savez(tmp_path / "r.npz", **arrays)
    checks = verify_model(softmax, expect=tmp_path / "r.npz", reference=False)
    assert states(checks)["expected outputs"] == "failed"
    assert says in detail(checks, "expected outputs")


def test_a_file_that_is_no_npz(softmax: Path, tmp_path: Path) -> None:
    (tmp_path / "r.npz").write_text("nonsense")
    assert "cannot be read" in detail(verify_model(softmax, expect=tmp_path / "r.npz", reference=False), "expected outputs")
    with pytest.raises(RejectedError, match="it cannot be written"):
        record_outputs(softmax, tmp_path / "none" / "r.npz")


def test_the_reference_evaluator_is_called_with_files(softmax: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = np.array([[0.0, 1.0, 2.0]], np.float32)
    np.savez(tmp_path / "in.npz", x=rows)
    assert main(str(softmax), str(tmp_path / "in.npz"), str(tmp_path / "out.npz")) == 0
    session = open_session(softmax)
    with np.load(tmp_path / "out.npz") as stored:
        assert stored["probs"] == pytest.approx(session.run({"x": rows})["probs"], rel=1e-5)
    session.close()
    assert main(str(tmp_path / "none.onnx"), str(tmp_path / "in.npz"), str(tmp_path / "out.npz")) == 1
    assert capsys.readouterr().out
