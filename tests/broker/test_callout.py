"""The log-in call-out on a real nats-server with the node's own configuration, and real MQTT clients.

Who gets in is decided here by a table, as the device registry decides in the node: this room knows no devices.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from skerry.broker import ConnectRequest, Decision, Grant, Refusal, WireClient, stream_state
from skerry.broker.config import AGENT, RELAY, SYSTEM
from skerry.broker.wire import Frame
from skerry.core.errors import UnavailableError
from tests.broker.callout_rig import PASSWORDS, Rig, rig, within

Ports = Callable[[int], list[int]]
SESSION = ("$MQTT.sub.>", "$MQTT.deliver.pubrel.>")
# As paho names them: a CONNACK with code 5 is MQTT 5's 0x87.
ACCEPTED, NOT_AUTHORISED, SUBSCRIBE_REFUSED = 0, 0x87, 0x80
WORDS = {"d1": "one", "d2": "two"}


def granted(device: str, **more: Any) -> Grant:
    publish = (f"devices.{device}.>", f"status.{device}")
    return Grant(device, publish, (f"commands.{device}.>", f"commands.{device}", *SESSION), **more)


class Table:
    """Decides by `WORDS`, and keeps what was asked."""

    def __init__(self) -> None:
        self.asked: list[ConnectRequest] = []

    async def decide(self, request: ConnectRequest) -> Decision:
        self.asked.append(request)
        if request.transport == "mqtt" and WORDS.get(request.username) == request.password:
            return granted(request.username)
        return Refusal("bad-password" if request.username in WORDS else "unknown")


async def stored(on: Rig) -> int:
    return int((await stream_state(on.agent, "$MQTT_msgs"))["messages"])


@pytest.mark.asyncio
async def test_a_device_with_its_password_does_all_that_is_its_own(tmp_path: Path, free_ports: Ports) -> None:
    table = Table()
    async with rig(tmp_path, free_ports(3), table.decide) as on:
        for qos in (0, 1, 2):
            async with on.mqtt(f"c{qos}", "d1", "one", clean=False) as device, on.mqtt("r", RELAY, PASSWORDS[RELAY]) as relay:
                assert device.code == ACCEPTED
                await device.publish("devices/d1/vibration", b"x", qos)
                assert await device.subscribe("commands/d1/#", qos) == qos
                for topic in ("commands/d1", "commands/d1/go", "commands/d1/go/on"):
                    await relay.publish(topic, b"c", qos)
                await device.received(3)
                assert sorted(device.messages) == [
                    ("commands/d1", b"c", qos), ("commands/d1/go", b"c", qos), ("commands/d1/go/on", b"c", qos),
                ]  # fmt: skip
        assert len(on.log("Violation")) == 0
    asked = table.asked[1]
    assert len(table.asked) == 3
    assert (asked.username, asked.password, asked.client_id, asked.transport) == ("d1", "one", "c1", "mqtt")
    assert asked.address == "127.0.0.1"


@pytest.mark.asyncio
async def test_a_session_keeps_what_came_while_the_device_was_away(tmp_path: Path, free_ports: Ports) -> None:
    async with rig(tmp_path, free_ports(3), Table().decide) as on:
        async with on.mqtt("c1", "d1", "one", clean=False) as device:
            assert await device.subscribe("commands/d1/#") == 1
        async with on.mqtt("relay", RELAY, PASSWORDS[RELAY]) as relay:
            await relay.publish("commands/d1/go", b"while away")
        async with on.mqtt("c1", "d2", "two", clean=False) as thief:
            await asyncio.sleep(0.5)
            assert thief.code == ACCEPTED
            assert thief.messages == []
        async with on.mqtt("c1", "d1", "one", clean=False) as device:
            await within(5, lambda: device.messages)
            assert device.messages == [("commands/d1/go", b"while away", 1)]


@pytest.mark.asyncio
async def test_wrong_unknown_and_nameless_clients_are_not_authorised(tmp_path: Path, free_ports: Ports) -> None:
    table = Table()
    async with rig(tmp_path, free_ports(3), table.decide) as on:
        names = [("d1", "two"), ("nobody", "one"), (None, None), ("d1", None), ("a b/#", "x"), ("x" * 60_000, "y" * 60_000)]
        for user, password in names:
            async with on.mqtt("c", user, password) as client:
                assert client.code == NOT_AUTHORISED
        assert [request.username for request in table.asked] == [user or "" for user, _ in names]
        async with on.mqtt("c", "d1", "one") as client:
            assert client.code == ACCEPTED
        assert on.callout.refused == {}


@pytest.mark.asyncio
async def test_what_belongs_to_others_is_dropped_and_told_in_the_servers_log(tmp_path: Path, free_ports: Ports) -> None:
    async with rig(tmp_path, free_ports(3), Table().decide) as on, on.mqtt("c1", "d1", "one") as device:
        for topic in ("devices/d2/x", "$JS/API/STREAM/DELETE/x", "$MQTT/msgs/devices/d2/x", "commands/d1/x"):
            for qos in (0, 1, 2):
                await device.publish(topic, b"x", qos)
        assert await stored(on) == 0
        await within(5, lambda: len(on.log("Publish Violation")) >= 12)
        assert on.log('"c1" - Publish Violation - Subject "devices.d2.x"')
        for topic in ("commands/d2/#", "commands/+/x", "#", "devices/d1/#", "$SYS/#", "$JS/#", "$MQTT/#", "$MQTT/sub/#",
                      "$MQTT/deliver/pubrel/+"):  # fmt: skip
            for qos in (0, 1):
                assert await device.subscribe(topic, qos) == SUBSCRIBE_REFUSED
        assert on.log("Subscription Violation")
        await device.publish("devices/d1/x")
        assert await stored(on) == 1


@pytest.mark.asyncio
async def test_a_last_will_speaks_for_its_own_device_only(tmp_path: Path, free_ports: Ports) -> None:
    async with rig(tmp_path, free_ports(3), Table().decide) as on, on.mqtt("relay", RELAY, PASSWORDS[RELAY]) as relay:
        await relay.subscribe("status/#")
        for client_id, topic in (("c1", "status/d2"), ("c2", "status/d1")):
            device = on.mqtt(client_id, "d1", "one")
            device.client.will_set(topic, b"gone", 1)
            async with device:
                await device.break_off()
        await within(5, lambda: relay.messages and on.log('Publish Violation - Subject "status.d2"'))
        assert relay.messages == [("status/d1", b"gone", 1)]


@pytest.mark.asyncio
async def test_the_nodes_own_users_are_never_asked_about(tmp_path: Path, free_ports: Ports) -> None:
    table = Table()
    async with rig(tmp_path, free_ports(3), table.decide) as on:
        async with on.mqtt("relay", RELAY, PASSWORDS[RELAY]) as relay:
            assert relay.code == ACCEPTED
        for user in (AGENT, SYSTEM):
            (await on.nats(user, PASSWORDS[user])).close()
            async with on.mqtt("c", user, PASSWORDS[user]) as wrong_door:
                assert wrong_door.code == NOT_AUTHORISED
        async with on.mqtt("c", RELAY, "guess") as guess:
            assert guess.code == NOT_AUTHORISED
        with pytest.raises(UnavailableError, match="Authorization"):
            await on.nats(RELAY, PASSWORDS[RELAY])
        assert table.asked == []


@pytest.mark.asyncio
async def test_a_devices_password_opens_mqtt_only(tmp_path: Path, free_ports: Ports) -> None:
    async def decide(request: ConnectRequest) -> Decision:
        return granted("d1")

    async with rig(tmp_path, free_ports(3), decide) as on:
        for user, password in (("d1", "one"), ("", "")):
            with pytest.raises(UnavailableError, match="Authorization"):
                await on.nats(user, password)
        assert on.callout.refused == {"not-mqtt": 2}
        async with on.mqtt("c1", "d1", "one") as device:
            assert device.code == ACCEPTED


@pytest.mark.asyncio
async def test_nameless_clients_may_be_let_in_with_sessions_of_their_own(tmp_path: Path, free_ports: Ports) -> None:
    async def decide(request: ConnectRequest) -> Decision:
        trees = ("devices.>", "devices", "commands.>", "commands", "events.>", "events")
        return Refusal("unknown") if request.username else Grant("$anonymous", trees, (*trees, *SESSION))

    async with rig(tmp_path, free_ports(3), decide) as on:
        async with on.mqtt("listener", clean=False) as listener:
            assert listener.code == ACCEPTED
            assert [await listener.subscribe(f"{tree}/#") for tree in ("devices", "commands", "events")] == [1, 1, 1]
            assert await listener.subscribe("#") == SUBSCRIBE_REFUSED
            assert await listener.subscribe("status/#") == SUBSCRIBE_REFUSED
        async with on.mqtt("talker") as talker:
            for topic in ("devices/a/b", "commands/a/b", "events/a/b", "status/a"):
                await talker.publish(topic)
        async with on.mqtt("listener", clean=False) as listener:
            await within(5, lambda: len(listener.messages) == 3)
        async with on.mqtt("c", "named", "x") as named:
            assert named.code == NOT_AUTHORISED


@pytest.mark.asyncio
async def test_a_connection_ends_when_its_grant_does(tmp_path: Path, free_ports: Ports) -> None:
    async def decide(request: ConnectRequest) -> Decision:
        return granted("d1", expires=(time.time_ns() // 1000) + 2_000_000)

    async with rig(tmp_path, free_ports(3), decide) as on, on.mqtt("c1", "d1", "one") as device:
        assert device.code == ACCEPTED
        await within(6, lambda: device.ended)


async def _fails(request: ConnectRequest) -> Decision:
    raise RuntimeError("a defect")


async def _is_away(request: ConnectRequest) -> Decision:
    raise UnavailableError("the store is away")


async def _hangs(request: ConnectRequest) -> Decision:
    await asyncio.Event().wait()
    raise AssertionError


@pytest.mark.asyncio
@pytest.mark.parametrize(("broken", "reason"), [(_fails, "error"), (_is_away, "unavailable"), (_hangs, "timeout")])
async def test_what_goes_wrong_is_a_refusal_and_the_next_is_served(
    tmp_path: Path, free_ports: Ports, broken: Callable[[ConnectRequest], Awaitable[Decision]], reason: str
) -> None:
    async def decide(request: ConnectRequest) -> Decision:
        return await broken(request) if request.username == "odd" else granted("d1")

    async with rig(tmp_path, free_ports(3), decide, patience=0.3) as on:
        async with on.mqtt("c1", "odd", "x") as client:
            assert client.code == NOT_AUTHORISED
        assert on.callout.refused == {reason: 1}
        assert on.log(f"refused: {reason}")
        async with on.mqtt("c1", "d1", "one") as client:
            assert client.code == ACCEPTED


@pytest.mark.asyncio
async def test_more_than_fits_is_refused_at_once(tmp_path: Path, free_ports: Ports) -> None:
    go = asyncio.Event()

    async def decide(request: ConnectRequest) -> Decision:
        await go.wait()
        return granted("d1")

    async with rig(tmp_path, free_ports(3), decide, at_most=2) as on:
        waiting = [asyncio.create_task(on.mqtt(f"c{number}", "d1", "one").__aenter__()) for number in range(2)]
        await within(5, lambda: len(on.callout._asked) == 2)
        async with on.mqtt("c3", "d1", "one") as third:
            assert third.code == NOT_AUTHORISED
        assert on.callout.refused == {"overload": 1}
        go.set()
        for client in await asyncio.gather(*waiting):
            assert client.code == ACCEPTED
            await client.__aexit__(None, None, None)


@pytest.mark.asyncio
async def test_questions_that_no_server_signed_are_answered_with_nothing(tmp_path: Path, free_ports: Ports) -> None:
    table = Table()
    async with rig(tmp_path, free_ports(3), table.decide) as on:
        answers: list[Frame] = []
        on.agent.subscribe(b"test.answers", answers.extend)
        on.callout._take([(b"", b"test.answers", b"", question) for question in (b"", b"rubbish", b"a.b.c")])
        on.callout._take([(b"", b"", b"", b"nobody waits for an answer")])
        await within(5, lambda: len(answers) == 3)
        assert [answer[3] for answer in answers] == [b""] * 3
        assert on.callout.refused == {"unreadable": 3}
        assert table.asked == []
        async with on.mqtt("c1", "d1", "one") as client:
            assert client.code == ACCEPTED


@pytest.mark.asyncio
async def test_without_the_node_nobody_gets_in(tmp_path: Path, free_ports: Ports) -> None:
    async with rig(tmp_path, free_ports(3), Table().decide) as on:
        on.agent.close()
        await within(5, on.agent.closed.done)
        async with on.mqtt("c1", "d1", "one") as client:
            assert client.code == NOT_AUTHORISED


@pytest.mark.asyncio
async def test_it_ends_with_its_connection(tmp_path: Path, free_ports: Ports) -> None:
    async with rig(tmp_path, free_ports(3), Table().decide) as on:
        client: WireClient = on.agent
        client.close()
        await within(5, lambda: not on.callout.ready.is_set())
