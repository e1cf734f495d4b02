"""Drift in a whole node: a device whose values move is an event, a number of `/metrics` and of the status, over a kill."""

import json
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.fixtures.node import RunningNode, until
from tests.system.fleet import connected

TABLES = """
[[models]]
name = "same"
file = "same.onnx"

[[pipelines]]
name = "watched"
source = { topic = "devices/+/level", time = "ts", values = ["level"], max_future = "10m" }
model = "same@active"
rule = { field = "score", above = 1e9 }
drift = { bound = 0.5, learn = 100, window = 100 }
"""


def write_model(path: Path) -> None:
    """A model that scores a row by its one value."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 1]) for name in ("x", "score")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["score"])], "g", values[:1], values[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def metrics(node: RunningNode) -> dict[str, float]:
    with urllib.request.urlopen(f"http://{node.status()['broker']['http']}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if not line.startswith("#"))}


def drift(node: RunningNode) -> dict[str, Any]:
    found: dict[str, Any] = node.pipeline("watched")["drift"]
    return found


def test_values_that_move_are_an_event_a_metric_and_a_row_of_the_status_over_a_kill(tmp_path: Path) -> None:
    write_model(tmp_path / "same.onnx")
    draw = np.random.default_rng(1)
    with RunningNode(tmp_path, TABLES) as node:
        device = connected("d", node.mqtt)
        try:

            def send(count: int, shift: float) -> None:
                for value in draw.normal(shift, 1, count).round(4).tolist():
                    device.publish("devices/d/level", json.dumps({"ts": time.time(), "level": value}), qos=1)

            send(150, 0.0)
            until(lambda: drift(node)["rows"] == 50, 15, "50 rows held against 100 learned ones")
            assert drift(node)["source"] == "learned"
            assert not node.events("watched")
            until(lambda: node.pipeline("watched")["durable"] >= node.pipeline("watched")["cursor"] > 0, 10, "a checkpoint")
            node.kill("worker")
            node.wait_ready()
            until(lambda: drift(node)["rows"] == 50, 15, "the counts of before the kill")
            send(150, 5.0)
            until(lambda: drift(node)["rows"] == 200, 15, "all rows")
            (event,) = until(lambda: node.events("watched"), 10, "the event")
            assert (event["key"], event["label"], event["state"], event["model"]) == ("drift", "drift", "firing", "same")
            assert event["features"]["level"] > 0.5
            row = drift(node)
            assert row["firing"]
            assert row["outside"] >= 100
            found = metrics(node)
            assert found['skerry_drift_psi{feature="level",pipeline="watched"}'] == row["psi"]["level"]
            assert found['skerry_out_of_range_total{pipeline="watched"}'] == row["outside"]
            assert node.pipeline("watched")["ledger"]["difference"] == 0
        finally:
            device.disconnect()
            device.loop_stop()
