"""All models of an opset before 7 that the onnx package carries as its own test data: converted, they give the outputs that it
carries with them."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.backend.test
import pytest
from onnx import helper, numpy_helper

from skerry.inference.engine.opening import open_session
from skerry.inference.graph.conversion import _compare, convert
from tests.fixtures import models
from tests.inference.conftest import FLOAT

DATA = Path(onnx.backend.test.__file__).parent / "data"


def opset_of(path: Path) -> int:
    imports = onnx.load(path, load_external_data=False).opset_import
    return next((each.version for each in imports if each.domain in ("", "ai.onnx")), 1)


def tensors(folder: Path, side: str) -> list[np.ndarray]:
    files = sorted(folder.glob(f"{side}_*.pb"), key=lambda file: int(file.stem.rpartition("_")[2]))
    return [numpy_helper.to_array(onnx.TensorProto.FromString(file.read_bytes())) for file in files]


def carried(path: Path, converted: Path) -> bool:
    """Whether the converted model gives the outputs that lie beside the old one."""
    graph = onnx.load(path).graph
    constants = {tensor.name for tensor in graph.initializer}
    session = open_session(converted)
    try:
        for folder in sorted(path.parent.glob("test_data_set_*")):
            given = dict(zip([value.name for value in graph.input], tensors(folder, "input"), strict=False))
            found = session.run({name: array for name, array in given.items() if name not in constants})
            pairs = zip(found.values(), tensors(folder, "output"), strict=True)
            if not all(one.shape == other.shape and np.allclose(one, other, 1e-3, 1e-5, equal_nan=True) for one, other in pairs):
                return False
        return True
    finally:
        session.close()


def test_all_that_the_onnx_package_carries(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [path for path in sorted(DATA.rglob("*.onnx")) if opset_of(path) < 7]
    to = tmp_path / "new.onnx"
    compared = 0
    for path in files:
        compared += convert(path, to).compared
        assert carried(path, to), path.parent.name
    with capsys.disabled():
        print(f"\nmodels of an opset before 7 in the onnx package: {len(files)}, converted {len(files)}, compared {compared}")
    assert compared == len(files) > 100


def prelu(path: Path, shape: list[int], out: list[int], nodes: list[Any], slopes: int) -> Path:
    value = helper.make_tensor_value_info
    constant = numpy_helper.from_array(np.linspace(0.1, 0.9, slopes, dtype=np.float32), "slopes")
    inputs = [value("x", FLOAT, shape), value("slopes", FLOAT, [slopes])]
    graph = helper.make_graph(nodes, "g", inputs, [value("y", FLOAT, out)], [constant])
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 6)], ir_version=3).SerializeToString())
    return path


@pytest.mark.parametrize("shape", [[2, 3], [2, 3, 3], [2, 3, 4], [2, 3, 4, 5]])
def test_a_slope_a_channel_stays_one(tmp_path: Path, shape: list[int]) -> None:
    """Also where the last dimension has as many: it would broadcast, and wrongly."""
    path = prelu(tmp_path / "old.onnx", shape, shape, [helper.make_node("PRelu", ["x", "slopes"], ["y"])], shape[1])
    assert convert(path, tmp_path / "new.onnx").compared
    session = open_session(tmp_path / "new.onnx")
    rows = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    slopes = np.linspace(0.1, 0.9, shape[1], dtype=np.float32).reshape(-1, *[1] * (len(shape) - 2))
    assert session.run({"x": rows})["y"] == pytest.approx(np.where(rows < 0, rows * slopes, rows))


def test_one_that_does_not_run_any_more_speaks_against_the_conversion(tmp_path: Path) -> None:
    old = onnx.load(models.adding(tmp_path / "old.onnx", 1))
    session = open_session(models.failing(tmp_path / "new.onnx"))
    same, compared, largest, note = _compare(old, session)
    assert (same, compared, largest) == (False, False, float("inf"))
    assert note.startswith("not compared: the model did not run on this input: ")
