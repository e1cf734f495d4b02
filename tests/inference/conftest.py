"""Small ONNX models, made on the spot."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

FLOAT, STRING, INT64 = TensorProto.FLOAT, TensorProto.STRING, TensorProto.INT64
Shape = Sequence[int | str | None]
MakeModel = Callable[..., Path]


def _value(name: str, kind: int, shape: Shape) -> Any:
    return helper.make_tensor_value_info(name, kind, list(shape))


@pytest.fixture
def make_model(tmp_path: Path) -> MakeModel:
    """Writes a model: nodes from input `x`, outputs as `(name, type, shape)`; answers its path."""

    def make(
        nodes: list[Any],
        outputs: list[tuple[str, int, Shape]],
        *,
        shape: Shape = ("N", 3),
        dtype: int = FLOAT,
        constants: Sequence[Any] = (),
        metadata: dict[str, str] | None = None,
        inputs: Sequence[str] = ("x",),
    ) -> Path:
        graph = helper.make_graph(
            nodes, "g", [_value(name, dtype, shape) for name in inputs], [_value(*output) for output in outputs], list(constants)
        )
        imports = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
        model = helper.make_model(graph, opset_imports=imports, ir_version=8)
        helper.set_model_props(model, metadata or {})
        path = tmp_path / f"model{len(list(tmp_path.iterdir()))}.onnx"
        onnx.save(model, path)
        return path

    return make
