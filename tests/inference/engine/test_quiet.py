"""The engine keeps to itself: no thread beside the one that loads it, no file of its own, no report of its use to its makers."""

import subprocess
import sys
from pathlib import Path

from onnx import helper

from tests.inference.conftest import FLOAT, MakeModel

RUNS = """
import os, sys
import numpy as np
from skerry.inference import SyncInference
with SyncInference.load(sys.argv[1]) as model:
    model.infer({"x": np.zeros((2, 3), np.float32)})
print(len(os.listdir("/proc/self/task")))
"""


def test_a_model_that_runs_starts_no_thread_and_leaves_no_file(make_model: MakeModel, tmp_path: Path) -> None:
    """Left as it is, onnxruntime has a thread that reports, and a file of its sessions."""
    model = make_model([helper.make_node("Relu", ["x"], ["y"])], [("y", FLOAT, ["N", 3])])
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    env = {"TMPDIR": str(scratch), "HOME": str(scratch), "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", RUNS, str(model)]
    answer = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=True)
    assert answer.stdout == "1\n"
    assert not list(scratch.rglob("*"))
