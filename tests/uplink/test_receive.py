"""The receiver over a real nats-server: each record one message, once, whatever ends in between and however often it comes."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from skerry.broker import LOG, WireClient, read_page
from skerry.core.errors import OverloadedError, RejectedError, UnavailableError
from skerry.mqtt import MqttClient, MqttConfig
from skerry.uplink import Receiver, Record, digest_of, encode_envelope
from skerry.uplink import receive as receive_module
from skerry.uplink.item import Item
from skerry.uplink.said import said_item
from tests.fixtures.nats import NatsServer, until

pytestmark = pytest.mark.asyncio


def item(number: int) -> Item:
    event = {
        "id": f"e{number}", "pipeline": "p", "key": "d", "node": "rock", "start": "2026-11-24T20:00:00.000Z",
        "end": "2026-11-24T20:00:01.000Z", "count": 1, "score": float(number), "label": None, "state": "info", "severity": None,
        "features": {}, "model": None, "version": None, "latency_ms": 1.0,
    }  # fmt: skip
    return said_item(json.dumps(event).encode(), number)


def envelope(first: int, last: int, epoch: str = "q1", node: str = "rock", site: str = "shore") -> bytes:
    return encode_envelope(node, site, epoch, "alarm", [(at, item(at)) for at in range(first, last + 1)])


async def taken(records: Sequence[Record]) -> None:
    assert records


async def receiver(client: WireClient) -> Receiver:
    found = Receiver(taken)
    await found.attach(client)
    return found


async def scores(client: WireClient, subject: str = "$MQTT.msgs.sites.>") -> list[float]:
    return [json.loads(stored.payload)["score"] for stored in await read_page(client, LOG, subject, 0, 10_000)]


def numbers(first: int, last: int) -> list[float]:
    return [float(at) for at in range(first, last + 1)]


async def test_records_become_messages_of_the_log_once(client: WireClient) -> None:
    found = await receiver(client)
    first = envelope(1, 10)
    assert not await found.holds(first)
    assert await found.receive(first) == digest_of(first)
    assert await found.holds(first)
    assert not await found.holds(envelope(5, 15))
    assert not await found.holds(b"no envelope")
    assert await found.receive(first) == digest_of(first)
    await found.receive(envelope(5, 15))
    await found.receive(envelope(3, 9))
    page = await read_page(client, LOG, "$MQTT.msgs.sites.>", 0)
    assert {stored.subject for stored in page} == {"$MQTT.msgs.sites.shore.rock.events.p.d"}
    assert await scores(client) == numbers(1, 15)
    assert (found.counts.envelopes, found.counts.again, found.counts.messages) == (2, 2, 15)
    assert found.floor() is None


async def test_nodes_queues_and_lanes_are_counted_apart(client: WireClient) -> None:
    found = await receiver(client)
    for each in (envelope(1, 3), envelope(1, 3, epoch="q2"), envelope(1, 3, node="other"), envelope(1, 3, site="isle")):
        await found.receive(each)
        await found.receive(each)
    assert len(await scores(client)) == 12
    again = await receiver(client)
    await again.receive(envelope(1, 4))
    assert len(await scores(client)) == 13


async def test_an_empty_envelope_is_taken_and_changes_nothing(client: WireClient) -> None:
    found = await receiver(client)
    empty = encode_envelope("rock", "shore", "-", "alarm", [])
    assert await found.receive(empty, "rock") == digest_of(empty)
    assert await scores(client) == []


@pytest.mark.parametrize("cut", [0, 1, 7, 19])
async def test_what_died_half_way_is_finished_by_the_next(client: WireClient, monkeypatch: pytest.MonkeyPatch, cut: int) -> None:
    monkeypatch.setattr(receive_module, "IN_FLIGHT", 1)
    found, stored = await receiver(client), 0
    whole = receive_module._store

    async def dies(*args: Any) -> None:
        nonlocal stored
        if stored == cut:
            raise UnavailableError("the process was killed here")
        stored += 1
        await whole(*args)

    monkeypatch.setattr(receive_module, "_store", dies)
    with pytest.raises(UnavailableError):
        await found.receive(envelope(1, 20))
    assert found.floor() == 0
    monkeypatch.setattr(receive_module, "_store", whole)
    again = await receiver(client)
    assert again.floor() == 0
    await again.receive(envelope(1, 25))
    assert await scores(client) == numbers(1, 25)
    assert again.floor() is None
    assert again.counts.messages == 25 - cut


async def test_the_broker_killed_under_load_doubles_and_loses_nothing(server: NatsServer, client: WireClient) -> None:
    found = await receiver(client)

    async def send_all() -> None:
        for first in range(1, 400, 10):
            while True:
                try:
                    await found.receive(envelope(first, first + 9))
                    break
                except UnavailableError:
                    await asyncio.sleep(0.05)

    sending = asyncio.create_task(send_all())
    second = client
    for kill in range(3):
        await until(lambda kill=kill: found.counts.messages >= 100 * (kill + 1), 20)
        server.kill()
        server.start()
        second = await server.client()
        await found.attach(second)
    await sending
    assert await scores(second) == numbers(1, 400)
    second.close()


async def test_a_caller_that_leaves_does_not_leave_half_of_it(client: WireClient) -> None:
    found = await receiver(client)
    call = asyncio.create_task(found.receive(envelope(1, 2000)))
    await until(lambda: found.floors, 20)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    await until(lambda: found.counts.envelopes == 1, 20)
    assert await scores(client) == numbers(1, 2000)


async def test_two_at_once_of_one_node_take_turns(client: WireClient) -> None:
    found = await receiver(client)
    await asyncio.gather(*(found.receive(envelope(1, 50)) for _ in range(5)))
    assert await scores(client) == numbers(1, 50)
    assert (found.counts.envelopes, found.counts.again) == (1, 4)


@pytest.mark.parametrize(
    ("data", "sender", "words"),
    [
        (b"", "", "no envelope"),
        (b"SKUP rubbish", "", "version"),
        (envelope(1, 2)[:-1], "", "not what was sent"),
        (envelope(1, 2), "other", "of 'shore/rock' from 'other'"),
        (envelope(1, 2, site="a/b"), "", "no name of a site"),
        (envelope(1, 2, node="#"), "", "no name of a site"),
        (envelope(1, 2, node="a.>"), "", "no name of a site"),
        (envelope(1, 2, epoch=""), "", "no name of a site"),
    ],
)
async def test_what_is_no_envelope_of_the_sender_is_refused(client: WireClient, data: bytes, sender: str, words: str) -> None:
    found = await receiver(client)
    with pytest.raises(RejectedError, match=words):
        await found.receive(data, sender)
    assert await scores(client) == []
    assert found.counts.refused == 1


async def test_mqtt_clients_read_them_at_both_qualities(server: NatsServer, client: WireClient) -> None:
    found = await receiver(client)
    for qos in (0, 1):
        url = f"mqtt://agent:pw@127.0.0.1:{server.mqtt_port}"
        async with MqttClient(MqttConfig(url, client_id=f"reads{qos}")) as mqtt, mqtt.subscribe("sites/#", qos) as messages:
            await found.receive(envelope(1, 5, epoch=f"q{qos}"))
            seen = []
            async with asyncio.timeout(20):
                async for message in messages:
                    seen.append((message.topic, json.loads(message.payload)["score"], message.qos))
                    await message.ack()
                    if len(seen) == 5:
                        break
            assert seen == [("sites/shore/rock/events/p/d", score, qos) for score in numbers(1, 5)]


async def test_one_site_does_not_send_for_another(client: WireClient) -> None:
    found = await receiver(client)
    with pytest.raises(RejectedError, match="of 'shore/rock' from 'isle/rock'"):
        await found.receive(envelope(1, 2), "rock", "isle")
    await found.receive(envelope(1, 2), "rock", "shore")


async def test_more_than_a_few_at_once_are_told_to_wait(client: WireClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receive_module, "MOST_AT_ONCE", 2)
    found = await receiver(client)
    answers = await asyncio.gather(*(found.receive(envelope(1, 50)) for _ in range(3)), return_exceptions=True)
    assert sum(isinstance(answer, OverloadedError) for answer in answers) == 1
    await found.receive(envelope(1, 50))
    assert await scores(client) == numbers(1, 50)
