"""Train the demo's two models on simulated devices and write them as ONNX; and a third that is unfit on purpose.

    python scripts/train_demo_models.py [--out DIR] [--quick]

Seeds are fixed and one thread computes: the same versions of the libraries give the same files, byte for byte.
Precision and recall are of windows from seeds that the training has not seen; they are printed and written into the
files. Needs the extra `train`. Takes one to two minutes (`--quick`: a fifth of the data, for a trial).
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import sklearn
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from skerry.demo.computer import COMPUTER_FEATURES, COMPUTER_LABELS, COMPUTER_VALUES
from skerry.demo.examples import Examples, computer_examples, pump_examples
from skerry.demo.faults import LABELS
from skerry.demo.pump import PUMP_FEATURES, PUMP_VALUES

VERSION = "1"
OPSET, IR_VERSION = 17, 8
THRESHOLD = 0.5
Layer = tuple[NDArray[np.float64], NDArray[np.float64]]


class Network(NamedTuple):
    """A trained network: the range of each feature in training, then weights and biases from features to logits."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    layers: list[Layer]


class Quality(NamedTuple):
    """Per window, any fault against none at a score of 0.5; `kind`: the right label among the faulty windows found."""

    windows: int
    precision: float
    recall: float
    kind: float


def main() -> int:
    """Train, judge and write both models."""
    parser = argparse.ArgumentParser(description="Train the demo's models on simulated devices.")
    default = Path(__file__).parents[1] / "src" / "skerry" / "demo" / "models"
    parser.add_argument("--out", type=Path, default=default, help="directory to write to")
    parser.add_argument("--quick", action="store_true", help="a fifth of the data")
    arguments = parser.parse_args()
    share = 5 if arguments.quick else 1
    arguments.out.mkdir(parents=True, exist_ok=True)
    pumps, computers = range(1_000, 1_000 + 150 // share), range(1_000, 1_000 + 540 // share)
    make(
        arguments.out / "pump.onnx", pump_examples(pumps, 200), pump_examples(range(9_000, 9_000 + 40 // share), 200),
        labels=LABELS, hidden=(24,), values=PUMP_VALUES, features=PUMP_FEATURES,
        trained_on=f"{len(pumps)} simulated stations of three pumps, 200 s each",
    )  # fmt: skip
    make(
        arguments.out / "computer.onnx",
        computer_examples(computers, 200), computer_examples(range(9_000, 9_000 + 90 // share), 200),
        labels=COMPUTER_LABELS, hidden=(16,), values=COMPUTER_VALUES, features=COMPUTER_FEATURES,
        trained_on=f"{len(computers)} simulated computers with 1 to 64 cores, 200 s each",
    )  # fmt: skip
    onnx.save(unfit(len(PUMP_VALUES) * len(PUMP_FEATURES)), arguments.out / "unfit.onnx")
    return 0


def unfit(width: int) -> onnx.ModelProto:
    """A model with the inputs and outputs of the pumps' that gives no number where a feature is above 1,000, as a real speed is."""
    numbers = {"thousand": np.array([[1000.0]], np.float32), "kinds": np.array(LABELS, np.object_), "zero": np.array(0, np.int64)}
    constants = [
        helper.make_tensor(name, TensorProto.STRING, value.shape, [text.encode() for text in value])
        if value.dtype == np.object_ else numpy_helper.from_array(value, name)
        for name, value in numbers.items()
    ]  # fmt: skip
    nodes = [
        helper.make_node("ReduceMax", ["features"], ["most"], axes=[1], keepdims=1),
        helper.make_node("Sub", ["thousand", "most"], ["left"]),
        helper.make_node("Sqrt", ["left"], ["score"]),
        helper.make_node("ArgMax", ["features"], ["index"], axis=1, keepdims=0),
        helper.make_node("Mul", ["index", "zero"], ["first"]),
        helper.make_node("Gather", ["kinds", "first"], ["label"]),
    ]
    graph = helper.make_graph(
        nodes, "unfit", [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", width])],
        [helper.make_tensor_value_info("label", TensorProto.STRING, ["N"]),
         helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N", 1])],
        constants,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def make(
    path: Path, train: Examples, test: Examples, *,
    labels: Sequence[str], hidden: tuple[int, ...], values: Sequence[str], features: Sequence[str], trained_on: str,
) -> None:  # fmt: skip
    """Train one network, judge it on what it has not seen, write it with what it is."""
    network = fit(train, labels, hidden)
    quality = judge(network, test, labels)
    metadata = {
        "labels": ",".join(labels),
        "precision": f"{quality.precision:.4f}",
        "recall": f"{quality.recall:.4f}",
        "script": "scripts/train_demo_models.py",
        "skerry.features": ",".join(features),
        "skerry.values": ",".join(values),
        "skerry.window": "tumbling 1s",
        "trained_on": trained_on,
        "trained_with": f"scikit-learn {sklearn.__version__}, numpy {np.__version__}",
        "version": VERSION,
    }
    content = build(path.stem, network, labels, metadata).SerializeToString(deterministic=True)
    path.write_bytes(content)
    print(
        f"{path.name}: {len(content)} bytes, learnt from {len(train.labels)} windows; on {quality.windows} unseen: "
        f"precision {quality.precision:.3f}, recall {quality.recall:.3f}, right kind {quality.kind:.3f}"
    )


def fit(train: Examples, labels: Sequence[str], hidden: tuple[int, ...]) -> Network:
    """A network from raw features to the logits of `labels` (in this order)."""
    scaler = StandardScaler().fit(train.features)
    trained = MLPClassifier(
        hidden, alpha=1e-3, learning_rate_init=2e-3, batch_size=256, max_iter=200, early_stopping=True, random_state=1
    ).fit(scaler.transform(train.features), train.labels)
    layers = [(w.astype(np.float64), b.astype(np.float64)) for w, b in zip(trained.coefs_, trained.intercepts_, strict=True)]
    weights, bias = layers[0]
    # the scaler goes into the first layer: (x - mean) / scale @ W + b
    layers[0] = (weights / scaler.scale_[:, None], bias - (scaler.mean_ / scaler.scale_) @ weights)
    weights, bias = layers[-1]
    if weights.shape[1] == 1:
        # two classes have one logit, that of the second class; the first one's is 0
        weights, bias = np.hstack([np.zeros_like(weights), weights]), np.concatenate([np.zeros(1), bias])
    order = [list(trained.classes_).index(label) for label in labels]
    layers[-1] = (weights[:, order], bias[order])
    return Network(train.features.min(axis=0), train.features.max(axis=0), layers)


def probabilities(network: Network, features: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the network says, `[n, labels]`, computed in numpy."""
    signal = np.clip(features, network.low, network.high)
    for weights, bias in network.layers[:-1]:
        signal = np.maximum(signal @ weights + bias, 0.0)
    logits = signal @ network.layers[-1][0] + network.layers[-1][1]
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def judge(network: Network, test: Examples, labels: Sequence[str]) -> Quality:
    """Precision and recall on windows that the training has not seen."""
    chances = probabilities(network, test.features)
    said, true = 1.0 - chances[:, 0] >= THRESHOLD, test.labels != labels[0]
    hits = said & true
    kind = np.array(labels)[chances.argmax(axis=1)] == test.labels
    return Quality(len(true), hits.sum() / said.sum(), hits.sum() / true.sum(), kind[hits].mean())


def build(name: str, network: Network, labels: Sequence[str], metadata: dict[str, str]) -> onnx.ModelProto:
    """The network as a graph: `features [N, F]` float32 → `label [N]` string, `score [N]` float32 = 1 - P(first label).

    A feature outside its range in training counts as the edge of that range: a network knows nothing beyond it.
    """
    nodes = [
        helper.make_node("Max", ["features", "low"], ["floored"]),
        helper.make_node("Min", ["floored", "high"], ["known"]),
    ]
    constants = [
        numpy_helper.from_array(network.low.astype(np.float32), "low"),
        numpy_helper.from_array(network.high.astype(np.float32), "high"),
    ]
    layers, signal = network.layers, "known"
    for number, (weights, bias) in enumerate(layers):
        constants += [
            numpy_helper.from_array(weights.astype(np.float32), f"weights{number}"),
            numpy_helper.from_array(bias.astype(np.float32), f"bias{number}"),
        ]
        nodes.append(helper.make_node("Gemm", [signal, f"weights{number}", f"bias{number}"], [f"layer{number}"]))
        signal = f"layer{number}"
        if number < len(layers) - 1:
            nodes.append(helper.make_node("Relu", [signal], [f"active{number}"]))
            signal = f"active{number}"
    constants += [
        numpy_helper.from_array(np.array(labels, dtype=object), "labels"),
        numpy_helper.from_array(np.array(0, np.int64), "first"),
        numpy_helper.from_array(np.array(1.0, np.float32), "one"),
    ]
    nodes += [
        helper.make_node("Softmax", [signal], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["probabilities"], ["likeliest"], axis=1, keepdims=0),
        helper.make_node("Gather", ["labels", "likeliest"], ["label"], axis=0),
        helper.make_node("Gather", ["probabilities", "first"], ["calm"], axis=1),
        helper.make_node("Sub", ["one", "calm"], ["score"]),
    ]
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", layers[0][0].shape[0]])],
        [
            helper.make_tensor_value_info("label", TensorProto.STRING, ["N"]),
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N"]),
        ],
        constants,
    )
    model = helper.make_model(graph, producer_name="skerry", opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    return model


if __name__ == "__main__":
    # sums of several threads differ in their last bits from run to run
    with threadpool_limits(limits=1):
        sys.exit(main())
