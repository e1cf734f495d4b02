"""RNN, GRU and LSTM with a fixed batch: freed where the state begins at zero and the rows are the batch, else run as they are, and
said so. Tensors in files beside the model are no hindrance."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from skerry.inference.batching.sync import SyncInference
from skerry.inference.graph.prepare import MOST_BESIDE, prepare
from tests.inference.conftest import FLOAT, MakeModel

STEPS, WIDTH, HIDDEN = 6, 3, 5
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
node = helper.make_node


def weights(kind: str, start: float | None, batch: int = 1) -> list[Any]:
    """Random weights; initial states of this value, or none."""
    random = np.random.default_rng(len(kind))
    gates = GATES[kind] * HIDDEN
    arrays = {
        "w": random.normal(0, 0.5, (1, gates, WIDTH)), "r": random.normal(0, 0.5, (1, gates, HIDDEN)),
        "b": random.normal(0, 0.1, (1, 2 * gates)),
    }  # fmt: skip
    if start is not None:
        arrays |= {name: np.full((1, batch, HIDDEN), start) for name in (("h", "c") if kind == "LSTM" else ("h",))}
    found = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()]
    return [*found, numpy_helper.from_array(np.array([1]), "directions")]


def batch_first(make: MakeModel, kind: str, start: float | None, batch: int = 1) -> Path:
    """`[batch, steps, width]`, as PyTorch exports `batch_first=True`."""
    states = [] if start is None else ["", "h", "c"] if kind == "LSTM" else ["", "h"]
    nodes = [
        node("Transpose", ["x"], ["steps"], perm=[1, 0, 2]),
        node(kind, ["steps", "w", "r", "b", *states], ["all"], hidden_size=HIDDEN),
        node("Squeeze", ["all", "directions"], ["one"]),
        node("Transpose", ["one"], ["y"], perm=[1, 0, 2]),
    ]
    shape, out = [batch, STEPS, WIDTH], [batch, STEPS, HIDDEN]
    return make(nodes, [("y", FLOAT, out)], shape=shape, constants=weights(kind, start, batch))


def plain(path: Path, rows: np.ndarray) -> np.ndarray:
    """What onnxruntime answers, a row at a time."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"x": rows[at : at + 1]})[0] for at in range(len(rows))])


def rows(count: int) -> np.ndarray:
    return np.random.default_rng(7).normal(size=(count, STEPS, WIDTH)).astype(np.float32)


@pytest.mark.parametrize("start", [None, 0.0])
@pytest.mark.parametrize("kind", GATES)
def test_a_batch_of_one_is_freed_where_the_state_begins_at_zero(
    make_model: MakeModel, tmp_path: Path, kind: str, start: float | None
) -> None:
    path = batch_first(make_model, kind, start)
    with SyncInference.load(path, cache=tmp_path / "cache") as model:
        assert (model.batching.kind, model.batching.reason) == ("rows", "fixed batch made symbolic, verified with 2 and 3 rows")
        together = model.infer({"x": rows(9)})["y"]
        parts = model.batch_infer([{"x": rows(9)[at : at + 1]} for at in range(9)])
    assert together == pytest.approx(plain(path, rows(9)), abs=1e-5)
    assert np.concatenate([part["y"] for part in parts]) == pytest.approx(together, abs=1e-5)


@pytest.mark.parametrize("kind", GATES)
def test_a_state_that_begins_elsewhere_fixes_the_batch_and_rows_run_one_by_one(
    make_model: MakeModel, tmp_path: Path, kind: str
) -> None:
    path = batch_first(make_model, kind, 0.3)
    with SyncInference.load(path, cache=tmp_path / "cache") as model:
        assert model.batching.kind == "ones"
        assert model.batching.reason.startswith("its graph needs the fixed batch: ")
        assert model.infer({"x": rows(4)})["y"] == pytest.approx(plain(path, rows(4)), abs=1e-6)


@pytest.mark.parametrize("steps", [1, STEPS])
@pytest.mark.parametrize("kind", GATES)
def test_steps_in_the_first_dimension_are_not_rows(make_model: MakeModel, tmp_path: Path, kind: str, steps: int) -> None:
    nodes = [node(kind, ["x", "w", "r", "b"], ["y"], hidden_size=HIDDEN)]
    path = make_model(
        nodes, [("y", FLOAT, [steps, 1, 1, HIDDEN])], shape=[steps, 1, WIDTH], constants=weights(kind, None)[:3]
    )  # fmt: skip
    found = prepare(path, tmp_path / "cache")
    assert (found.batch, found.reason) == ("fixed", f"operator {kind} reads the first dimension of input 'x' as its steps")
    feed = np.random.default_rng(1).normal(size=(steps, 1, WIDTH)).astype(np.float32)
    with SyncInference.load(path) as model:
        assert model.batching.kind == ("ones" if steps == 1 else "whole")
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        assert model.infer({"x": feed})["y"] == pytest.approx(session.run(None, {"x": feed})[0], abs=1e-6)


@pytest.mark.parametrize("kind", GATES)
def test_open_steps_in_the_first_dimension_are_found_out_by_running(make_model: MakeModel, kind: str) -> None:
    nodes = [node(kind, ["x", "w", "r", "b"], ["y"], hidden_size=HIDDEN)]
    path = make_model(nodes, [("y", FLOAT, ["T", 1, 1, HIDDEN])], shape=["T", 1, WIDTH], constants=weights(kind, None)[:3])
    with SyncInference.load(path) as model:
        assert model.batching.kind == "whole"
        assert "depends on the rows beside it" in model.batching.reason


def test_a_batch_of_four_is_freed_too(make_model: MakeModel, tmp_path: Path) -> None:
    path = batch_first(make_model, "LSTM", 0.0, batch=4)
    with SyncInference.load(path, cache=tmp_path / "cache") as model:
        assert model.batching.kind == "rows"
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        assert model.infer({"x": rows(4)})["y"] == pytest.approx(session.run(None, {"x": rows(4)})[0], abs=1e-5)
        assert model.infer({"x": rows(7)})["y"].shape == (7, STEPS, HIDDEN)


def beside(path: Path) -> Path:
    """The same model with its tensors in a file beside it."""
    folder = path.parent / "beside"
    folder.mkdir()
    made = folder / "m.onnx"
    onnx.save_model(onnx.load(path), made, save_as_external_data=True, location="m.data", size_threshold=100)
    return made


def test_tensors_beside_the_model_are_taken_into_the_freed_copy(make_model: MakeModel, tmp_path: Path) -> None:
    whole = batch_first(make_model, "GRU", 0.0)
    path = beside(whole)
    with SyncInference.load(path, cache=tmp_path / "cache") as model:
        assert model.batching.kind == "rows"
        assert model.infer({"x": rows(5)})["y"] == pytest.approx(plain(whole, rows(5)), abs=1e-5)
    (copy,) = tmp_path.glob("cache/*.freed.onnx")
    assert not any(tensor.external_data for tensor in onnx.load(copy, load_external_data=False).graph.initializer)


def test_what_lies_beside_a_model_and_is_too_large_or_missing_is_said(make_model: MakeModel, tmp_path: Path) -> None:
    path = beside(batch_first(make_model, "RNN", None))
    os.truncate(path.parent / "m.data", MOST_BESIDE + 1)  # a hole: it takes no room
    found = prepare(path, tmp_path / "cache")
    assert (found.batch, found.path) == ("fixed", path)
    assert found.reason == "its tensors lie in files beside it that are too large to copy (512 MiB)"
    (path.parent / "m.data").unlink()
    assert prepare(path).reason == "its tensors lie in files beside it that cannot be read"
