"""The tutorial, block by block in a directory with nothing in it, up to the alarm at an MQTT client."""

import contextlib
import io
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest

from skerry.cli import main
from skerry.core.errors import SkerryError
from skerry.http import Client
from skerry.runtime import free_ports
from tests.docs.blocks import ROOT, Block, commands, every
from tests.fixtures.node import until

BLOCKS = every(ROOT / "docs" / "tutorial.md")
ALARM = "firing"


class Reader:
    """Somebody who follows the tutorial: writes what is to be written, types what is to be typed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        port, http = free_ports("127.0.0.1", [0, 0])
        self.port = port
        self.environment = {
            **os.environ, "SKERRY_BROKER__MQTT": f"127.0.0.1:{port}", "SKERRY_API__LISTEN": f"127.0.0.1:{http}",
            "SKERRY_DASHBOARD__ENABLED": "false", "PYTHONUNBUFFERED": "1",
        }  # fmt: skip
        self.said: dict[str, str] = {}
        self.heard: list[bytes] = []
        self.open = contextlib.ExitStack()

    def follow(self, block: Block) -> None:
        if block.language == "python":
            (self.folder / block.info.removeprefix("file=")).write_text(block.text, "utf-8")
        elif block.language == "toml":
            self._write(block)
        elif block.language == "sh":
            for words in commands(block):
                self._type(words, block)

    def _write(self, block: Block) -> None:
        file = self.folder / "skerry.toml"
        text = file.read_text("utf-8") if file.exists() else ""
        if block.info == "keys":
            last = next(line for line in text.splitlines() if line.startswith("features = "))
            file.write_text(text.replace(last, f"{last}\n{block.text}"), "utf-8")
        else:
            file.write_text(f"{text}\n{block.text}", "utf-8")

    def _type(self, words: list[str], block: Block) -> None:
        if words[0] in ("cd", ".", "mkdir"):
            return  # where this reader is already
        if words[0] == "mosquitto_sub":
            self._listen(words)
        elif words[1] == "run":
            self._run()
        else:
            code, said = self._python(words[1:]) if words[0] == "python" else self._skerry(words[1:])
            assert code == 0, (words, said[-2000:])
            self.said[shlex.join(words)] = said
            redirected = re.search(r"--json > (\S+)$", block.text, re.MULTILINE) if "--json" in words else None
            if redirected:
                (self.folder / redirected[1]).write_text(said, "utf-8")

    def _python(self, arguments: list[str]) -> tuple[int, str]:
        argv = [sys.executable, *arguments]
        done = subprocess.run(argv, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=300, check=False)
        return done.returncode, done.stdout + done.stderr

    def _skerry(self, arguments: list[str]) -> tuple[int, str]:
        """In this process: each start of Python would take a second."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            code = main(arguments)
        return code, out.getvalue()

    def _run(self) -> None:
        argv = [sys.executable, "-m", "skerry.cli", "run"]
        out = self.open.enter_context((self.folder / "out.log").open("wb"))
        process = subprocess.Popen(argv, cwd=self.folder, env=self.environment, stdout=out, stderr=out)
        self.open.callback(_end, process)
        until(self._ready, 120, "the node is ready")

    def _ready(self) -> bool:
        with contextlib.suppress(SkerryError), Client(self.folder / "data" / "skerry.sock") as client:
            return bool(client.get("/api/v1/node")["ready"])
        return False

    def _listen(self, words: list[str]) -> None:
        """As `mosquitto_sub` does, with the password that was printed and the port of this node."""
        printed = self.said["skerry device add phone --password --topics 'sub:alarms/#'"]
        password = re.search(r"^password: (\S+) ", printed, re.MULTILINE)
        assert password is not None, printed
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        client.username_pw_set(words[words.index("-u") + 1], password[1])
        granted: list[int] = []
        client.on_subscribe = lambda client, data, mid, codes, properties: granted.append(mid)
        client.on_message = lambda client, data, message: self.heard.append(message.payload)
        client.connect("127.0.0.1", self.port)
        client.loop_start()
        self.open.callback(client.loop_stop)
        self.open.callback(client.disconnect)
        until(client.is_connected, 30, "the phone is connected")
        client.subscribe(words[words.index("-t") + 1], qos=1)
        until(lambda: bool(granted), 30, "the phone may read")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(30)
    finally:
        process.kill()
        process.wait(30)


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    found = Reader(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name, value in found.environment.items():
        monkeypatch.setenv(name, value)
    with found.open:
        yield found


@pytest.mark.timeout(600)
def test_from_a_recording_to_the_alarm(reader: Reader) -> None:
    pytest.importorskip("skl2onnx", reason="optional: the extra train is not installed")
    for block in BLOCKS:
        reader.follow(block)
    until(lambda: bool(reader.heard), 120, "the phone has the alarm")
    alarm = reader.heard[0].decode()
    assert '"state":"firing"' in alarm.replace(" ", "")
    assert '"label":"binds"' in alarm.replace(" ", "")
    assert re.fullmatch(r"right in (9\d|100)% of windows that it was not trained on\n", reader.said["python train.py"])
    tested = reader.said["skerry pipeline test motors recorded.csv"]
    assert tested.count(ALARM) == 1
    assert "motor-2" in tested
    assert "4,800 messages, 160 windows, 1 event," in tested
    assert "training" in reader.said["skerry pipeline explain motors recorded.csv"]
    assert ALARM in reader.said["skerry data tail"]
