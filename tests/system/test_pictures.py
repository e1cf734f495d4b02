"""A camera and a log in a running node: `mosquitto_pub -f picture.jpg`, and lines of text, scored like any other message."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.node import RunningNode, until
from tests.fixtures.text_model import text_model
from tests.pipeline.test_pictures import BLUE, RED, picture, write_classifier

PIPELINES = """
[[models]]
name = "colour"
file = "colour.onnx"
[[models]]
name = "log"
file = "log.onnx"
[[pipelines]]
name = "camera"
source = { topic = "devices/+/camera", format = "image", width = 32, height = 32, layout = "NCHW" }
model = "colour@active"
[[pipelines]]
name = "log"
source = { topic = "devices/+/log", format = "string" }
model = "log@active"
rule = { field = "score", below = 0.5, severity = "critical" }
"""


def publish(node: RunningNode, topic: str, *what: str) -> None:
    host, port = node.mqtt
    subprocess.run(["mosquitto_pub", "-h", host, "-p", str(port), "-q", "1", "-t", topic, *what], check=True, timeout=10)


def labels(found: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(event["key"], event["label"]) for event in found]


@pytest.mark.skipif(shutil.which("mosquitto_pub") is None, reason="needs mosquitto_pub")
def test_pictures_and_lines_are_scored_and_survive_kills(tmp_path: Path) -> None:
    write_classifier(tmp_path / "colour.onnx")
    text_model(tmp_path / "log.onnx")
    (tmp_path / "red.jpg").write_bytes(picture(RED, "JPEG", size=(640, 480)))
    (tmp_path / "blue.png").write_bytes(picture(BLUE, size=(64, 64)))
    with RunningNode(tmp_path, PIPELINES) as node:
        publish(node, "devices/door/camera", "-f", str(tmp_path / "red.jpg"))
        publish(node, "devices/yard/camera", "-f", str(tmp_path / "blue.png"))
        publish(node, "devices/door/camera", "-m", "no picture")
        publish(node, "devices/p1/log", "-m", "pump started")
        publish(node, "devices/p1/log", "-m", "bearing overheated, stop")
        until(lambda: len(node.events("camera")) == 2 and len(node.events("log")) == 1, 15, "events of both pipelines")
        node.kill("worker")
        publish(node, "devices/door/camera", "-f", str(tmp_path / "blue.png"))
        until(lambda: len(node.events("camera")) >= 3, 20, "the picture after the kill")
        assert labels(node.events("camera")) == [("door", "red"), ("yard", "blue"), ("door", "blue")]
        (alarm,) = node.events("log")
        assert (alarm["label"], alarm["state"], alarm["severity"], alarm["key"]) == ("fault", "firing", "critical", "p1")
        letters = until(lambda: node.deadletters("camera"), 10, "the dead letter")
        assert [(letter["reason"], letter["payload"]) for letter in letters] == [("undecodable", "no picture")]
        ledger = until(lambda: _settled(node, 4), 10, "the ledger counts all four messages")
        assert ledger is not None
        assert (ledger["difference"], ledger["scored"], ledger["dead_letters"]) == (0, 3, {"undecodable": 1})


def _settled(node: RunningNode, received: int) -> dict[str, Any] | None:
    ledger: dict[str, Any] = node.pipeline("camera")["ledger"]
    return ledger if ledger["received"] == received else None
