"""Every element type that ONNX has: what onnxruntime takes from outside goes in and comes out, batched too; of the rest it is said
that, and where, it does not."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save

from skerry.core.errors import RejectedError
from skerry.inference.batching.sync import SyncInference
from skerry.inference.catalogue.trial import try_model
from skerry.inference.engine.signature import numpy_dtype
from skerry.inference.host import EngineHost

PASSED = {
    "FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16", "UINT8", "INT8", "UINT16", "INT16", "UINT32", "INT32", "UINT64", "INT64", "BOOL",
    "STRING", "FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ",
}  # fmt: skip
PACKED = {"UINT4", "INT4", "UINT2", "INT2", "FLOAT8E8M0"}  # within a model only
UNKNOWN = {"COMPLEX64", "COMPLEX128", "FLOAT4E2M1", "FLOAT6E2M3", "FLOAT6E3M2"}
OPSET, IR = 25, 13


def kinds() -> set[str]:
    return set(TensorProto.DataType.keys()) - {"UNDEFINED"}


@pytest.fixture(scope="module")
def host() -> Iterator[EngineHost]:
    with EngineHost() as running:
        yield running


def passing(path: Path, kind: str, to: int | None = None) -> Path:
    """`y` is `x`: as it came, or cast."""
    number = TensorProto.DataType.Value(kind)
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])] if to is None else [helper.make_node("Cast", ["x"], ["y"], to=to)]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", number, ["N", 4])],
        [helper.make_tensor_value_info("y", to or number, ["N", 4])],
        [numpy_helper.from_array(np.array([-1, 4]), "shape")],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR), path)
    return path


def test_each_type_of_onnx_is_in_one_of_these_lists() -> None:
    assert kinds() == PASSED | PACKED | UNKNOWN
    assert not PASSED & PACKED
    assert not PACKED & UNKNOWN


@pytest.mark.parametrize("kind", sorted(PASSED))
def test_what_the_engine_takes_goes_in_and_comes_out_together_and_alone(tmp_path: Path, kind: str, host: EngineHost) -> None:
    path = passing(tmp_path / "m.onnx", kind)
    with SyncInference.load(path, max_batch=4) as model:
        dtype = numpy_dtype(model.inputs[0].dtype)
        numbers = np.array([[0, 1, 1, 0], [1, 0, 0, 1], [1, 1, 0, 0]])
        rows = numbers.astype(str).astype(object) if kind == "STRING" else numbers.astype(dtype)
        together = model.infer({"x": rows})["y"]
        parts = model.batch_infer([{"x": rows[at : at + 1]} for at in range(3)])
        with pytest.raises(RejectedError, match=r"'x': expected"):
            model.infer({"x": np.zeros((1, 4), np.float32 if kind != "FLOAT" else np.float64)})
    assert together.dtype == dtype
    assert np.array_equal(together.astype(np.float64), numbers)
    assert model.batching.kind == "rows"
    assert all(np.array_equal(part["y"].astype(np.float64), numbers[at : at + 1]) for at, part in enumerate(parts))
    report = try_model(path, host=host)
    assert (report.warnings, report.inputs[0].dtype) == ([], model.inputs[0].dtype)


@pytest.mark.parametrize("kind", sorted(PACKED))
def test_types_that_live_within_a_model_only_are_refused_in_words(tmp_path: Path, kind: str, host: EngineHost) -> None:
    path = passing(tmp_path / "m.onnx", kind, to=TensorProto.FLOAT)
    name = kind.lower()
    with SyncInference.load(path) as model:
        assert model.inputs[0].dtype == name
        with pytest.raises(RejectedError, match=f"onnxruntime takes no {name} from outside"):
            model.infer({"x": np.zeros((1, 4)).astype(numpy_dtype(name))})
    told = f"the model does not run: onnxruntime takes no {name} from outside; let it take another type and cast inside the model"
    with pytest.raises(RejectedError, match=told):
        try_model(path, host=host)


@pytest.mark.parametrize("kind", sorted(UNKNOWN))
def test_types_that_the_engine_has_not_are_refused_when_the_model_is_loaded(tmp_path: Path, kind: str) -> None:
    with pytest.raises(RejectedError, match=r"the model cannot be loaded: .*") as caught:
        SyncInference.load(passing(tmp_path / "m.onnx", kind, to=TensorProto.FLOAT))
    assert "\n" not in str(caught.value)
