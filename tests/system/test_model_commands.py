"""`skerry model …` beside a node that runs: changes reach its workers; a trial that hangs or dies reaches nobody."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import psutil

from tests.fixtures import models
from tests.fixtures.node import RunningNode, until
from tests.inference.catalogue.test_trial import endless

NAME = "p"
PIPELINE = """
[[models]]
name = "m"
file = "1.onnx"
[[pipelines]]
name = "p"
source = { topic = "devices/+/v", values = ["n"] }
window = { kind = "count", size = 4 }
features = ["count", "sum"]
model = "m@active"
"""


def model(node: RunningNode, *command: object, code: int = 0) -> dict[str, Any]:
    """One command, as a person types it; what it answers."""
    cli = [sys.executable, "-m", "skerry.cli", "--config", str(node.folder / "skerry.toml"), "--json"]
    done = subprocess.run([*cli, "model", *map(str, command)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr
    found: dict[str, Any] = json.loads(done.stdout) if done.stdout.strip() else {"error": done.stderr}
    return found


def runs(node: RunningNode, version: str) -> None:
    until(lambda: node.pipeline(NAME)["model"] == f"m@{version}", 10, f"the pipeline scores with version {version}")


def host(node: RunningNode) -> psutil.Process:
    row = next(row for row in node.status()["processes"] if row["name"] == "trials")
    return psutil.Process(row["pid"])


def test_changes_reach_the_workers_and_a_trial_that_goes_wrong_reaches_nobody(tmp_path: Path) -> None:
    models.adding(tmp_path / "1.onnx", 1)
    with RunningNode(tmp_path, PIPELINE) as node:
        runs(node, "1")
        assert model(node, "add", "m", models.adding(tmp_path / "b.onnx", 2))["version"] == "2"
        first = host(node)
        model(node, "activate", "m@2")
        runs(node, "2")
        assert model(node, "shadow", "m@1")["shadow"]["version"] == "1"
        model(node, "rollback", "m")
        runs(node, "1")
        model(node, "remove", "m", "2")
        assert {row["version"] for row in model(node, "list")["models"]} == {"1"}
        assert host(node).pid == first.pid, "all trials had one host"

        def strike() -> None:
            child = until(lambda: host(node).children(), 20, "a trial runs")
            os.kill(child[0].pid, signal.SIGSEGV)

        thread = threading.Thread(target=strike)
        thread.start()
        refused = model(node, "add", "m", endless(tmp_path), code=1)["error"]
        thread.join()
        assert "the engine crashed (SIGSEGV)" in refused
        workers = [each.pid for each in node.processes("worker")]
        host(node).kill()
        assert model(node, "add", "m", models.adding(tmp_path / "d.onnx", 3))["version"] == "2"
        assert host(node).pid != first.pid
        assert [each.pid for each in node.processes("worker")] == workers
        assert node.status()["ready"]
