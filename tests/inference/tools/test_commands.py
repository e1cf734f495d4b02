"""The tools of the command line in a child: they answer what they answer here, through what a node does with a model first."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

from skerry.core.errors import RejectedError
from skerry.inference.tools.commands import Bench, Optimize, Quantize, Verify
from skerry.inference.tools.compare import verify_model
from tests.inference.conftest import FLOAT, STRING, MakeModel

WIDTH = 32
ROWS = np.random.default_rng(0).normal(size=(40, WIDTH)).astype(np.float32)


@pytest.fixture
def dense(make_model: MakeModel) -> Path:
    return make_model(*layer("N"), shape=("N", WIDTH), constants=weights())


@pytest.fixture
def data(tmp_path: Path) -> Path:
    np.savez(tmp_path / "rows.npz", x=ROWS)
    return tmp_path / "rows.npz"


def weights() -> list[Any]:
    return [numpy_helper.from_array(np.random.default_rng(1).normal(0, 0.2, (WIDTH, 3)).astype(np.float32), "w")]


def layer(rows: int | str) -> tuple[list[Any], list[Any]]:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Softmax", ["h"], ["y"], axis=1)]
    return nodes, [("y", FLOAT, [rows, 3])]


def test_verify_answers_as_here_and_records(dense: Path, data: Path, tmp_path: Path) -> None:
    found = Verify(str(dense), data=str(data), record=str(tmp_path / "r.npz")).run("m")
    assert (found.engine, found.recorded) == ("onnxruntime", 40)
    assert found.checks == verify_model(dense, data={"x": ROWS})
    again = Verify(str(dense), engine="openvino", expect=str(tmp_path / "r.npz")).run("m")
    assert again.engine == "openvino"
    assert {check.name: check.state for check in again.checks}["expected outputs"] == "ok"
    (loads,) = [check.detail for check in again.checks if check.name == "loads"]
    assert loads == f"x float32 [N, {WIDTH}]; openvino, batch symbolic"


def test_a_failed_check_records_nothing(dense: Path, tmp_path: Path) -> None:
    found = Verify(str(dense), digest="00", record=str(tmp_path / "r.npz")).run("m")
    assert [check.name for check in found.checks if check.state == "failed"] == ["digest"]
    assert found.recorded == 0
    assert not (tmp_path / "r.npz").exists()


def test_what_cannot_be_opened_is_a_failed_check(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    found = Verify(str(tmp_path / "bad.onnx")).run("m")
    assert {check.name: check.state for check in found.checks} == {"digest": "ok", "onnx.checker": "failed", "loads": "failed"}


def test_a_fixed_batch_is_freed_as_a_node_does(make_model: MakeModel) -> None:
    path = make_model(*layer(1), shape=(1, WIDTH), constants=weights())
    found = Bench(str(path), batches=(1, 8), threads=(1,), seconds=0).run("m")
    assert (found.engine, found.batch, found.sweep.batching) == ("onnxruntime", "freed", "")
    assert [point.batch for point in found.sweep.points] == [1, 8]
    checks = {check.name: check for check in Verify(str(path)).run("m").checks}
    assert checks["loads"].detail.endswith("onnxruntime, batch freed")
    assert checks["batched = one by one"].state == "ok"


def test_an_engine_that_cannot_run_it_is_not_the_one_that_is_named(make_model: MakeModel) -> None:
    text = make_model([helper.make_node("Identity", ["x"], ["y"])], [("y", STRING, ["N", 3])], dtype=STRING)
    assert Bench(str(text), engine="openvino", batches=(1,), threads=(1,), seconds=0).run("m").engine == "onnxruntime"


def test_optimize_and_quantize_write_where_they_are_told(dense: Path, data: Path, tmp_path: Path) -> None:
    optimized = Optimize(str(dense), str(tmp_path / "o.onnx"), "basic", 0).run("m")
    assert (optimized.file, optimized.portable) == (str(tmp_path / "o.onnx"), True)
    quantized = Quantize(str(dense), str(tmp_path / "q.onnx"), str(data), min_speedup=0, seconds=0).run("m")
    assert (quantized.file, quantized.refused, quantized.inputs) == (str(tmp_path / "q.onnx"), "", "recorded")
    assert (tmp_path / "o.onnx").is_file()
    assert (tmp_path / "q.onnx").is_file()
    assert not list(tmp_path.glob(".skerry-*"))


def test_what_a_tool_refuses_it_refuses_here(dense: Path, tmp_path: Path) -> None:
    with pytest.raises(RejectedError, match="'most' is no level") as caught:
        Optimize(str(dense), str(tmp_path / "o.onnx"), "most").run("m")
    assert caught.value.where == "level"
    with pytest.raises(RejectedError, match="the directory does not exist"):
        Quantize(str(dense), str(tmp_path / "none" / "q.onnx")).run("m")
    with pytest.raises(RejectedError, match="the file of recorded rows does not exist"):
        Bench(str(dense), data=str(tmp_path / "gone.npz")).run("m")
