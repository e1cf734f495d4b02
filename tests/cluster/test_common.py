"""Three real nodes: what is told to one holds at all of them."""

import asyncio
import shutil
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skerry.cli import main
from skerry.core.errors import RejectedError, UnavailableError
from skerry.device import CHALLENGE_PATH, TOKEN_PATH, DeviceClient, DeviceConfig, answer_to
from skerry.http import Client
from skerry.trust import SigningKey
from tests.cluster.nodes import PIPELINES, Boxes, patiently
from tests.fixtures import models
from tests.system.accounts import ONCE, PIPELINE
from tests.system.fleet import connected
from tests.system.logins import ACCEPTED, CLOSED, log_in, token

SECONDS = 60.0
KEY = SigningKey.new()
HOT = """
[[pipelines]]
name = "hot"
source = { topic = "devices/+/hot", values = ["x"] }
rule = { field = "score", above = 5 }
"""
ASKING = """
[[pipelines]]
name = "{name}"
source = {{ topic = "devices/+/{name}", values = ["x"] }}
capabilities = ["{has}"]
"""


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Boxes]:
    wishes = "".join(ASKING.format(name=name, has=has) for name, has in (("faces", "camera"), ("never", "gpu")))
    with Boxes(tmp_path_factory.mktemp("boxes"), pipelines=PIPELINES + wishes + HOT, together=False) as boxes:
        file = boxes["n2"].file
        file.write_text(file.read_text().replace('name = "n2"', 'name = "n2"\ncapabilities = ["camera"]'))
        boxes.born(*boxes.names)
        yield boxes


def ask(boxes: Boxes, name: str, path: str) -> Any:
    with boxes[name].client() as client:
        return client.get(path)


def tell(boxes: Boxes, name: str, path: str, body: object = None) -> Any:
    with boxes[name].client() as client:
        return client.post(path, body)


def url(boxes: Boxes, name: str) -> str:
    return f"http://{boxes[name].status()['broker']['http']}"


def enter(boxes: Boxes, name: str, device: str, password: str) -> int:
    """The CONNACK's code at one node."""
    return asyncio.run(log_in(boxes[name].mqtt, device, password))


def test_a_device_that_one_node_knows_logs_in_at_all_and_is_thrown_out_at_all(boxes: Boxes) -> None:
    tell(boxes, "n1", "/api/v1/devices", {"id": "d1", "key": KEY.public_pem()})
    given = token(url(boxes, "n2"), "d1", KEY)  # the challenge of n2 for a device that was added at n1
    for name in boxes.names:
        patiently(lambda name=name: enter(boxes, name, "d1", given) == ACCEPTED, SECONDS, f"d1 gets in at {name}")
    client = connected("d1", boxes["n3"].mqtt, "d1", given)
    gone = threading.Event()
    client.on_disconnect = lambda *_: gone.set()
    try:
        patiently(client.is_connected, SECONDS, "d1 is connected to n3")
        tell(boxes, "n2", "/api/v1/devices/d1/revoke")
        assert gone.wait(SECONDS)
    finally:
        client.disconnect()
        client.loop_stop()
    assert [enter(boxes, name, "d1", given) in (ACCEPTED, CLOSED) for name in boxes.names] == [False] * 3


def test_a_challenge_is_answered_where_it_was_given_and_nowhere_else(boxes: Boxes) -> None:
    tell(boxes, "n1", "/api/v1/devices", {"id": "d2", "key": KEY.public_pem()})
    with Client(url(boxes, "n1")) as first, Client(url(boxes, "n2")) as second:
        answer = answer_to("d2", KEY, first.post(CHALLENGE_PATH, {"device": "d2"}))
        with pytest.raises(RejectedError):
            second.post(TOKEN_PATH, answer)
        assert first.post(TOKEN_PATH, answer)["token"]
        for spent in (first, second):
            with pytest.raises(RejectedError):
                spent.post(TOKEN_PATH, answer)


def test_a_client_id_is_one_devices_at_all_nodes(boxes: Boxes) -> None:
    for device in ("d3", "d4"):
        tell(boxes, "n1", "/api/v1/devices", {"id": device, "password": "a-password-of-a-test"})
    mine = connected("shared-id", boxes["n1"].mqtt, "d3", "a-password-of-a-test")
    patiently(mine.is_connected, SECONDS, "d3 is connected to n1")
    theirs = connected("shared-id", boxes["n2"].mqtt, "d4", "a-password-of-a-test")
    answers: list[bool] = []
    theirs.on_connect = lambda client, userdata, flags, reason, properties: answers.append(reason.is_failure)
    try:
        patiently(lambda: len(answers) > 1, SECONDS, "d4 has tried twice")
        assert all(answers)
        patiently(mine.is_connected, SECONDS, "d3 is connected still")
    finally:
        for client in (mine, theirs):
            client.disconnect()
            client.loop_stop()


def test_a_model_that_was_added_at_one_node_runs_at_all(boxes: Boxes, tmp_path: Path) -> None:
    file = models.adding(tmp_path / "m.onnx", 1.5, width=4)
    added = tell(boxes, "n2", "/api/v1/models", {"name": "m", "file": str(file)})
    tell(boxes, "n2", "/api/v1/models/m/activate", {"version": added["version"]})

    def active(name: str) -> bool:
        row = ask(boxes, name, "/api/v1/models/m")
        return bool(row["active"] == added["version"])

    for name in boxes.names:
        patiently(lambda name=name: active(name), SECONDS, f"m is active at {name}")
        assert (boxes[name].data / "models" / "blobs" / added["sha256"]).read_bytes() == file.read_bytes()


def test_a_pause_and_a_token_hold_at_all_nodes(boxes: Boxes) -> None:
    made = tell(boxes, "n3", "/api/v1/tokens", {"name": "viewer", "scopes": ["read"]})
    for paused, word in ((True, "pause"), (False, "resume")):
        tell(boxes, "n2", f"/api/v1/pipelines/{ONCE}/{word}")
        for name in boxes.names:
            file = boxes[name].data / "paused.json"
            patiently(lambda file=file, paused=paused: (ONCE in file.read_text()) == paused, SECONDS, f"{word} holds at {name}")

    def let_in(name: str) -> bool:
        with Client(url(boxes, name), token=made["token"]) as client:
            return any(row["id"] == "n1" for row in client.get("/api/v1/cluster/members")["members"])

    for name in boxes.names:
        patiently(lambda name=name: let_in(name), SECONDS, f"the token is good at {name}")


def test_a_pipeline_runs_where_its_capabilities_are_and_says_where_they_are_not(boxes: Boxes) -> None:
    patiently(lambda: boxes["n1"].pipeline("faces")["nodes"] == {"n2": [0, 1, 2, 3]}, SECONDS, "faces runs on n2 alone")
    patiently(lambda: boxes["n2"].pipeline("faces")["state"] == "running", SECONDS, "it runs there")
    assert (boxes["n1"].pipeline("faces")["state"], boxes["n1"].pipeline("faces")["reason"]) == ("elsewhere", "runs on n2")
    for name in boxes.names:
        row = boxes[name].pipeline("never")
        assert (row["state"], row["nodes"]) == ("pending", {})
        assert row["reason"].startswith("pending: needs capability 'gpu', which no member has")


def test_an_alarm_that_is_acknowledged_at_one_node_is_acknowledged_at_all(boxes: Boxes) -> None:
    tell(boxes, "n1", "/api/v1/devices", {"id": "d6", "password": "a-password-of-a-test"})
    client = connected("d6", boxes["n3"].mqtt, "d6", "a-password-of-a-test")
    try:
        patiently(client.is_connected, SECONDS, "d6 is connected")
        client.publish("devices/d6/hot", '{"x": 9}', qos=1).wait_for_publish(SECONDS)
        patiently(lambda: ask(boxes, "n1", "/api/v1/alarms")["alarms"], SECONDS, "it fires")
        (alarm,) = ask(boxes, "n1", "/api/v1/alarms")["alarms"]
        tell(boxes, "n2", f"/api/v1/alarms/{alarm['alarm_id']}/acknowledge", {"comment": "on my way"})
        for name in boxes.names:
            (row,) = ask(boxes, name, "/api/v1/alarms")["alarms"]
            assert row["acknowledged"]["comment"] == "on my way", name
    finally:
        client.disconnect()
        client.loop_stop()


async def publish_once(config: DeviceConfig) -> None:
    async with DeviceClient(config) as device:
        await device.publish("numbers", "{}", timeout=SECONDS)


def test_where_devices_reach_all_nodes(boxes: Boxes, tmp_path: Path) -> None:
    def known() -> bool:
        return [each["node"] for each in ask(boxes, "n2", "/api/v1/devices")["nodes"]] == ["n2", "n1", "n3"]

    patiently(known, SECONDS, "n2 knows where all are")
    shown = {each["node"]: each["mqtt"] for each in ask(boxes, "n2", "/api/v1/devices")["nodes"]}
    assert shown == {name: "{}:{}".format(*boxes[name].mqtt) for name in boxes.names}
    made = boxes["n2"].cli("device", "add", "d5", "--out", str(tmp_path / "d5.key"))
    asyncio.run(publish_once(DeviceConfig("d5", key_file=made["key_file"], nodes=made["nodes_file"], connect_timeout=SECONDS)))


def test_a_node_that_lost_its_models_has_them_before_its_pipelines_run(boxes: Boxes) -> None:
    node = boxes["n3"]
    node.stop()
    shutil.rmtree(node.data / "models")
    node.write(PIPELINE.format(name=ONCE, dedup="time", lateness="30s") + 'model = "m@active"\n')
    node.begin()
    node.wait_ready(SECONDS)

    def loaded() -> bool:
        return "m@" in str(node.pipeline(ONCE)["model"]) and bool(ask(boxes, "n3", "/api/v1/models/m")["active"])

    patiently(loaded, SECONDS, "the pipeline of n3 runs with its model")

    def named() -> bool:
        return any(
            sentence.startswith("n3 ") and f"another pipeline {ONCE}" in sentence for sentence in boxes["n1"].status()["warnings"]
        )

    patiently(named, SECONDS, "n1 says that n3 has another pipeline")


def test_without_a_quorum_what_a_node_has_is_read_and_said_to_be_old(boxes: Boxes, capsys: pytest.CaptureFixture[str]) -> None:
    """The last one: the others are dead after it."""
    before = {path: ask(boxes, "n1", path) for path in READ}
    for name in ("n2", "n3"):
        boxes.kill(name)
    patiently(lambda: ask(boxes, "n1", "/api/v1/cluster/leader")["no_quorum_since"], SECONDS, "there is no quorum")
    for path in READ:
        assert said(ask(boxes, "n1", path)) == said(before[path]), path
    stale = headers(f"{url(boxes, 'n1')}/api/v1/devices")["Skerry-Stale"]
    assert stale.startswith("no quorum since 2")
    assert main(["--config", str(boxes["n1"].file), "device", "list"]) == 0
    found = capsys.readouterr()
    assert "d6" in found.out
    assert found.err.startswith("no quorum since 2")
    (alarm,) = ask(boxes, "n1", "/api/v1/alarms")["alarms"]
    with pytest.raises(UnavailableError):
        tell(boxes, "n1", f"/api/v1/alarms/{alarm['alarm_id']}/comment", {"comment": "who reads this?"})
    with pytest.raises(UnavailableError):
        tell(boxes, "n1", "/api/v1/devices/d6/revoke")


READ = tuple(f"/api/v1/{path}" for path in ("devices", "devices/d6", "events?pipeline=hot", "alarms", "pipelines/hot/deadletters"))


def said(answer: Any) -> Any:
    """Without who is connected, and where."""
    if isinstance(answer, dict):
        passing = ("connected", "last_seen", "since", "messages", "bytes", "nodes", "last_login")
        return {name: said(value) for name, value in answer.items() if name not in passing}
    return [said(each) for each in answer] if isinstance(answer, list) else answer


def headers(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.headers
