"""`skerry pipeline new`: what a real node's devices send becomes a pipeline that reads it."""

import json
import threading
import time
from pathlib import Path

import pytest

from skerry.config import load
from tests.cli.conftest import Call
from tests.fixtures.node import RunningNode, until
from tests.fixtures.raw_mqtt import RawMqtt


def test_from_a_live_topic(tmp_path: Path, call: Call) -> None:
    with RunningNode(tmp_path) as node:
        port, stop = node.mqtt[1], threading.Event()

        def send() -> None:
            with RawMqtt(port, "sender") as device:
                while not stop.wait(0.02):
                    payload = json.dumps({"ts": time.time(), "amps": 4.5, "state": "on"}).encode()
                    device.publish(b"devices/motor-1/motor", payload)

        sending = threading.Thread(target=send)
        sending.start()
        try:
            asked = ("--from-topic", "devices/+/motor", "--seconds", 2)
            shown = call("--json", "pipeline", "new", "motors", *asked)
            assert shown.code == 0, shown
            assert json.loads(shown.out)["pipeline"]["source"] == {
                "topic": "devices/+/motor", "format": "json", "time": "ts", "values": ["amps"],
            }  # fmt: skip
            assert load(node.file).pipelines == ()
            written = call("pipeline", "new", "motors", *asked, "--write")
            assert written.code == 0, written
            assert "written to skerry.toml, then: skerry pipeline check motors" in written.err
            assert call("pipeline", "new", "motors", *asked, "--write").err.startswith(
                "error: skerry.toml: there is a pipeline 'motors' already"
            )
            assert call("config", "reload").code == 0
            until(lambda: node.pipeline("motors")["ledger"]["received"] > 10, 30, "the pipeline reads what is sent")
            assert node.pipeline("motors")["ledger"]["dead_letters"] == {}
        finally:
            stop.set()
            sending.join()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("no name", "--from-topic", "devices/#"), "'no name' is not a name"),
        (("p", "--from-topic", "devices/#/x"), "# may only be the last level"),
        (("p", "--from-topic", "devices/#", "--write"), "no configuration"),
    ],
)
def test_what_is_refused(call: Call, arguments: tuple[str, ...], sentence: str) -> None:
    answer = call("pipeline", "new", *arguments)
    assert answer.code == 2
    assert sentence in answer.err
