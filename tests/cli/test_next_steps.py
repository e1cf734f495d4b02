"""The lines that `skerry run` prints on a terminal: they are what they should be, and do what they say."""

import os
import pty
import re
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from skerry.cli.next_steps import next_steps
from skerry.cli.starters import contents, pipeline
from skerry.pipeline import SourceSpec
from tests.fixtures.node import until

MQTT = ("127.0.0.1", 1883)
LOOK = ["skerry status", "skerry data tail --follow"]


def published(**source: object) -> str:
    """The line that publishes, of one pipeline with this source."""
    found = next_steps([SourceSpec(**source)], None, MQTT)  # type: ignore[arg-type]  # any fields
    assert found[0] == "skerry device add first --password --out first.password"
    assert found[2:] == LOOK
    head = 'mosquitto_pub -h 127.0.0.1 -p 1883 -u first -P "$(cat first.password)" -q 1 -t '
    assert found[1].startswith(head)
    return found[1].removeprefix(head)


def test_a_message_of_each_format_that_a_line_can_hold() -> None:
    assert published(topic="devices/+/v", values=("a", "b.c", "b.d")) == (
        r'devices/first/v -m "{\"a\": 1.0, \"b\": {\"c\": 1.0, \"d\": 1.0}}"'
    )
    assert published(topic="devices/#", values=("x",), time="at.ts") == (
        r'devices/first/any -m "{\"at\": {\"ts\": $(date +%s)}, \"x\": 1.0}"'
    )
    assert published(topic="devices/+/a/+/#", format="text", values=("x", "y")) == 'devices/first/a/any/any -m "1.0, 1.0"'
    assert published(topic="devices/first/log", format="string") == 'devices/first/log -m "INFO hello"'


@pytest.mark.parametrize("source", [{"topic": "plant/+", "values": ("x",)}, {"topic": "devices/+/v", "format": "float32"}])
def test_where_no_line_can_publish(source: dict[str, object]) -> None:
    spec = SourceSpec(**source)  # type: ignore[arg-type]  # any fields
    assert next_steps([spec], None, MQTT) == LOOK
    assert next_steps([], Path("/etc/a b.toml"), MQTT)[0] == "skerry --config '/etc/a b.toml' status"
    good = SourceSpec("devices/+/v", values=("x",))
    assert next_steps([good], None, None) == LOOK
    assert len(next_steps([spec, good], None, MQTT)) == 4


def test_a_template_with_a_recording_sends_that(tmp_path: Path) -> None:
    file = tmp_path / "skerry.toml"
    for name, content in contents("vibration").items():
        (tmp_path / name).write_bytes(content)
    good = SourceSpec("devices/+/vibration", values=("x",))
    recording = tmp_path / "recorded.csv"
    skerry, secret = f"skerry --config {file}", "--password-file pump-2.password"
    assert next_steps([good], file, MQTT)[:2] == [
        f"{skerry} device add pump-2 --password --out pump-2.password",
        f"{skerry} device simulate pump-2 {secret} --channel vibration --file {recording} --rate 50",
    ]
    elsewhere = SourceSpec("plant/#", values=("x",))
    assert len(next_steps([elsewhere], file, MQTT)) == 2
    recording.write_text("")
    (tmp_path / "recorded.jsonl").write_text("no message")
    recording.unlink()
    assert "mosquitto_pub" in next_steps([good], file, MQTT)[1]


@pytest.mark.parametrize(("template", "seen_key"), [("", "level  first"), ("text-log", "text-log  cell-1")])
def test_the_lines_work_when_they_are_pasted(tmp_path: Path, template: str, seen_key: str) -> None:
    if shutil.which("mosquitto_pub") is None:
        pytest.skip("mosquitto_pub is not here: scripts/ci-packages installs it")
    head = f"""
        [broker]
        mqtt = "127.0.0.1:0"
        [api]
        listen = "127.0.0.1:0"
        [node]
        name = "n{secrets.token_hex(3)}"
    """
    plain = """
        [[pipelines]]
        name = "level"
        source = { topic = "devices/+/v", time = "ts", values = ["x"] }
    """
    (tmp_path / "skerry.toml").write_text(head + (pipeline(template) if template else plain))
    for name, content in contents(template).items():
        (tmp_path / name).write_bytes(content)
    path = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    keyboard, terminal = pty.openpty()
    argv = [sys.executable, "-m", "skerry.cli", "run"]
    with (
        os.fdopen(keyboard, "rb", buffering=0) as screen,
        subprocess.Popen(argv, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal) as node,
    ):
        os.close(terminal)
        try:
            said = ""
            while "data tail --follow\r\n" not in said:
                said += screen.read(4096).decode()
            lines = re.findall(r"^  (\S.*)\r$", said.partition("next, in another terminal:")[2], re.MULTILINE)
            assert len(lines) == 4
            for line in lines[:3]:
                subprocess.run(["bash", "-ec", line], cwd=tmp_path, env=path, check=True, timeout=60, capture_output=True)

            def seen() -> bool:
                argv = ["bash", "-ec", lines[3].removesuffix(" --follow")]
                done = subprocess.run(argv, cwd=tmp_path, env=path, check=True, timeout=60, capture_output=True)
                return seen_key.encode() in done.stdout

            until(seen, 30, "the event")
        finally:
            node.terminate()
            node.wait(30)
