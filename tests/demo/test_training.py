"""The training script: the same data give the same bytes, and the graph says what the network says."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from scripts import train_demo_models as training
from skerry.demo.computer import COMPUTER_FEATURES, COMPUTER_LABELS, COMPUTER_VALUES
from skerry.demo.examples import Examples, computer_examples, pump_examples
from skerry.demo.faults import LABELS


@pytest.fixture(scope="module")
def pumps() -> Examples:
    return pump_examples(range(2), 100)


def test_the_graph_computes_what_the_network_computes_also_outside_what_it_has_seen(pumps: Examples) -> None:
    network = training.fit(pumps, LABELS, (8,))
    model = training.build("pump", network, LABELS, {"version": "1"})
    features = np.concatenate([pumps.features[::7], pumps.features[:3] * 100, -pumps.features[:3]])
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    label, score = session.run(["label", "score"], {"features": features.astype(np.float32)})
    expected = training.probabilities(network, features)
    np.testing.assert_allclose(score, 1 - expected[:, 0], atol=2e-3)
    sure = np.sort(expected, axis=1)[:, -1] > 0.6
    np.testing.assert_array_equal(label[sure], np.array(LABELS)[expected.argmax(axis=1)][sure])


def test_labels_keep_their_order_whatever_the_alphabet_says(pumps: Examples) -> None:
    chances = training.probabilities(training.fit(pumps, LABELS, (8,)), pumps.features)
    for column, label in enumerate(LABELS):
        assert chances[pumps.labels == label, column].mean() > 0.5


def test_training_twice_writes_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        training.make(
            tmp_path / name / "computer.onnx",
            computer_examples(range(9), 40),
            computer_examples(range(9, 18), 20),
            labels=COMPUTER_LABELS,
            hidden=(4,),
            values=COMPUTER_VALUES,
            features=COMPUTER_FEATURES,
            trained_on="a test",
        )
    assert (tmp_path / "one/computer.onnx").read_bytes() == (tmp_path / "two/computer.onnx").read_bytes()
