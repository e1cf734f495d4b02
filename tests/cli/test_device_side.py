"""`skerry device login | simulate` against a real node."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest

from skerry.trust import SigningKey
from tests.cli.conftest import Call
from tests.fixtures.node import RunningNode, until

PIPELINES = """
[[pipelines]]
name = "readings"
source = { topic = "devices/+/readings", time = "ts", values = ["value"] }
[[pipelines]]
name = "vibration"
source = { topic = "devices/+/vibration", time = "ts", values = ["x", "y", "z"] }
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    """A node with a device `keyed` and a device `worded`, and their credentials beside its configuration."""
    folder = tmp_path_factory.mktemp("node")
    with RunningNode(folder, PIPELINES) as node:
        key = SigningKey.new()
        (folder / "keyed.key").write_text(key.pem())
        with node.client() as client:
            client.post("/api/v1/devices", {"id": "keyed", "key": key.public_pem()})
            added = client.post("/api/v1/devices", {"id": "worded"})
        (folder / "worded.txt").write_text(f"{added['password']}\n")
        yield node


@pytest.fixture
def on_the_node(call: Call, running: RunningNode) -> Call:
    """Calls with the node's configuration."""
    return lambda *arguments: call("--config", running.file, *arguments)


def connects(running: RunningNode, user: str, password: str) -> bool:
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=user, reconnect_on_failure=False)
    client.username_pw_set(user, password)
    answers: list[bool] = []
    client.on_connect = lambda _client, _data, _flags, reason, _properties: answers.append(not reason.is_failure)
    client.connect(*running.mqtt)
    client.loop_start()
    until(lambda: answers, 5, "an answer")
    client.disconnect()
    client.loop_stop()
    return answers[0]


def test_login_prints_a_token_that_gets_in(on_the_node: Call, running: RunningNode) -> None:
    answer = on_the_node("device", "login", "keyed", "--key", running.folder / "keyed.key")
    token = answer.out.strip()
    assert answer.out == f"{token}\n"
    assert "valid for 3600 s: mosquitto_pub -u keyed" in answer.err
    assert token not in answer.err
    assert connects(running, "keyed", token)
    assert not connects(running, "worded", token)


def test_login_over_http_and_in_json(call: Call, running: RunningNode) -> None:
    url = f"http://{running.status()['broker']['http']}"
    answer = call("device", "login", "keyed", "--key", running.folder / "keyed.key", "--url", url, "--json")
    found = json.loads(answer.out)
    assert (set(found), found["expires_in"], answer.err) == ({"token", "expires_in"}, 3600, "")
    assert connects(running, "keyed", found["token"])


def test_a_login_that_is_refused(on_the_node: Call, running: RunningNode) -> None:
    for name in ("worded", "nobody"):
        answer = on_the_node("device", "login", name, "--key", running.folder / "keyed.key")
        assert (answer.code, answer.out) == (1, "")
        assert answer.err == f"error: {name}: not authorised; look on the node: skerry device show {name}\n"
    answer = on_the_node("device", "login", "keyed", "--key", "nosuch.key")
    assert (answer.code, answer.err.startswith("error: nosuch.key: cannot be read: No such file")) == (2, True)
    answer = on_the_node("device", "login", "keyed", "--key", running.folder / "worded.txt")
    assert (answer.code, "holds no private key in PEM; make one" in answer.err) == (1, True)


def test_login_without_a_node(call: Call, running: RunningNode, free_port: int) -> None:
    answer = call("device", "login", "keyed", "--key", running.folder / "keyed.key", "--url", f"http://127.0.0.1:{free_port}")
    assert answer.code == 3
    assert "the node is not reachable" in answer.err


def test_simulate_publishes_and_counts(on_the_node: Call, running: RunningNode) -> None:
    answer = on_the_node("device", "simulate", "keyed", "--key", running.folder / "keyed.key", "--rate", 50, "--seconds", 1)
    assert answer.code == 0, answer.err
    assert answer.out.startswith("sent 50, acknowledged 50 in 1.")
    assert answer.err == "connected; 50 readings a second on devices/keyed/readings, Ctrl-C ends it\n"
    until(lambda: len([event for event in running.events("readings") if event["key"] == "keyed"]) == 50, 10, "all are scored")


def test_simulate_over_http(call: Call, running: RunningNode) -> None:
    broker = running.status()["broker"]
    answer = call(
        "device", "simulate", "keyed", "--key", running.folder / "keyed.key", "--rate", 100, "--seconds", 0.1, "--url",
        f"http://{broker['http']}", "--broker", f"mqtt://{broker['mqtt']}", "-q",
    )  # fmt: skip
    assert (answer.code, answer.out, answer.err) == (0, "", "")


def test_simulate_with_a_password_and_a_file(on_the_node: Call, running: RunningNode, tmp_path: Path) -> None:
    (tmp_path / "recorded.csv").write_text("device,ts,x,y,z\nold,1,0.5,0.25,9.5\nold,2,1.5,0.25,9.5\n")
    answer = on_the_node(
        "device", "simulate", "worded", "--password-file", running.folder / "worded.txt", "--csv", "recorded.csv", "--rate", 100,
        "--channel", "vibration", "--json",
    )  # fmt: skip
    found = json.loads(answer.out)
    assert (found["device"], found["sent"], found["acknowledged"], found["failed"]) == ("worded", 2, 2, 0)
    until(lambda: len(running.events("vibration")) == 2, 10, "both are scored")
    first = running.events("vibration")[0]
    assert (first["key"], first["score"]) == ("worded", 0.5)
    assert first["start"] > "2026"


def test_simulate_ends_with_its_counts_on_ctrl_c(running: RunningNode) -> None:
    command = [sys.executable, "-m", "skerry.cli", "--config", str(running.file), "device", "simulate", "keyed"]
    command += ["--key", str(running.folder / "keyed.key"), "--rate", "20"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("connected; 20 readings a second")
        time.sleep(0.5)
        process.send_signal(2)
        out, _ = process.communicate(timeout=15)
    assert process.returncode == 0
    assert out.startswith("sent ")
    sent, acknowledged = out.split()[1], out.split()[3]
    assert sent == f"{acknowledged},"


def test_simulate_says_what_is_missing(on_the_node: Call, running: RunningNode) -> None:
    key = running.folder / "keyed.key"
    cases = [
        ((), 2, "device simulate: needs one credential; allowed: --key FILE or --password-file FILE"),
        (("--key", key, "--password-file", key), 2, "needs one credential"),
        (("--password-file", "nosuch"), 2, "nosuch: cannot be read: No such file or directory; name the file"),
        (("--key", key, "--channel", "a/#"), 1, "'a/#' is no channel"),
        (("--key", key, "--csv", "nosuch.csv"), 2, "nosuch.csv: cannot be read"),
        (("--key", key, "--broker", "http://x"), 2, "is not a broker"),
    ]
    for arguments, code, sentence in cases:
        answer = on_the_node("device", "simulate", "keyed", *arguments)
        assert (answer.code, answer.out) == (code, ""), answer
        assert sentence in answer.err
    (running.folder / "empty.txt").write_text("\n")
    answer = on_the_node("device", "simulate", "worded", "--password-file", running.folder / "empty.txt")
    assert (answer.code, "holds no password" in answer.err) == (2, True)


def test_simulate_as_somebody_else_is_refused(on_the_node: Call, running: RunningNode) -> None:
    (running.folder / "guess.txt").write_text("guess\n")
    answer = on_the_node("device", "simulate", "worded", "--password-file", running.folder / "guess.txt")
    assert answer.code == 1
    assert "not authorised" in answer.err
    assert "look on the node: skerry device show worded" in answer.err
