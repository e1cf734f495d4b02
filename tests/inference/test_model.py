"""What a model's outputs mean: score and label by the documented rule, rows of any number, and every misfit in one sentence."""

import json
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from sklearn.ensemble import IsolationForest, RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from skerry.core.errors import RejectedError
from skerry.inference import load_model
from tests.inference.conftest import FLOAT, INT64, STRING, MakeModel

node = helper.make_node
ROWS = np.array([[1.0, 2.0, 3.0], [9.0, 2.0, 1.0], [0.0, 0.5, 0.0]])
SOFTMAX = node("Softmax", ["x"], ["probs"], axis=1)


def softmax(rows: np.ndarray) -> np.ndarray:
    powers = np.exp(rows - rows.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def argmax(name: str, of: str = "x") -> object:
    return node("ArgMax", [of], [name], axis=1, keepdims=0)


def test_the_output_named_score_is_the_score(make_model: MakeModel) -> None:
    total = node("ReduceSum", ["x"], ["score"], keepdims=0, noop_with_empty_axes=0)
    axes = numpy_helper.from_array(np.array([1]), "axes")
    total.input.append("axes")
    path = make_model(
        [SOFTMAX, total, argmax("label")],
        [("probs", FLOAT, ["N", 3]), ("label", INT64, ["N"]), ("score", FLOAT, ["N"])],
        constants=[axes],
    )
    scores, labels = load_model(path, "m").score(ROWS)
    assert scores.tolist() == [6.0, 12.0, 0.5]
    assert scores.dtype == np.float64
    assert list(labels) == [2, 0, 1]


def test_else_the_probability_of_the_last_class(make_model: MakeModel) -> None:
    model = load_model(make_model([argmax("label"), SOFTMAX], [("label", INT64, ["N"]), ("probs", FLOAT, ["N", 3])]), "m")
    scores, labels = model.score(ROWS)
    assert scores == pytest.approx(softmax(ROWS)[:, -1], rel=1e-6)
    assert list(labels) == [2, 0, 1]


def test_a_single_wide_output_is_probabilities_and_its_arg_max_the_label(make_model: MakeModel) -> None:
    model = load_model(make_model([node("Softmax", ["x"], ["out"], axis=1)], [("out", FLOAT, ["N", 3])]), "m")
    scores, labels = model.score(ROWS)
    assert scores == pytest.approx(softmax(ROWS)[:, -1], rel=1e-6)
    assert list(labels) == [2, 0, 1]


def test_the_probability_of_one_class_beside_a_label_is_the_score(make_model: MakeModel) -> None:
    axes = numpy_helper.from_array(np.array([1]), "axes")
    nodes = [argmax("label"), node("ReduceMean", ["x"], ["mean"], axes=[1], keepdims=1), node("Sigmoid", ["mean"], ["probability"])]
    model = load_model(make_model(nodes, [("label", INT64, ["N"]), ("probability", FLOAT, ["N", 1])], constants=[axes]), "m")
    assert model.score(ROWS)[0] == pytest.approx(1 / (1 + np.exp(-ROWS.mean(axis=1))), rel=1e-6)


def test_else_the_first_element_of_the_first_output(make_model: MakeModel) -> None:
    nodes = [node("Neg", ["x"], ["first"]), node("Abs", ["x"], ["second"])]
    scores, labels = load_model(make_model(nodes, [("first", FLOAT, ["N", 3]), ("second", FLOAT, ["N", 3])]), "m").score(ROWS)
    assert scores.tolist() == [-1.0, -9.0, 0.0]
    assert list(labels) == [None, None, None]


def test_metadata_names_the_classes(make_model: MakeModel) -> None:
    outputs = [("label", INT64, ["N"]), ("probs", FLOAT, ["N", 3])]
    named = make_model([argmax("label"), SOFTMAX], outputs, metadata={"labels": json.dumps(["ok", "worn", "broken"])})
    assert list(load_model(named, "m").score(ROWS)[1]) == ["broken", "ok", "worn"]
    for labels in ("not json", "{}", "[]", '["only one"]'):
        found = load_model(make_model([argmax("label"), SOFTMAX], outputs, metadata={"labels": labels}), "m").score(ROWS)[1]
        assert found[0] == 2


@pytest.fixture(scope="module")
def training() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(120, 3)).astype(np.float32)
    return rows, np.where(rows.sum(axis=1) > 0, "worn", "ok")


@pytest.mark.parametrize("zipmap", [True, False])
@pytest.mark.parametrize("strings", [True, False])
def test_a_classifier_of_sklearn(training: tuple[np.ndarray, np.ndarray], tmp_path: Path, zipmap: bool, strings: bool) -> None:
    rows, names = training
    classes = names if strings else (names == "worn").astype(int)
    trained = LogisticRegression().fit(rows, classes)
    exported = to_onnx(trained, rows[:1], options={id(trained): {"zipmap": zipmap}}, target_opset={"": 17, "ai.onnx.ml": 3})
    (tmp_path / "m.onnx").write_bytes(exported.SerializeToString())
    scores, labels = load_model(tmp_path / "m.onnx", "m").score(rows[:20].astype(np.float64))
    assert scores == pytest.approx(trained.predict_proba(rows[:20])[:, -1], abs=1e-5)
    assert list(labels) == trained.predict(rows[:20]).tolist()


def test_a_forest_of_three_classes_scores_the_last(training: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    rows, _ = training
    classes = np.digitize(rows[:, 0], [-0.5, 0.5])
    trained = RandomForestClassifier(5, random_state=0).fit(rows, classes)
    exported = to_onnx(trained, rows[:1], target_opset={"": 17, "ai.onnx.ml": 3})
    (tmp_path / "m.onnx").write_bytes(exported.SerializeToString())
    scores, labels = load_model(tmp_path / "m.onnx", "m").score(rows[:30])
    assert scores == pytest.approx(trained.predict_proba(rows[:30])[:, -1], abs=1e-5)
    assert list(labels) == trained.predict(rows[:30]).tolist()


def test_an_isolation_forest_has_no_probability_so_the_first_output_counts(
    training: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    rows, _ = training
    trained = IsolationForest(n_estimators=10, random_state=0).fit(rows)
    exported = to_onnx(trained, rows[:1], target_opset={"": 17, "ai.onnx.ml": 3})
    (tmp_path / "m.onnx").write_bytes(exported.SerializeToString())
    scores, labels = load_model(tmp_path / "m.onnx", "m").score(rows[:30])
    assert scores.tolist() == list(labels) == trained.predict(rows[:30]).tolist()


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("count", [1, 3, 4, 6, 9])
def test_a_fixed_batch_takes_any_number_of_rows(make_model: MakeModel, batch: int, count: int) -> None:
    rows = np.arange(3.0 * count).reshape(count, 3) - 5
    model = load_model(
        make_model([argmax("label"), SOFTMAX], [("label", INT64, [batch]), ("probs", FLOAT, [batch, 3])], shape=[batch, 3]), "m"
    )
    scores, labels = model.score(rows)
    assert scores == pytest.approx(softmax(rows)[:, -1], rel=1e-6)
    assert list(labels) == [2] * count
    assert model.runs == -(-count // batch)


def test_samples_go_in_as_they_are_or_flat(make_model: MakeModel) -> None:
    axes = numpy_helper.from_array(np.array([1, 2]), "axes")
    cube = make_model(
        [node("ReduceSum", ["x", "axes"], ["score"], keepdims=0)], [("score", FLOAT, ["N"])], shape=["N", 4, 2], constants=[axes]
    )
    rows = np.arange(24.0).reshape(3, 4, 2)
    assert load_model(cube, "m").score(rows)[0].tolist() == rows.sum(axis=(1, 2)).tolist()
    flat = make_model([node("Identity", ["x"], ["score"])], [("score", FLOAT, ["N", 8])], shape=["N", 8])
    assert load_model(flat, "m").score(rows)[0].tolist() == [0.0, 8.0, 16.0]


@pytest.mark.parametrize(
    ("dtype", "numpy"),
    [
        (TensorProto.DOUBLE, np.float64),
        (TensorProto.FLOAT16, np.float16),
        (TensorProto.INT64, np.int64),
        (TensorProto.INT32, np.int32),
    ],
)
def test_rows_are_cast_to_the_models_type(make_model: MakeModel, dtype: int, numpy: type) -> None:
    model = load_model(make_model([node("Identity", ["x"], ["score"])], [("score", dtype, ["N", 3])], dtype=dtype), "m")
    rows = np.array([[1.7, 0, 0], [-2.2, 0, 0]])
    assert model.score(rows)[0].tolist() == rows[:, 0].astype(numpy).tolist()


def test_what_the_type_does_not_hold_becomes_infinite_and_stops_nothing(make_model: MakeModel) -> None:
    model = load_model(make_model([node("Sub", ["x", "x"], ["score"])], [("score", FLOAT, ["N", 3])]), "m")
    scores = model.score(np.array([[1e300, 0, 0], [1.0, 0, 0]]))[0]
    assert np.isnan(scores[0])
    assert scores[1] == 0.0


def test_columns_are_checked_before_anything_runs(make_model: MakeModel) -> None:
    path = make_model([node("Identity", ["x"], ["score"])], [("score", FLOAT, ["N", 3])])
    model = load_model(path, "pump", "2")
    assert model.features == 3
    model.check_columns(3)
    with pytest.raises(RejectedError, match=r"pump takes 3 features a row \(input 'x' \[N, 3\]\), the pipeline makes 4"):
        model.check_columns(4)
    with pytest.raises(RejectedError, match=r"pump@2 did not run on input \[2, 4\] \(it takes \[N, 3\]\)"):
        model.score(np.zeros((2, 4)))
    open_width = load_model(make_model([node("Identity", ["x"], ["score"])], [("score", FLOAT, ["N", "F"])], shape=["N", "F"]), "m")
    assert open_width.features is None
    open_width.check_columns(7)
    assert open_width.score(ROWS)[0].tolist() == [1.0, 9.0, 0.0]


def test_names_types_and_shapes_are_told(make_model: MakeModel) -> None:
    outputs = [("label", INT64, ["N"]), ("probs", FLOAT, ["N", 3])]
    model = load_model(make_model([argmax("label"), SOFTMAX], outputs, shape=[None, 3], metadata={"by": "us"}), "m")
    assert [(one.name, one.dtype, one.shape) for one in (*model.inputs, *model.outputs)] == [
        ("x", "float32", (None, 3)),
        ("label", "int64", (None,)),
        ("probs", "float32", (None, 3)),
    ]
    assert model.metadata == {"by": "us"}


@pytest.mark.parametrize("content", [b"", b"not onnx", b"\x08\x08" * 50])
def test_what_is_no_model_is_refused_in_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(RejectedError, match=r"m\.onnx: the model cannot be loaded: .*check it with") as caught:
        load_model(tmp_path / "m.onnx", "m")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["missing.onnx", "."])
def test_a_missing_file_is_told_with_its_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(RejectedError, match=r"does not exist; mend `file` of model pump") as caught:
        load_model(tmp_path / name, "pump")
    assert caught.value.where == str(tmp_path / name)


def test_two_inputs_or_a_type_that_no_source_gives_are_refused(make_model: MakeModel) -> None:
    both = make_model([node("Add", ["x", "y"], ["score"])], [("score", FLOAT, ["N", 3])], inputs=["x", "y"])
    with pytest.raises(RejectedError, match=r"m has 2 inputs \(x, y\); a pipeline feeds one"):
        load_model(both, "m")
    kind = TensorProto.BOOL
    truth = make_model([node("Identity", ["x"], ["score"])], [("score", kind, ["N", 3])], dtype=kind)
    with pytest.raises(RejectedError, match=r"m takes bool; a pipeline feeds numbers or strings"):
        load_model(truth, "m")


def test_answers_that_are_no_scores_are_refused(make_model: MakeModel) -> None:
    texts = node(
        "LabelEncoder", ["x"], ["out"], domain="ai.onnx.ml", keys_floats=[1.0], values_strings=["one"], default_string="other"
    )
    words = load_model(make_model([texts], [("out", STRING, ["N", 3])]), "m")
    with pytest.raises(RejectedError, match="answers what is no score"):
        words.score(ROWS)
    short = make_model([node("ReduceSum", ["x"], ["score"], keepdims=0)], [("score", FLOAT, [])])
    with pytest.raises(RejectedError, match="1 numbers for 3 rows"):
        load_model(short, "m").score(ROWS)
    axes = numpy_helper.from_array(np.array([0]), "axes")
    across = make_model([node("ReduceSum", ["x", "axes"], ["score"], keepdims=0)], [("score", FLOAT, [3])], constants=[axes])
    with pytest.raises(RejectedError, match="3 numbers for 2 rows"):
        load_model(across, "m").score(ROWS[:2])
    uneven = make_model(
        [node("Identity", ["x"], ["score"]), node("ReduceMax", ["x"], ["label"], keepdims=0)],
        [("score", FLOAT, ["N", 3]), ("label", FLOAT, [])],
    )
    with pytest.raises(RejectedError, match="3 scores and 1 labels for 3 rows"):
        load_model(uneven, "m").score(ROWS)
