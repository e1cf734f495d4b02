"""docs/devices.md is true: its log-ins are run, step by step, against a real node; its constants are the code's."""

import base64
import ctypes
import json
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import paho.mqtt.client as mqtt
import pytest

from skerry import DeviceConfig
from skerry.cli import main
from skerry.device import CHALLENGE_PATH, TOKEN_PATH, read_key
from skerry.device.challenge import BYTES, PREFIX, signed_message
from skerry.device.permissions import OWN
from tests.docs.blocks import ROOT, Block, blocks
from tests.fixtures.node import RunningNode, until

DEVICES = ROOT / "docs" / "devices.md"
TEXT = DEVICES.read_text("utf-8")
READINGS = """
[[pipelines]]
name = "readings"
source = { topic = "devices/+/readings", values = ["value"] }
"""


def block(language: str, heading: str) -> Block:
    """The first block of a language under a heading."""
    start = TEXT[: TEXT.index(f"\n## {heading}\n")].count("\n") + 1
    return next(each for each in blocks(language, [DEVICES]) if int(each.place.rpartition(":")[2]) > start)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    with RunningNode(tmp_path_factory.mktemp("node"), READINGS) as running:
        yield running


@pytest.fixture(scope="module")
def key(node: RunningNode) -> Path:
    """The key of pump-1, made and made known as the document says."""
    made = block("sh", "Key and challenge").text.splitlines()
    assert [line.split()[0] for line in made] == ["openssl", "openssl", "skerry", "skerry"]
    subprocess.run(made[0], shell=True, check=True, cwd=node.folder)
    subprocess.run(made[1], shell=True, check=True, cwd=node.folder)
    arguments = made[2].split()[1:]
    arguments[arguments.index("pump-1.pub")] = str(node.folder / "pump-1.pub")
    assert main(["--config", str(node.file), *arguments]) == 0
    return node.folder / "pump-1.key"


def events(node: RunningNode) -> int:
    return sum(event["key"] == "pump-1" for event in node.events("readings"))


def test_the_log_in_of_the_shell_step_by_step(node: RunningNode, key: Path) -> None:
    for program in ("openssl", "curl", "mosquitto_pub", "bash"):
        if shutil.which(program) is None:
            pytest.skip(f"optional: {program} is not installed")
    found, before = node.status()["broker"], events(node)
    script = next(each.text for each in blocks("sh", [DEVICES]) if each.info == "file=login.sh")
    assert script.count("http://127.0.0.1:8080/") == 2
    script = script.replace("127.0.0.1:8080", found["http"]).replace("-p 1883", f"-p {found['mqtt'].rpartition(':')[2]}")
    steps = script.partition("}\n\n")
    script = steps[0] + steps[1] + steps[2] + 'printf "%s\\n" "$CHALLENGE" "$SIGNATURE" "$TOKEN"\n'
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=node.folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    challenge, signature, token = done.stdout.split()
    assert len(base64.b64decode(challenge, validate=True)) == BYTES
    message = (node.folder / "message").read_bytes()
    assert message == signed_message("pump-1", base64.b64decode(challenge))
    assert base64.b64decode(signature, validate=True) == read_key(key).sign(message)
    assert len(token) == 125
    until(lambda: events(node) == before + 1, 10, "the reading is an event")


def test_the_log_in_of_micropython(node: RunningNode, key: Path) -> None:
    found, before = node.status()["broker"], events(node)
    names: dict[str, Any] = {}
    exec(compile(block("micropython", "In MicroPython").text, "micropython", "exec"), names)

    def post(path: str, body: dict[str, str]) -> Any:
        request = urllib.request.Request(f"http://{found['http']}{path}", json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=5) as answer:
            return json.load(answer)

    def connect(client_id: str, user: str, password: str) -> mqtt.Client:
        """paho in the place of umqtt.simple, whose publish takes bytes."""

        class Client(mqtt.Client):
            def publish(self, topic: Any, payload: Any = None, qos: int = 0, *rest: Any, **named: Any) -> mqtt.MQTTMessageInfo:
                return super().publish(topic.decode(), payload, qos, *rest, **named)

        client = Client(mqtt.CallbackAPIVersion.VERSION2, client_id=client_id)
        client.username_pw_set(user, password)
        client.connect(*node.mqtt)
        client.loop_start()
        return client

    client = names["run"](connect, "pump-1", read_key(key).sign, post)
    until(lambda: events(node) == before + 1, 10, "the reading is an event")
    client.disconnect()
    client.loop_stop()


def test_the_message_of_c(tmp_path: Path) -> None:
    source = block("c", "In C").text
    prefix = re.search(r'PREFIX\[\] = "([^"]*)";', source)
    assert prefix is not None
    assert prefix[1].encode() + b"\0" == PREFIX
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("optional: no C compiler")
    (tmp_path / "login.c").write_text(source)
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([compiler, *flags, "-o", "login.so", "login.c"], cwd=tmp_path, check=True)
    function = ctypes.CDLL(str(tmp_path / "login.so")).login_message
    function.restype = ctypes.c_size_t
    out, challenge = ctypes.create_string_buffer(200), bytes(range(32))
    size = function(out, b"pump-1", challenge)
    assert out.raw[:size] == signed_message("pump-1", challenge)
    assert not any(out.raw[size:])


def test_constants_and_topics_are_the_code_s() -> None:
    prefix = PREFIX.decode().removesuffix("\0")
    assert f"`{prefix}`, a zero byte, its id, a zero byte" in TEXT
    assert set(re.findall(r"POST (/auth/\w+)", TEXT)) == {CHALLENGE_PATH, TOKEN_PATH}
    assert {"pub:devices/{device}/#", "pub:status/{device}", "sub:commands/{device}/#"} == set(OWN)
    for mentioned in ("`devices/<its id>/<channel>`", "`commands/<its id>/#`", "`status/<its id>`"):
        assert mentioned in TEXT
    steps = block("text", "In C").text
    for topic in ("devices/ID/readings", "commands/ID/#", "status/ID"):
        assert topic in steps


def test_every_setting_of_the_client_is_listed_with_its_default() -> None:
    section = TEXT.partition("\n## In Python\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1:3] for line in section.splitlines() if line.startswith("| `")]
    defaults: dict[str, str] = {}
    for names, values in rows:
        listed = re.findall(r"`(\w+)`", names)
        shown = re.findall(r"`([^`]+)`", values)
        defaults.update(zip(listed, shown if len(shown) == len(listed) else [""] * len(listed), strict=True))
    assert set(defaults) | {"cert_key"} == {field.name for field in msgspec.structs.fields(DeviceConfig)}
    for field in msgspec.structs.fields(DeviceConfig):
        if defaults.get(field.name):
            assert json.loads(defaults[field.name]) == field.default, field.name
