"""Outputs under way: each is stored once, whatever is sent again, and who waits for acknowledgements waits for all of them."""

import asyncio

import pytest

from skerry.broker import MIB, Stored, StreamPlan, WireClient, api, ensure, read_page
from skerry.core.errors import UnavailableError
from skerry.pipeline import DEAD, DEAD_PREFIX, EVENTS, EVENTS_PREFIX, Output
from skerry.worker import outbox as module
from skerry.worker.outbox import Outbox
from tests.fixtures.nats import NatsServer, until


def outputs(begin: int, end: int, prefix: str = EVENTS_PREFIX) -> list[Output]:
    return [Output(f"{prefix}p", f"id{number}", b"%d" % number) for number in range(begin, end)]


def attached(client: WireClient) -> Outbox:
    box = Outbox(lambda: None)
    box.attach(client)
    return box


async def stored(client: WireClient, stream: str = EVENTS) -> list[Stored]:
    return await read_page(client, stream, ">", 0, 100_000)


async def payloads(client: WireClient, stream: str = EVENTS) -> list[bytes]:
    return [message.payload for message in await stored(client, stream)]


def numbers(begin: int, end: int) -> list[bytes]:
    return [b"%d" % number for number in range(begin, end)]


@pytest.mark.asyncio
async def test_outputs_are_stored_in_order_and_acknowledged(client: WireClient) -> None:
    box = attached(client)
    box.send(outputs(0, 500))
    box.send(outputs(0, 3, DEAD_PREFIX))
    assert box.unacked == 503
    await asyncio.wait_for(box.acknowledged(box.number), 10)
    assert box.unacked == 0
    assert (box.events_seq, box.dead_seq, box.refused) == (500, 3, "")
    assert await payloads(client) == numbers(0, 500)
    assert await payloads(client, DEAD) == numbers(0, 3)


@pytest.mark.asyncio
async def test_nothing_under_way_is_nothing_to_wait_for(client: WireClient) -> None:
    box = attached(client)
    await asyncio.wait_for(box.acknowledged(box.number), 1)
    box.send(outputs(0, 1))
    number = box.number
    await asyncio.wait_for(box.acknowledged(number), 5)
    box.send(outputs(1, 2))
    await asyncio.wait_for(box.acknowledged(number), 0.01)


@pytest.mark.asyncio
async def test_what_is_known_to_be_stored_is_not_sent(client: WireClient) -> None:
    box = attached(client)
    box.known = {"id1", "id3"}
    box.send(outputs(0, 5))
    await box.acknowledged(box.number)
    assert await payloads(client) == [b"0", b"2", b"4"]
    assert box.known == set()


@pytest.mark.asyncio
async def test_sending_again_stores_nothing_twice(client: WireClient) -> None:
    box = attached(client)
    box.send(outputs(0, 50))
    box.resend(older_than=0.0)
    await box.acknowledged(box.number)
    box.send(outputs(0, 50))
    await box.acknowledged(box.number)
    await client.flush()
    assert await payloads(client) == numbers(0, 50)
    assert box.events_seq == 50


@pytest.mark.asyncio
async def test_without_a_connection_it_keeps_and_then_sends(client: WireClient) -> None:
    box = Outbox(lambda: None)
    box.send(outputs(0, 5))
    assert box.unacked == 5
    box.attach(client)
    await asyncio.wait_for(box.acknowledged(box.number), 5)
    assert await payloads(client) == numbers(0, 5)


@pytest.mark.asyncio
async def test_a_stream_that_is_not_there_is_waited_for(client: WireClient) -> None:
    await api(client, f"STREAM.DELETE.{EVENTS}")
    box = attached(client)
    box.send(outputs(0, 3))
    waiting = asyncio.create_task(box.acknowledged(box.number))
    await until(lambda: box.refused)
    assert box.refused == "the stream does not answer"
    assert not waiting.done()
    await ensure(client, StreamPlan(EVENTS, (f"{EVENTS_PREFIX}>",), MIB))
    box.resend()
    assert box.unacked == 3, "it is not yet time"
    box.resend(older_than=0.0)
    await asyncio.wait_for(waiting, 5)
    assert box.refused == ""


@pytest.mark.asyncio
async def test_a_full_stream_that_refuses_says_why(client: WireClient) -> None:
    await api(client, f"STREAM.DELETE.{EVENTS}")
    await ensure(client, StreamPlan(EVENTS, (f"{EVENTS_PREFIX}>",), 1000, "new"))
    box = attached(client)
    box.send([Output(f"{EVENTS_PREFIX}p", "large", b"x" * 2000)])
    await until(lambda: "maximum bytes" in box.refused)
    assert box.unacked == 1


@pytest.mark.asyncio
async def test_it_says_when_it_is_full_and_when_no_more(client: WireClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 10)
    drained: list[int] = []
    box = Outbox(lambda: drained.append(box.unacked))
    box.send(outputs(0, 10))
    assert not box.full
    box.send(outputs(10, 30))
    assert box.full
    box.attach(client)
    await box.acknowledged(box.number)
    await until(lambda: len(drained) == 1)
    assert not box.full


@pytest.mark.asyncio
async def test_a_server_that_dies_under_load_stores_each_once_in_the_end(server: NatsServer) -> None:
    client = await server.prepared()
    box = attached(client)
    for begin in range(0, 20_000, 500):
        box.send(outputs(begin, begin + 500))
        await asyncio.sleep(0)
        if begin == 10_000:
            await until(lambda: box.events_seq > 100)
            server.kill()
    await client.closed
    waiting = asyncio.create_task(box.acknowledged(box.number))
    server.start()
    again = await server.client()
    box.attach(again)
    await asyncio.wait_for(waiting, 20)
    found = await stored(again)
    assert sorted(int(message.payload) for message in found) == list(range(20_000))
    assert box.events_seq == found[-1].sequence
    again.close()
    await again.closed


@pytest.mark.asyncio
async def test_who_waits_for_an_acknowledgement_has_it_sent_again(client: WireClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RESEND_S", 0.2)
    await api(client, f"STREAM.DELETE.{EVENTS}")
    box = attached(client)
    box.send(outputs(0, 3))
    began = asyncio.get_running_loop().time()
    waiting = asyncio.create_task(box.acknowledged(box.number))
    await until(lambda: box.refused)
    await ensure(client, StreamPlan(EVENTS, (f"{EVENTS_PREFIX}>",), MIB))
    await asyncio.wait_for(waiting, 20)
    assert await payloads(client) == numbers(0, 3)
    assert asyncio.get_running_loop().time() - began < 5, "it waits for its own time, not for the one that the module began with"


@pytest.mark.asyncio
async def test_what_is_found_stored_is_settled_and_nobody_waits_for_it(client: WireClient) -> None:
    box = Outbox(lambda: None)
    box.send(outputs(0, 3))
    waiting = asyncio.create_task(box.acknowledged(box.number))
    await asyncio.sleep(0)
    box.settle({"id0", "id2"})
    assert box.unacked == 1
    box.settle({"id1"})
    await asyncio.wait_for(waiting, 1)
    box.attach(client)
    await client.flush()
    assert await payloads(client) == []


@pytest.mark.asyncio
async def test_who_waits_on_an_outbox_that_is_detached_is_told(client: WireClient) -> None:
    box = Outbox(lambda: None, lambda: False)
    box.attach(client)
    box.send(outputs(0, 3))
    waiting = asyncio.create_task(box.acknowledged(box.number))
    await asyncio.wait([waiting], timeout=0.1)
    assert not waiting.done()
    box.detach()
    with pytest.raises(UnavailableError, match="no longer"):
        await asyncio.wait_for(waiting, 30)
    assert await payloads(client) == [], "it was not allowed to publish"


@pytest.mark.asyncio
async def test_what_may_not_be_published_is_kept_until_it_may(client: WireClient) -> None:
    may = False
    box = Outbox(lambda: None, lambda: may)
    box.attach(client)
    box.send(outputs(0, 3))
    box.resend(older_than=0.0)
    may = True
    assert await payloads(client) == []
    box.resend(older_than=0.0)
    await asyncio.wait_for(box.acknowledged(box.number), 30)
    assert await payloads(client) == numbers(0, 3)
