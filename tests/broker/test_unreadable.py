"""Topics of more than 64 KiB on a real server: what a crash does to the log behind them, and how the log is rid of them."""

import asyncio

import pytest

from skerry.broker import LOG, LogReader, WireClient, ensure, log_plan, push_out, stream_state, trim
from skerry.broker.unreadable import RECLAIMED
from skerry.core.service import cancel_and_wait
from tests.fixtures.nats import NatsServer, until
from tests.fixtures.raw_mqtt import RawMqtt

LONG = b"devices/a/" + b"x" * 65_520
DOTS = b"devices/a/" + b"." * 40_000


async def publish(server: NatsServer, *topics: bytes) -> None:
    """At QoS 1, each acknowledged."""

    def run() -> None:
        with RawMqtt(server.mqtt_port) as device:
            assert [device.publish(topic, b"x") for topic in topics] == [True] * len(topics)

    await asyncio.to_thread(run)


async def after_a_crash(server: NatsServer) -> dict[str, int]:
    """The log's state after a kill -9 and a new start."""
    server.kill()
    server.start()
    client = await server.client("after")
    try:
        return await stream_state(client, LOG)
    finally:
        client.close()
        await client.closed


@pytest.mark.asyncio
@pytest.mark.parametrize("topic", [LONG, DOTS], ids=["long", "dots"])
async def test_the_server_loses_what_stands_behind_it_in_a_crash(server: NatsServer, client: WireClient, topic: bytes) -> None:
    """Why there is a mend. When this fails the server has been mended, and `unreadable.py` may go."""
    await publish(server, b"devices/a/1", topic, b"devices/a/2", b"devices/a/3")
    assert (await stream_state(client, LOG))["last_seq"] == 4
    assert (await after_a_crash(server))["last_seq"] == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("topic", [LONG, DOTS], ids=["long", "dots"])
async def test_the_reader_passes_over_it_and_says_where(server: NatsServer, client: WireClient, topic: bytes) -> None:
    holes: list[int] = []
    seen: list[int] = []
    reader = LogReader(client, [">"], lambda: 0, lambda frames, first, last: seen.append(last.stream), on_hole=holes.append)
    running = asyncio.create_task(reader.run())
    try:
        await publish(server, b"devices/a/1", topic, b"devices/a/2", topic, topic, b"devices/a/3")
        await until(lambda: seen and seen[-1] == 6)
    finally:
        await cancel_and_wait(running)
    assert holes == [2, 4]


@pytest.mark.asyncio
async def test_with_it_pushed_out_a_crash_loses_nothing(server: NatsServer, client: WireClient) -> None:
    await publish(server, b"devices/a/1", LONG, b"devices/a/2")
    assert await push_out(client, 2)
    filled = int((await stream_state(client, LOG))["last_seq"])
    await publish(server, b"devices/a/3", b"devices/a/4")
    await trim(client, filled)
    await publish(server, b"devices/a/5")
    found = await after_a_crash(server)
    assert (found["first_seq"], found["last_seq"], found["messages"]) == (filled + 1, filled + 3, 3)


@pytest.mark.asyncio
async def test_what_was_trimmed_or_is_still_to_come_is_no_reason(server: NatsServer, client: WireClient) -> None:
    await publish(server, b"devices/a/1", b"devices/a/2", b"devices/a/3")
    await trim(client, 2)
    before = await stream_state(client, LOG)
    for sequence in (0, 1, 2, 4, 1000):
        assert not await push_out(client, sequence)
    assert (await stream_state(client, LOG))["last_seq"] == before["last_seq"]


@pytest.mark.asyncio
async def test_small_messages_do_it_where_no_others_are_allowed(server: NatsServer) -> None:
    client = await server.client()
    await ensure(client, log_plan(1 << 28, 64 * 1024))
    try:
        await publish(server, b"devices/a/1", LONG, b"devices/a/2")
        assert await push_out(client, 2)
        assert int((await stream_state(client, LOG))["bytes"]) > RECLAIMED
    finally:
        client.close()
        await client.closed
