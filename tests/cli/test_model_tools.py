"""`skerry model verify | bench | optimize | quantize`."""

import hashlib
import json
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
from onnx import helper, numpy_helper

from tests.cli.conftest import TOML, Call

WIDE = 32
FLOAT = onnx.TensorProto.FLOAT


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A dense layer and a softmax."""
    weight = np.random.default_rng(0).normal(0, 0.2, (WIDE, 3)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("Softmax", ["y"], ["probs"], axis=1)],
        "g",
        [helper.make_tensor_value_info("x", FLOAT, ["N", WIDE])],
        [helper.make_tensor_value_info("probs", FLOAT, ["N", 3])],
        [numpy_helper.from_array(weight, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    rows = np.random.default_rng(1).normal(size=(40, WIDE))
    np.savetxt(tmp_path / "rows.csv", rows, delimiter=",")
    return tmp_path / "m.onnx"


def test_verify(call: Call, model: Path) -> None:
    answer = call("model", "verify", "m.onnx", "--record", "r.npz", "--data", "rows.csv")
    assert (answer.code, answer.err) == (0, "")
    lines = answer.out.splitlines()
    assert lines[0].split() == ["CHECK", "RESULT", "DETAIL"]
    assert "batched = one by one  ok" in answer.out
    assert lines[-1] == "40 rows recorded in r.npz"
    found = json.loads(call("--json", "model", "verify", "m.onnx", "--expect", "r.npz").out)
    assert found["ok"] is True
    assert {check["name"]: check["state"] for check in found["checks"]}["expected outputs"] == "ok"


def test_verify_fails(call: Call, model: Path) -> None:
    answer = call("model", "verify", "m.onnx", "--sha256", "00")
    assert answer.code == 1
    assert answer.err.startswith("error: m.onnx: 1 of 6 checks failed: digest:")
    model.write_bytes(b"no model")
    assert call("model", "verify", "m.onnx").code == 1
    assert call("model", "verify", "none.onnx").err == "error: none.onnx: the model file does not exist; mend the path\n"


def test_a_reference_to_the_configuration(call: Call, model: Path, tmp_path: Path) -> None:
    (tmp_path / "skerry.toml").write_text(TOML + '[[models]]\nname = "wave"\nfile = "m.onnx"\nversion = "3"\n')
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    for reference in ("wave", "wave@3", "wave@active"):
        assert call("model", "verify", reference, "--sha256", digest).code == 0
    answer = call("model", "verify", "waves")
    assert (answer.code, answer.out) == (2, "")
    assert "there is no model 'waves', did you mean 'wave'?" in answer.err
    assert call("model", "optimize", "wave@3", "--seconds", 0).code == 0
    assert (tmp_path / "wave-3.optimized.onnx").is_file()
    model.unlink()
    assert "mend `file` of model wave" in call("model", "verify", "wave").err


def test_a_reference_to_a_version_that_was_added(call: Call, model: Path, tmp_path: Path) -> None:
    (tmp_path / "skerry.toml").write_text(TOML)
    assert call("model", "add", "pump", model).code == 0
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    model.unlink()
    assert call("model", "verify", "pump@1", "--sha256", digest).code == 0
    answer = call("model", "verify", "pump")
    assert answer.code == 2
    assert "model 'pump' has no active version" in answer.err


def test_bench(call: Call, model: Path, tmp_path: Path) -> None:
    settings = ("--batches", "1,4", "--threads", "1", "--seconds", 0)
    answer = call("model", "bench", "m.onnx", *settings, "--data", "rows.csv", "--plot", "p.png")
    assert (answer.code, answer.err) == (0, "")
    lines = answer.out.splitlines()
    assert lines[0].split() == ["THREADS", "BATCH", "P50", "MS", "P99", "MS", "ROWS/S"]
    assert [line.split()[:2] for line in lines[1:3]] == [["1", "1"], ["1", "4"]]
    assert sum(line.endswith("recommended") for line in lines) == 1
    assert lines[3].startswith("recommended: worker_threads = 1, max_batch = ")
    assert lines[4:] == ["engine onnxruntime, batch symbolic", "drawn in p.png"]
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    answer = call("model", "bench", "m.onnx", *settings, "--max-latency", "1us", "--json")
    assert answer.err == "no --data: random rows stand for the real ones, so trust differences and figures less\n"
    found = json.loads(answer.out)
    assert found["recommended"] in found["points"]
    assert (found["inputs"], found["engine"], found["batch"]) == ("random", "onnxruntime", "symbolic")
    assert "this is the one of least latency" in call("model", "bench", "m.onnx", *settings, "--max-latency", "1us").out


@pytest.mark.parametrize(
    "wrong", [("--batches", "0"), ("--batches", "1,x"), ("--threads", "1000"), ("--max-latency", "soon"), ("--seconds", "-1")]
)
def test_bench_with_wrong_options(call: Call, model: Path, wrong: tuple[str, str]) -> None:
    answer = call("model", "bench", "m.onnx", *wrong)
    assert (answer.code, answer.out) == (2, "")
    assert wrong[0] in answer.err


def test_optimize(call: Call, model: Path, tmp_path: Path) -> None:
    answer = call("model", "optimize", "m.onnx", "--level", "basic", "--seconds", 0)
    assert answer.code == 0
    assert [line.split()[0] for line in answer.out.splitlines()] == [
        "BEFORE", "nodes", "load,", "memory,", "p50,", "p99,", "outputs:", "engine", "written:",
    ]  # fmt: skip
    assert answer.out.splitlines()[-1] == f"written: {tmp_path / 'm.optimized.onnx'}" or answer.out.endswith("m.optimized.onnx\n")
    assert (tmp_path / "m.optimized.onnx").is_file()
    assert call("model", "optimize", "m.onnx", "--level", "most").code == 1


def test_quantize(call: Call, model: Path, tmp_path: Path) -> None:
    free = ("--min-speedup", 0, "--seconds", 0, "--data", "rows.csv")
    answer = call("model", "quantize", "m.onnx", "--static", *free)
    assert (answer.code, answer.err) == (0, "")
    assert [line.split()[0] for line in answer.out.splitlines()] == [
        "ORIGINAL", "size,", "p50,", "p99,", "rows/s", "outputs:", "speed:", "engine", "written:",
    ]  # fmt: skip
    assert "labels agree in" in answer.out
    assert (tmp_path / "m.int8.onnx").is_file()
    found = json.loads(call("--json", "model", "quantize", "m.onnx", "--out", "d.onnx", *free).out)
    assert (found["kind"], found["refused"], found["file"]) == ("dynamic", "", "d.onnx")
    assert (found["difference"]["rows"], found["engine"]) == (20, "onnxruntime")


def test_quantize_refuses(call: Call, model: Path, tmp_path: Path) -> None:
    answer = call("model", "quantize", "m.onnx", "--dynamic", "--bound", 0, "--seconds", 0, "--data", "rows.csv")
    assert answer.code == 1
    assert "ORIGINAL  INT8 DYNAMIC" in answer.out
    assert answer.err.startswith("error: m.onnx: the int8 model is refused: its outputs are off by")
    assert not (tmp_path / "m.int8.onnx").exists()
    assert call("model", "quantize", "m.onnx", "--dynamic", "--static").code == 2


def test_the_engine_is_the_one_that_is_named_or_that_the_catalogue_names(call: Call, model: Path, tmp_path: Path) -> None:
    table = '[[models]]\nname = "wave"\nfile = "m.onnx"\n'
    (tmp_path / "skerry.toml").write_text(f'{TOML}{table}version = "1"\nengine = "openvino"\n{table}version = "2"\n')
    ran = {}
    for reference in ("wave@1", "wave@2", "m.onnx"):
        ran[reference] = json.loads(call("--json", "model", "verify", reference).out)["engine"]
    assert ran == {"wave@1": "openvino", "wave@2": "onnxruntime", "m.onnx": "onnxruntime"}
    found = call("model", "bench", "m.onnx", "--engine", "openvino", "--batches", "1", "--threads", "1", "--seconds", 0)
    assert found.out.splitlines()[-1] == "engine openvino, batch symbolic"
    wrong = call("model", "verify", "m.onnx", "--engine", "tract")
    assert (wrong.code, wrong.out) == (2, "")
    assert "--engine is 'tract'; there are onnxruntime, openvino" in wrong.err


def test_a_crash_of_the_engine_is_one_sentence(call: Call, model: Path) -> None:
    def strike() -> None:
        found: list[psutil.Process] = []
        while not found:
            time.sleep(0.01)
            found = [each for host in psutil.Process().children() for each in host.children()]
        os.kill(found[0].pid, signal.SIGSEGV)

    thread = threading.Thread(target=strike)
    thread.start()
    answer = call("model", "bench", "m.onnx", "--seconds", 60, "--data", "rows.csv")
    thread.join()
    told = "the model ended the process that ran it: the engine crashed (SIGSEGV); check it with onnx.checker"
    assert (answer.code, answer.out, answer.err) == (1, "", f"error: m.onnx: {told}\n")
    assert not psutil.Process().children()


def test_help_brings_no_numpy() -> None:
    script = "import sys; from skerry.cli import main; main(['model', 'quantize', '--help']); sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, check=False).returncode == 0
