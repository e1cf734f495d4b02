"""What scikit-learn trains and skl2onnx exports answers through `EdgeInference` as scikit-learn does, one by one and all at once.

Classes are compared for equality. Scores are compared within what float32 leaves of float64.
"""

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from onnx import helper, save_model

from skerry.core.errors import RejectedError
from skerry.inference.batching.edge import EdgeInference
from skerry.inference.batching.sync import SyncInference

skl2onnx = pytest.importorskip("skl2onnx", reason="the extra `train` is not installed")
ensemble = pytest.importorskip("sklearn.ensemble", reason="the extra `train` is not installed")
svm = pytest.importorskip("sklearn.svm", reason="the extra `train` is not installed")
extraction = pytest.importorskip("sklearn.feature_extraction", reason="the extra `train` is not installed")

pytestmark = [pytest.mark.filterwarnings("ignore:Attribute .prob:FutureWarning")]  # skl2onnx reads it
RANDOM = np.random.default_rng(5)
ROWS = RANDOM.normal(size=(120, 4)).astype(np.float32)
CLASSES = (ROWS[:, 0] > 0).astype(np.int64) + 2 * (ROWS[:, 1] > 0.5)
AMOUNTS = (ROWS[:, 0] * 2 + ROWS[:, 1] ** 2).astype(np.float64)
NEW = RANDOM.normal(size=(57, 4)).astype(np.float32)

ESTIMATORS: dict[str, tuple[Any, Any]] = {
    "forest": (ensemble.RandomForestClassifier(8, random_state=1), CLASSES),
    "forest of amounts": (ensemble.RandomForestRegressor(8, random_state=1), AMOUNTS),
    "boosting": (ensemble.GradientBoostingClassifier(n_estimators=5, random_state=1), CLASSES),
    "boosting of amounts": (ensemble.GradientBoostingRegressor(n_estimators=8, random_state=1), AMOUNTS),
    "support vectors": (svm.SVC(), CLASSES),
    "support vectors of amounts": (svm.SVR(), AMOUNTS),
    "one class": (svm.OneClassSVM(nu=0.2), None),
    "isolation forest": (ensemble.IsolationForest(n_estimators=8, random_state=1), None),
}


class Exported:
    """A trained estimator and its model file."""

    def __init__(self, name: str, folder: Path) -> None:
        estimator, target = ESTIMATORS[name]
        self.estimator = estimator.fit(ROWS) if target is None else estimator.fit(ROWS, target)
        classifier = hasattr(estimator, "classes_")
        options = {id(estimator): {"zipmap": False}} if classifier else None
        self.path = folder / "m.onnx"
        made = skl2onnx.to_onnx(estimator, ROWS[:1], options=options, target_opset={"": 17, "ai.onnx.ml": 3})
        self.path.write_bytes(made.SerializeToString())

    def check(self, rows: np.ndarray, answers: dict[str, np.ndarray]) -> None:
        """Labels (or amounts) are the first output, probabilities or decision values the second."""
        found = list(answers.values())
        wanted = self.estimator.predict(rows)
        assert len(found[0]) == len(rows)
        if wanted.dtype.kind == "i":
            assert np.ravel(found[0]).tolist() == wanted.tolist()
        else:
            np.testing.assert_allclose(np.ravel(found[0]), wanted, rtol=1e-4, atol=1e-4)
        if hasattr(self.estimator, "predict_proba"):
            np.testing.assert_allclose(found[1], self.estimator.predict_proba(rows), atol=1e-5)
        elif len(found) > 1 and not hasattr(self.estimator, "classes_"):
            np.testing.assert_allclose(np.ravel(found[1]), self.estimator.decision_function(rows), atol=1e-4)


@pytest.fixture(params=ESTIMATORS, scope="module")
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return Exported(request.param, tmp_path_factory.mktemp("sklearn"))


@pytest_asyncio.fixture
async def model(exported: Exported) -> AsyncIterator[EdgeInference]:
    async with await EdgeInference.load(exported.path, max_batch=16) as loaded:
        yield loaded


def joined(answers: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}


@pytest.mark.asyncio
async def test_batch_infer_answers_as_scikit_learn(exported: Exported, model: EdgeInference) -> None:
    assert model.batching.kind == "rows", model.batching.reason
    answers = await model.batch_infer([{"X": NEW[at : at + 1]} for at in range(len(NEW))])
    exported.check(NEW, joined(answers))
    assert model.stats.runs == 4, "57 rows in runs of 16"
    assert (model.stats.failed, model.stats.split) == (0, 0)


@pytest.mark.asyncio
async def test_concurrent_callers_of_unequal_rows_each_get_their_own(exported: Exported, model: EdgeInference) -> None:
    bounds = [0, 1, 3, 6, 7, 12, 13, 30, 31, 57]  # one of them has more rows than a run
    parts = [NEW[first:end] for first, end in pairwise(bounds)]
    answers = await asyncio.gather(*(model.infer({"X": part}) for part in parts))
    for part, answer in zip(parts, answers, strict=True):
        exported.check(part, answer)
    exported.check(NEW, joined(answers))
    assert model.stats.runs < len(parts)


@pytest.mark.asyncio
async def test_a_feed_that_is_refused_takes_no_other_with_it(exported: Exported, model: EdgeInference) -> None:
    good = [model.infer({"X": NEW[at : at + 1]}) for at in range(5)]
    wrong = [model.infer({"X": NEW[:1].astype(np.float64)}), model.infer({"X": NEW[:1, :3]})]
    answers = await asyncio.gather(*good, *wrong, return_exceptions=True)
    exported.check(NEW[:5], joined(answers[:5]))
    assert [type(each) for each in answers[5:]] == [RejectedError, RejectedError]
    assert "expected dtype float32, got float64" in str(answers[5])


def test_a_stream_answers_as_scikit_learn(exported: Exported) -> None:
    with SyncInference.load(exported.path, max_batch=8) as model:
        ranges = list(model.stream({"X": NEW}, chunk=10))
    assert [(first, end) for first, end, _ in ranges] == [(at, min(at + 10, 57)) for at in range(0, 57, 10)]
    exported.check(NEW, joined([answer for _, _, answer in ranges]))


@pytest.mark.asyncio
async def test_a_model_that_takes_maps_runs_each_request_whole(tmp_path: Path) -> None:
    """A DictVectorizer takes a map of words to numbers, which nobody can make up or stack."""
    node = helper.make_node("DictVectorizer", ["x"], ["y"], domain="ai.onnx.ml", string_vocabulary=["flow", "heat"])
    words = helper.make_map_type_proto(8, helper.make_tensor_type_proto(1, []))
    graph = helper.make_graph([node], "g", [helper.make_value_info("x", words)], [helper.make_tensor_value_info("y", 1, [1, 2])])
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    path = tmp_path / "maps.onnx"
    save_model(helper.make_model(graph, opset_imports=imports, ir_version=8), path)
    async with await EdgeInference.load(path) as model:
        assert (model.batching.kind, model.batching.reason) == ("whole", "input 'x' is no tensor")
        feeds = [{"x": {"flow": float(at), "heat": 0.5}} for at in range(3)]
        answers = await asyncio.gather(*(model.infer(feed) for feed in feeds))  # type: ignore[arg-type]  # a map, not an array
        assert [answer["y"].ravel().tolist() for answer in answers] == [[0.0, 0.5], [1.0, 0.5], [2.0, 0.5]]
        assert model.stats.runs == 3
