"""The models of the package: they load, say what they are, and are as good as they say on seeds never seen."""

from collections.abc import Sequence
from random import Random

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from skerry.demo.computer import COMPUTER_FEATURES, COMPUTER_LABELS, COMPUTER_VALUES, OVERLOAD
from skerry.demo.config import model_path
from skerry.demo.examples import WINDOW_US, Examples, computer_examples, pump_examples, station_start
from skerry.demo.faults import LABELS, NORMAL, FaultSchedule
from skerry.demo.pump import PUMP_FEATURES, PUMP_VALUES
from skerry.demo.score import ScoredWindow, Scorer
from skerry.window.features import compute

EXPECTED = {
    "pump": (PUMP_VALUES, PUMP_FEATURES, LABELS),
    "computer": (COMPUTER_VALUES, COMPUTER_FEATURES, COMPUTER_LABELS),
}
NEVER_SEEN = range(50_000, 50_006)


def session(name: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(model_path(name)), options, providers=["CPUExecutionProvider"])


def predict(name: str, features: NDArray[np.float64]) -> tuple[NDArray[np.str_], NDArray[np.float32]]:
    label, score = session(name).run(["label", "score"], {"features": features.astype(np.float32)})
    return label, score


def quality(examples: Examples, score: NDArray[np.float32]) -> tuple[float, float]:
    said, true = score >= 0.5, examples.labels != NORMAL
    return (said & true).sum() / said.sum(), (said & true).sum() / true.sum()


@pytest.mark.parametrize("name", EXPECTED)
def test_a_model_fits_its_pipeline_and_says_so(name: str) -> None:
    values, features, labels = EXPECTED[name]
    model = session(name)
    (into,) = model.get_inputs()
    assert (into.name, into.type, into.shape) == ("features", "tensor(float)", ["N", len(values) * len(features)])
    outputs = {out.name: (out.type, out.shape) for out in model.get_outputs()}
    assert outputs == {"label": ("tensor(string)", ["N"]), "score": ("tensor(float)", ["N"])}
    said = model.get_modelmeta().custom_metadata_map
    assert said["skerry.values"].split(",") == list(values)
    assert said["skerry.features"].split(",") == list(features)
    assert said["labels"].split(",") == list(labels)
    assert {"trained_on", "trained_with", "precision", "recall", "script", "version"} <= set(said)


def test_both_models_are_small() -> None:
    assert sum(model_path(name).stat().st_size for name in EXPECTED) < 100_000


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("rows", [1, 7])
def test_any_number_of_windows_at_once(name: str, rows: int) -> None:
    values, features, labels = EXPECTED[name]
    label, score = predict(name, np.ones((rows, len(values) * len(features))))
    assert label.shape == score.shape == (rows,)
    assert set(label) <= set(labels)
    assert np.all((score >= 0) & (score <= 1))


@pytest.mark.parametrize("name", EXPECTED)
def test_absurd_features_give_no_absurd_score(name: str) -> None:
    values, features, _ = EXPECTED[name]
    _, score = predict(name, np.array([[1e30], [-1e30], [0.0]]) * np.ones(len(values) * len(features)))
    assert np.all(np.isfinite(score))


def test_the_pump_model_is_as_good_as_it_says() -> None:
    examples = pump_examples(NEVER_SEEN, 100)
    label, score = predict("pump", examples.features)
    precision, recall = quality(examples, score)
    stated = session("pump").get_modelmeta().custom_metadata_map
    assert 0.93 < precision >= float(stated["precision"]) - 0.03
    assert 0.93 < recall >= float(stated["recall"]) - 0.03
    found = (score >= 0.5) & (examples.labels != NORMAL)
    assert (label[found] == examples.labels[found]).mean() > 0.97


def test_pump_faults_are_detected_soon_and_without_false_alarms() -> None:
    seed, seconds = 60_000, 120
    examples = pump_examples([seed], seconds)
    label, score = predict("pump", examples.features)
    devices = ("pump-1", "pump-2", "pump-3")
    live = Scorer(FaultSchedule(seed, station_start(seed), devices), threshold=0.6)
    order: Sequence[int] = sorted(range(len(score)), key=lambda at: examples.origins[at][1])
    for at in order:
        device, start = examples.origins[at]
        live.add(ScoredWindow(device, start, start + WINDOW_US, str(label[at]), float(score[at])))
    scores = live.scores()
    assert scores.detected >= 15
    assert scores.missed == 0
    assert scores.delay_s is not None
    assert scores.delay_s < 2.0
    assert scores.false_alarms <= 1


def test_the_computer_model_is_as_good_as_it_says() -> None:
    examples = computer_examples(range(50_000, 50_036), 100)
    _, score = predict("computer", examples.features)
    precision, recall = quality(examples, score)
    stated = session("computer").get_modelmeta().custom_metadata_map
    assert 0.95 < precision >= float(stated["precision"]) - 0.03
    assert 0.95 < recall >= float(stated["recall"]) - 0.03


def steady(level: float) -> NDArray[np.float64]:
    """Windows of computers with 1 to 64 cores whose CPU is at this level, whatever memory, disk and network do."""
    draw = Random(f"steady:{level}")
    rows: list[list[float]] = []
    mixes = [(m, d, n) for m in (2.0, 50.0, 99.0) for d in (0.0, 1.0, 5_000.0) for n in (0.0, 1.0, 3_000.0)]
    for cores in (1, 2, 4, 16, 64):
        for memory, disk, network in mixes:
            for _ in range(10):
                busy = int(min(1.0, max(0.0, level / 100 + draw.gauss(0, 0.02))) * cores * 10 + draw.random())
                flow = draw.random()
                rows.append([min(100.0, 10.0 * busy / cores), memory, disk * flow, network * flow])
    return compute(COMPUTER_FEATURES, np.array(rows), np.arange(0, len(rows) + 1, 10))


@pytest.mark.parametrize("level", [0, 5, 30, 45, 60])
def test_no_alarm_on_a_computer_with_ordinary_work(level: float) -> None:
    label, score = predict("computer", steady(level))
    assert set(label) == {NORMAL}
    assert score.max() < 0.4


@pytest.mark.parametrize("level", [94, 97, 100])
def test_an_alarm_on_a_computer_whose_cores_are_all_busy(level: float) -> None:
    label, score = predict("computer", steady(level))
    assert set(label) == {OVERLOAD}
    assert score.min() > 0.6
