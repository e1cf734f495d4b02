"""The README's five minutes, word by word, on a real node: init, run, a device, a reading, its event, Ctrl-C."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from skerry.core.errors import SkerryError
from skerry.http import Client
from tests.docs.blocks import ROOT, calls
from tests.fixtures.node import until

README = calls("skerry", [ROOT / "README.md"])
NODE = {"SKERRY_BROKER__MQTT": "127.0.0.1:0", "SKERRY_API__LISTEN": "127.0.0.1:0", "PYTHONUNBUFFERED": "1"}
Done = subprocess.CompletedProcess[str]


def shown(*words: str) -> list[str]:
    """The README's command that begins with these words, as it is written there."""
    return next(arguments for _, arguments in README if arguments[: len(words)] == list(words))


def skerry(folder: Path, arguments: list[str]) -> Done:
    command = [sys.executable, "-m", "skerry.cli", *arguments]
    return subprocess.run(command, cwd=folder, env={**os.environ, **NODE}, capture_output=True, text=True, timeout=30, check=False)


@pytest.fixture
def plant(tmp_path: Path) -> Path:
    """What `skerry init` wrote, with windows of half a second."""
    assert skerry(tmp_path, shown("init")).returncode == 0
    file = tmp_path / "plant" / "skerry.toml"
    text = file.read_text("utf-8")
    assert 'size = "10s"' in text
    file.write_text(text.replace('size = "10s"', 'size = "500ms", idle = "500ms"'), encoding="utf-8")
    return tmp_path / "plant"


@pytest.fixture
def running(plant: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`skerry run`; killed if it does not end by itself, and its children with it."""
    with (plant / "out.log").open("wb") as out:
        command = [sys.executable, "-m", "skerry.cli", *shown("run")]
        with subprocess.Popen(command, cwd=plant, env={**os.environ, **NODE}, stdout=out, stderr=out) as process:
            try:
                yield process
            finally:
                process.kill()


def ready(plant: Path) -> bool:
    """Asked over the node's socket: a command costs a start of Python."""
    with contextlib.suppress(SkerryError), Client(plant / "data" / "skerry.sock") as client:
        return bool(client.get("/api/v1/node")["ready"])
    return False


def event_of(plant: Path, key: str) -> bool:
    with Client(plant / "data" / "skerry.sock") as client:
        return bool(client.get("/api/v1/events", {"key": key})["events"])


def publish(address: str, user: str, password: str, topic: str, payload: str) -> None:
    """As `mosquitto_pub -q 1` does."""
    import paho.mqtt.client as mqtt

    host, _, port = address.rpartition(":")
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    client.username_pw_set(user, password)
    client.connect(host, int(port))
    client.loop_start()
    client.publish(topic, payload, qos=1).wait_for_publish(10)
    client.disconnect()
    client.loop_stop()


def test_five_minutes(plant: Path, running: subprocess.Popen[bytes]) -> None:
    until(lambda: ready(plant), 30, "ready")
    assert (plant / "data").stat().st_mode & 0o777 == 0o700
    added = skerry(plant, shown("device", "add", "pump-1"))
    password = re.search(r"^password: (\S+) ", added.stdout, re.MULTILINE)
    assert password is not None, added.stderr
    nothing = skerry(plant, ["data", "tail", "--pipeline", "fist"])
    assert (nothing.returncode, nothing.stderr) == (0, "no events of pipeline fist yet\n")
    status = json.loads(skerry(plant, [*shown("status"), "--json"]).stdout)
    publish(status["broker"]["mqtt"], "pump-1", password[1], "devices/pump-1/readings", '{"value": 21.5}')
    until(lambda: event_of(plant, "pump-1"), 20, "the event")
    assert "pump-1  info  score 21.5000  1 sample" in skerry(plant, ["data", "tail"]).stdout
    second = skerry(plant, ["run"])
    assert (second.returncode, f"(pid {running.pid})" in second.stderr) == (1, True)
    began = time.monotonic()
    running.send_signal(signal.SIGINT)
    assert running.wait(15) == 0
    assert time.monotonic() - began < 10
    assert skerry(plant, shown("status")).returncode == 3
