"""Real architectures: what the onnx package carries as test data, and what scikit-learn exports, batched and one by one."""

from pathlib import Path

import numpy as np
import pytest
from skl2onnx import to_onnx
from sklearn.base import is_classifier
from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor, IsolationForest, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR

from skerry.inference.batching.sync import SyncInference
from tests.inference.networks import LARGE, LIGHT, QUICK, compare, plain


@pytest.mark.parametrize("name", QUICK)
def test_a_network_exported_for_one_picture_takes_two(tmp_path: Path, name: str) -> None:
    compare(name, tmp_path)


def test_the_other_networks_are_known() -> None:
    assert {path.stem.removeprefix("light_") for path in LIGHT.glob("light_*.onnx")} == {*QUICK, *LARGE}


@pytest.fixture(scope="module")
def training() -> tuple[np.ndarray, np.ndarray]:
    rows = np.random.default_rng(3).normal(size=(150, 4)).astype(np.float32)
    return rows, (rows[:, 0] + rows[:, 1] ** 2 > 0.5).astype(np.int64)


ESTIMATORS = {
    "forest": RandomForestClassifier(10, random_state=0),
    "boosting": GradientBoostingClassifier(n_estimators=10, random_state=0),
    "regression": GradientBoostingRegressor(n_estimators=10, random_state=0),
    "support vectors": SVC(),
    "support vector regression": SVR(),
    "scaled": make_pipeline(StandardScaler(), LogisticRegression()),
    "network": make_pipeline(StandardScaler(), MLPClassifier((8,), max_iter=30, random_state=0, early_stopping=True)),
    "isolation": IsolationForest(n_estimators=10, random_state=0),
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore:Attribute .prob:FutureWarning")  # skl2onnx reads it
@pytest.mark.parametrize(
    ("name", "zipmap"),
    # only classifiers have class names to make dicts of
    [(name, zipmap) for name, each in ESTIMATORS.items() for zipmap in (False, True) if is_classifier(each) or not zipmap],
)
def test_what_sklearn_exports(training: tuple[np.ndarray, np.ndarray], tmp_path: Path, name: str, zipmap: bool) -> None:
    rows, classes = training
    estimator = ESTIMATORS[name].fit(rows, classes)
    last = estimator[-1] if name in ("scaled", "network") else estimator
    classifier = hasattr(last, "classes_")
    options = {id(last): {"zipmap": zipmap}} if classifier else None
    path = tmp_path / "m.onnx"
    exported = to_onnx(estimator, rows[:1], options=options, target_opset={"": 17, "ai.onnx.ml": 3})
    path.write_bytes(exported.SerializeToString())
    expected = plain(path).run(None, {"X": rows})
    with SyncInference.load(path, cache=tmp_path / "cache") as model:
        assert model.batching.kind == "rows", model.batching.reason
        together = model.infer({"X": rows})
        parts = model.batch_infer([{"X": rows[at : at + 1]} for at in range(20)])
    for at, (key, value) in enumerate(together.items()):
        if isinstance(value, list):
            assert value == expected[at]
            assert [part[key][0] for part in parts] == [pytest.approx(row, abs=1e-5) for row in value[:20]]
        else:
            assert np.allclose(value, expected[at], atol=1e-5)
            assert np.allclose(np.concatenate([part[key] for part in parts]), value[:20], atol=1e-4)
    if classifier or name == "isolation":
        assert np.ravel(next(iter(together.values()))).tolist() == estimator.predict(rows).tolist()
