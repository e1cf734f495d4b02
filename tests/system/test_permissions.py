"""Devices against each other on a real node: topics that are not theirs, client ids that are others', and being thrown out."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.request import urlopen

import msgspec
import pytest
import pytest_asyncio

from tests.broker.callout_rig import Mqtt, within
from tests.fixtures.node import RunningNode
from tests.fixtures.raw_mqtt import RawMqtt

NOT_AUTHORISED, SUBSCRIBE_REFUSED = 0x87, 0x80
PASSWORD = "a-password-of-a-test"
DEVICES = {"d1": [], "d2": [], "viewer": ["sub:devices/#", "sub:status/#"], "pump": []}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    with RunningNode(tmp_path_factory.mktemp("permissions")) as node:
        for device, topics in DEVICES.items():
            add(node, device, topics)
        yield node


def add(node: RunningNode, device: str, topics: list[str]) -> None:
    with node.client() as client:
        client.post("/api/v1/devices", {"id": device, "password": PASSWORD, "topics": topics})


def show(node: RunningNode, device: str) -> dict[str, Any]:
    with node.client() as client:
        found: dict[str, Any] = client.get(f"/api/v1/devices/{device}")
    return found


def call(node: RunningNode, path: str) -> None:
    with node.client() as client:
        client.post(path)


def audit(node: RunningNode) -> list[dict[str, Any]]:
    """What `skerry logs --audit` shows."""
    argv = [sys.executable, "-m", "skerry.cli", "--config", str(node.file), "--json", "logs", "--audit", "-n", "100000"]
    answer = subprocess.run(argv, capture_output=True, check=True, timeout=20)
    entries: list[dict[str, Any]] = msgspec.json.decode(answer.stdout)["audit"]
    return entries


def metrics(node: RunningNode, name: str) -> dict[str, str]:
    with urlopen(f"http://{node.status()['broker']['http']}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith(name))


class Door:
    """Clients of the node's devices."""

    def __init__(self, node: RunningNode) -> None:
        self.node = node
        self.port = node.mqtt[1]

    def device(self, device: str, client_id: str = "", *, clean: bool = True, password: str = PASSWORD) -> Mqtt:
        return Mqtt(self.port, client_id or f"{device}-1", device, password, clean=clean)

    def anonymous(self, client_id: str) -> Mqtt:
        return Mqtt(self.port, client_id)


@pytest_asyncio.fixture
async def door(node: RunningNode) -> AsyncIterator[Door]:
    yield Door(node)


@pytest.mark.asyncio
async def test_a_client_id_is_its_first_devices_and_no_other_ends_it(door: Door) -> None:
    async with door.device("d1", "mine", clean=False) as owner:
        assert owner.code == 0
        assert await owner.subscribe("commands/d1/#") == 1
        for clean in (True, False):
            async with door.device("d2", "mine", clean=clean) as thief:
                assert thief.code == NOT_AUTHORISED
        async with door.anonymous("mine") as thief:
            assert thief.code == NOT_AUTHORISED
        await owner.publish("devices/d1/x")
        assert not owner.ended
    async with door.anonymous("relay") as relay:
        await relay.publish("commands/d1/go", b"while away")
    async with door.device("d2", "mine") as thief:
        assert thief.code == NOT_AUTHORISED
    async with door.device("d1", "mine", clean=False) as owner:
        await owner.received(1)
        assert owner.messages == [("commands/d1/go", b"while away", 1)]
    assert show(door.node, "d1")["client_ids"] == ["mine"]
    refused = [entry for entry in audit(door.node) if entry.get("reason") == "client-id-taken"]
    assert {entry.get("by", "") for entry in refused} == {"d2", ""}


@pytest.mark.asyncio
async def test_a_devices_id_is_no_other_devices_client_id_nor_is_the_nodes(door: Door) -> None:
    for client in (door.device("d2", "pump"), door.anonymous("pump"), door.device("d2", "$skerry-rock")):
        async with client as thief:
            assert thief.code == NOT_AUTHORISED
    async with door.device("pump", "pump") as pump:
        assert pump.code == 0
        async with door.device("d2", "pump") as thief:
            assert thief.code == NOT_AUTHORISED
        assert not pump.ended


@pytest.mark.asyncio
async def test_one_device_twice(door: Door) -> None:
    """Two client ids live side by side; of one client id the newer connection lives (MQTT 3.1.1, 3.1.4-2)."""
    async with door.device("d1", "first") as first, door.device("d1", "second") as second:
        await first.subscribe("commands/d1/#")
        await second.subscribe("commands/d1/#")
        async with door.anonymous("relay") as relay:
            await relay.publish("commands/d1/go")
        await first.received(1)
        await second.received(1)
        async with door.device("d1", "first") as newer:
            assert newer.code == 0
            await within(5, lambda: first.ended)
            assert not newer.ended
            assert not second.ended


FOREIGN_FILTERS = [
    "devices/#", "devices/d2/x", "devices/+/x", "+/d2/x", "+/x/#", "#", "+/#", "/#", "+", "+/+/+", "commands/#", "commands/d2",
    "commands/d2/#", "commands/+/go", "commands/*/go", "commands/>", "*/#", "status/#", "events/#", "$SYS/#", "$JS/#",
    "+/sub/#", "$MQTT.sub/#", "$KV/#", "_INBOX/#", "skerry/#",
    "$share/g/commands/d2/#", "$share/g/#", "commands//d1", "commands/d1.d2", "commands/D1/#", "commands/d1\u200b/#",
    "commands/ｄ1/#",
]  # fmt: skip

SILENT_FILTERS = ["$MQTT/#", "$MQTT/sub/#", "$MQTT/sub/+", "$MQTT/deliver/pubrel/+"]
"""Refused too, but the server writes no line."""


@pytest.mark.asyncio
async def test_nobody_reads_what_is_anothers(door: Door) -> None:
    async with door.device("d2") as other, door.device("d1") as device:
        before = show(door.node, "d1")["refused"]["subscribe"]
        other.client.publish("devices/d2/kept", b"retained", 1, retain=True)
        granted = {topic: await device.subscribe(topic) for topic in FOREIGN_FILTERS + SILENT_FILTERS}
        assert {topic for topic, code in granted.items() if code != SUBSCRIBE_REFUSED} == set()
        assert await device.subscribe("commands/d1/#") == 1
        for topic in ("devices/d2/x", "devices/d2/kept", "status/d2"):
            await other.publish(topic, b"secret")
        await asyncio.sleep(0.3)
        assert device.messages == []
        await within(5, lambda: show(door.node, "d1")["refused"]["subscribe"] == before + len(FOREIGN_FILTERS))
    async with door.device("viewer") as viewer:
        assert await viewer.subscribe("devices/+/kept") == 1
        await viewer.received(1)
        assert viewer.messages == [("devices/d2/kept", b"retained", 1)]


FOREIGN_TOPICS = [
    "devices/d2/x", "devices/d2", "devices/d11/x", "status/d2", "status/d1/x", "commands/d1/x", "commands/d2/x", "events/p/k",
    "skerry/events/x", "$SYS/x", "$JS/API/STREAM/DELETE/KV_skerry_devices", "$JS/API/INFO", "$MQTT/msgs/devices/d2/x",
    "$MQTT/sub/x", "$MQTT/rmsgs/x", "$KV/skerry_devices/ZGV2aWNlL2Qx", "_INBOX/x", "devices//d1/x", "/devices/d1/x", "//", "/",
    "devices/d1.x/x", "devices.d1.x", "devices/*/x", "devices/>", ">", "*", "Devices/d1/x", "devices/D1/x", "devices/d1\u200b/x",
    "devices/ｄ1/x", "devices/d\u0131/x", "d1", "devices",
]  # fmt: skip


@pytest.mark.asyncio
async def test_nobody_writes_what_is_anothers_nor_keeps_it(door: Door) -> None:
    writer = door.device("d1")
    writer.client.max_inflight_messages_set(1000)
    async with door.device("viewer") as viewer, door.device("d2") as other, writer as device:
        kept = other.client.publish("status/d2", b"up", 1, retain=True)
        await asyncio.to_thread(kept.wait_for_publish, 5)
        await asyncio.sleep(0.3)  # the server keeps it for later subscribers a moment after it has acknowledged it
        await viewer.subscribe("status/d2")
        await viewer.received(1)
        before = show(door.node, "d1")["refused"]["publish"]
        for topic in FOREIGN_TOPICS:
            for qos, payload in ((0, b"forged"), (1, b"forged"), (2, b"forged"), (1, b"")):
                device.client.publish(topic, payload, qos, retain=True)
        expected = before + 4 * len(FOREIGN_TOPICS)
        await within(20, lambda: show(door.node, "d1")["refused"]["publish"] >= expected)
        await device.publish("devices/d1/last")
        refused = show(door.node, "d1")["refused"]
        assert refused["publish"] == expected
        assert (refused["last"], refused["last_topic"]) == ("publish", FOREIGN_TOPICS[-1])
        assert not device.ended
    async with door.device("viewer") as viewer, door.anonymous("all") as everybody:
        assert await viewer.subscribe("devices/#") == 1
        assert await viewer.subscribe("status/#") == 1
        assert await everybody.subscribe("commands/#") == 1
        assert await everybody.subscribe("events/#") == 1
        await asyncio.sleep(0.3)
        found = {topic: payload for topic, payload, _ in [*viewer.messages, *everybody.messages]}
        assert b"forged" not in found.values()
        assert found["status/d2"] == b"up"


@pytest.mark.asyncio
async def test_what_is_retained_is_retained_for_its_own_topics(door: Door) -> None:
    async with door.device("d1") as device:
        device.client.publish("devices/d1/setting", b"5", 1, retain=True)
        await device.publish("devices/d1/x")
    async with door.device("viewer") as viewer:
        assert await viewer.subscribe("devices/d1/setting") == 1
        await viewer.received(1)
        assert viewer.messages == [("devices/d1/setting", b"5", 1)]


@pytest.mark.asyncio
async def test_a_last_will_on_anothers_topic_is_not_spoken_and_not_kept(door: Door) -> None:
    async with door.device("viewer") as viewer:
        await viewer.subscribe("status/#")
        await viewer.subscribe("devices/#")
        await asyncio.sleep(0.2)
        viewer.messages.clear()

        async def die(number: int, topic: str, retain: bool) -> None:
            device = door.device("d1", f"will-{number}-{retain}")
            device.client.will_set(topic, b"gone", 1, retain=retain)
            async with device:
                assert device.code == 0
                await asyncio.to_thread(asyncio.run, device.break_off())

        async with door.device("d1") as first:  # from now on its password costs no hash
            assert first.code == 0
        topics = ["status/pump", "devices/pump/x", "commands/pump/x", "$SYS/x", "status/d1"]
        await asyncio.gather(*[die(at, topic, retain) for at, topic in enumerate(topics) for retain in (False, True)])
        await viewer.received(2)
        await asyncio.sleep(0.2)
        assert viewer.messages == [("status/d1", b"gone", 1)] * 2
    async with door.device("viewer") as viewer:
        await viewer.subscribe("status/pump")
        await asyncio.sleep(0.2)
        assert viewer.messages == []


@pytest.mark.asyncio
async def test_odd_topics_of_its_own_hurt_nobody(door: Door) -> None:
    """Empty levels, dots, wildcards of the server, long ones: taken, or the connection is ended; the node goes on."""
    tails = ["", "/", "//", ".", "..", "../../d2/x", "*", ">", "a/*/>", "é", "$x", "x" * 5000, "a/" * 200, "." * 2000]
    async with door.device("d1") as device, door.device("viewer") as viewer:
        await viewer.subscribe("devices/d2/#")
        await asyncio.sleep(0.2)
        viewer.messages.clear()
        for tail in tails:
            await device.publish(f"devices/d1/{tail}")
        assert viewer.messages == []
    port = door.port
    for topic in (b"devices/d1/a b", b"devices/d1/#", b"devices/d1/+", b"devices/d1/\0", b"devices/d1/\xff", b""):
        with await asyncio.to_thread(RawMqtt, port, "odd") as raw:
            assert not await asyncio.to_thread(raw.publish, topic, b"x")
    async with door.device("d1") as device:
        await device.publish("devices/d1/x")
    assert door.node.status()["ready"]


@pytest.mark.asyncio
async def test_a_revoked_device_is_out_within_a_second_and_stays_out(door: Door) -> None:
    add(door.node, "bad", [])
    stop = asyncio.Event()
    codes: list[int | None] = []

    async def come_back(name: str) -> None:
        while not stop.is_set():
            async with door.device("bad", name) as client:
                codes.append(client.code)
                await asyncio.sleep(0.005)

    async with door.device("bad", "steady") as steady, door.device("d2") as bystander:
        hammers = [asyncio.create_task(come_back(f"bad-{number}")) for number in range(3)]
        await within(5, lambda: len(codes) > 10)
        await asyncio.to_thread(call, door.node, "/api/v1/devices/bad/revoke")
        await within(1, lambda: steady.ended)
        seen = len(codes) + len(hammers)
        await within(10, lambda: len(codes) > seen + 3)
        stop.set()
        await asyncio.gather(*hammers)
        assert set(codes[seen:]) == {NOT_AUTHORISED}
        assert not bystander.ended


@pytest.mark.asyncio
async def test_what_a_removed_device_had_is_free_for_the_next(door: Door) -> None:
    add(door.node, "short", [])
    async with door.device("short", "handed-on") as client:
        assert client.code == 0
        with door.node.client() as api:
            await asyncio.to_thread(api.delete, "/api/v1/devices/short")
        await within(1, lambda: client.ended)
    async with door.device("d1", "handed-on") as client:
        assert client.code == 0


@pytest.mark.asyncio
async def test_all_of_it_is_in_the_audit_log_and_the_metrics(door: Door) -> None:
    node = door.node
    add(node, "noted", [])
    async with door.device("noted", password="wrong") as stranger, door.device("noted", "noted-2") as device:
        assert stranger.code == NOT_AUTHORISED
        await device.publish("devices/d1/x")
        assert await device.subscribe("#") == SUBSCRIBE_REFUSED
        await within(5, lambda: show(node, "noted")["refused"]["subscribe"])
    entries = audit(node)
    events = {entry["event"] for entry in entries if "noted" in (entry.get("by"), entry.get("id"))}
    assert events == {"device added", "log-in", "log-in refused", "publish refused", "subscribe refused"}
    assert {entry["address"] for entry in entries if entry["event"].endswith("refused")} == {"127.0.0.1"}
    assert PASSWORD not in str(entries)
    assert (node.data / "logs" / "audit-clients.log").stat().st_mode & 0o777 == 0o600
    counts = await asyncio.to_thread(metrics, node, "skerry_device_refused_total")
    assert float(counts['skerry_device_refused_total{kind="subscribe"}']) >= 1


@pytest.mark.asyncio
async def test_who_owns_a_client_id_is_known_after_a_crash(node: RunningNode) -> None:
    door = Door(node)
    async with door.device("d1", "lasting") as owner:
        assert owner.code == 0
    node.kill("all")
    node.start()
    door = Door(node)
    async with door.device("d2", "lasting") as thief:
        assert thief.code == NOT_AUTHORISED
    async with door.device("d1", "lasting") as owner:
        assert owner.code == 0
