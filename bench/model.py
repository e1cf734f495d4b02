"""A small network with fixed random weights: what it says is of no interest, what it costs is that of a real one."""

from pathlib import Path

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, save

LAYERS = (64, 32, 1)


def write_mlp(path: Path, inputs: int, seed: int = 7) -> None:
    """`[N, inputs]` float32 → `score` `[N, 1]` through two hidden layers of ReLU and a sigmoid."""
    random = np.random.default_rng(seed)
    nodes, weights = [], []
    last, width = "features", inputs
    for at, units in enumerate(LAYERS):
        matrix = random.normal(0, 1 / np.sqrt(width), (width, units)).astype(np.float32)
        weights += [
            numpy_helper.from_array(matrix, f"w{at}"),
            numpy_helper.from_array(np.zeros(units, np.float32), f"b{at}"),
        ]
        nodes.append(helper.make_node("Gemm", [last, f"w{at}", f"b{at}"], [f"sum{at}"]))
        last = "score" if at == len(LAYERS) - 1 else f"hidden{at}"
        nodes.append(helper.make_node("Sigmoid" if last == "score" else "Relu", [f"sum{at}"], [last]))
        width = units
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", inputs])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N", 1])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    checker.check_model(model)
    save(model, path)
