"""A model is tried in a child: what is refused is said in one sentence, and what crashes ends only the child."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper, numpy_helper

from skerry.core.errors import RejectedError
from skerry.inference.catalogue.trial import try_model
from tests.inference.conftest import FLOAT, MakeModel


@pytest.fixture
def good(make_model: MakeModel) -> Path:
    nodes = [helper.make_node("Identity", ["x"], ["score"])]
    return make_model(nodes, [("score", FLOAT, ["N", 3])], metadata={"labels": '["good", "bad"]'})


def endless(folder: Path) -> Path:
    """A loop of 2^40 turns over one number."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Cos", ["a"], ["b"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("a", FLOAT, ["N", 1]),
        ],
        [helper.make_tensor_value_info("go_on", TensorProto.BOOL, []), helper.make_tensor_value_info("b", FLOAT, ["N", 1])],
    )
    turns = numpy_helper.from_array(np.array(2**40, np.int64), "turns")
    always = numpy_helper.from_array(np.array(True), "always")
    graph = helper.make_graph(
        [helper.make_node("Loop", ["turns", "always", "x"], ["score"], body=body)],
        "g",
        [helper.make_tensor_value_info("x", FLOAT, ["N", 1])],
        [helper.make_tensor_value_info("score", FLOAT, ["N", 1])],
        [turns, always],
    )
    path = folder / "endless.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_the_report_says_what_the_model_is_and_costs(good: Path) -> None:
    report = try_model(good)
    assert (report.ir, report.opset, report.engine, report.nan) == (8, 17, "onnxruntime", False)
    assert (report.inputs[0].name, report.inputs[0].dtype, report.inputs[0].shape) == ("x", "float32", (None, 3))
    assert report.outputs[0].name == "score"
    assert report.metadata == {"labels": '["good", "bad"]'}
    assert report.latency_ms > 0
    assert report.load_ms > 0
    assert report.most_opset >= report.opset
    assert report.batching.startswith("symbolic")


@pytest.mark.parametrize("rows", ["N", 1])
def test_the_memory_is_that_of_the_model_and_not_of_the_engine(make_model: MakeModel, rows: int | str) -> None:
    """16 MiB of weights: no less, and not the engine's code, nor what freeing the batch took."""
    random = np.random.default_rng(0)
    shapes = {"w": (2048, 1024), "v": (1024, 2048)}
    weights = [numpy_helper.from_array(random.normal(0, 0.01, shape).astype(np.float32), name) for name, shape in shapes.items()]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("MatMul", ["h", "v"], ["score"])]
    path = make_model(nodes, [("score", FLOAT, [rows, 2048])], shape=(rows, 2048), constants=weights)
    assert 15 << 20 < try_model(path, engine="onnxruntime").memory < 28 << 20


def test_nan_is_a_warning_for_made_up_rows_may_be_outside_the_domain(make_model: MakeModel) -> None:
    nodes = [helper.make_node("Sqrt", ["x"], ["root"]), helper.make_node("Sub", ["root", "root"], ["zero"])]
    nodes.append(helper.make_node("Div", ["zero", "zero"], ["score"]))
    report = try_model(make_model(nodes, [("score", FLOAT, ["N", 3])]))
    assert report.nan
    assert report.warnings == ["it answered NaN to made-up input"]


@pytest.mark.parametrize(
    ("content", "text"), [(b"", "cannot be loaded"), (b"hello, I am no model\n" * 9, "no ONNX file"), (None, "does not exist")]
)
def test_a_file_that_is_no_model_is_refused_in_one_sentence(tmp_path: Path, content: bytes | None, text: str) -> None:
    path = tmp_path / "bad.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RejectedError, match=text) as caught:
        try_model(path)
    assert "\n" not in str(caught.value)
    assert caught.value.where == str(path)


def test_a_cut_off_file_is_refused(good: Path) -> None:
    good.write_bytes(good.read_bytes()[:-40])
    with pytest.raises(RejectedError, match=r"cut off|cannot be loaded"):
        try_model(good)


def test_an_opset_too_new_is_refused_with_the_mend(good: Path) -> None:
    model = onnx.load(good)
    model.opset_import[0].version = 99
    onnx.save(model, good)
    with pytest.raises(RejectedError, match=r"opset.*newer"):
        try_model(good)


def test_a_model_that_eats_memory_ends_only_the_child(make_model: MakeModel) -> None:
    shape = numpy_helper.from_array(np.array([1, 10_000_000_000], np.int64), "shape")
    nodes = [helper.make_node("ConstantOfShape", ["shape"], ["big"]), helper.make_node("ReduceSum", ["big"], ["sum"], keepdims=0)]
    nodes.append(helper.make_node("Add", ["x", "sum"], ["score"]))
    path = make_model(nodes, [("score", FLOAT, ["N", 3])], constants=[shape])
    with pytest.raises(RejectedError) as caught:
        try_model(path, memory=512 << 20)
    assert "\n" not in str(caught.value)


def test_one_that_does_not_end_is_ended(tmp_path: Path) -> None:
    children = set(psutil.Process().children())  # other tests' helpers, such as multiprocessing's
    with pytest.raises(RejectedError, match="did not end within 3 s"):
        try_model(endless(tmp_path), seconds=3)
    assert set(psutil.Process().children()) <= children


@pytest.mark.parametrize(("kill", "text"), [(signal.SIGSEGV, "crashed \\(SIGSEGV\\)"), (signal.SIGKILL, "was killed.*memory")])
def test_a_crash_is_told_in_one_sentence(tmp_path: Path, kill: signal.Signals, text: str) -> None:
    def strike() -> None:
        while not (found := [each for host in psutil.Process().children() for each in host.children()]):
            time.sleep(0.01)
        os.kill(found[0].pid, kill)

    thread = threading.Thread(target=strike)
    thread.start()
    with pytest.raises(RejectedError, match=text):
        try_model(endless(tmp_path), seconds=30)
    thread.join()


def test_the_parents_side_imports_no_engine() -> None:
    code = (
        "import sys, skerry.inference.catalogue.staging; print([m for m in ('numpy', 'onnx', 'onnxruntime') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert answer.stdout.strip() == "[]"
