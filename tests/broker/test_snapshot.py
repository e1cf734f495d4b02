"""Streams out of one real server and into another: every message, its sequence, and what a consumer had acknowledged."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from skerry.broker import LOG, WireClient, api, log_plan, read_page, restore_stream, stream_names, stream_state, take_snapshot
from skerry.broker.snapshot import hand_over
from skerry.broker.wire import Frame, NobodyThereError
from skerry.core.errors import RejectedError
from tests.fixtures.nats import NatsServer, put

pytestmark = pytest.mark.asyncio


async def filled(client: WireClient, count: int, size: int = 1000) -> None:
    dice = random.Random(1)
    for at in range(count - 1):
        client.publish(b"$MQTT.msgs.d.x", b"%08d" % at + dice.randbytes(size))
    await put(client, "$MQTT.msgs.d.x", b"%08d" % (count - 1))


async def out(client: WireClient, stream: str) -> tuple[dict[str, Any], list[bytes]]:
    chunks: list[bytes] = []
    return await take_snapshot(client, stream, chunks.append), chunks


async def each(chunks: list[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def test_a_stream_is_the_same_on_another_server(server: NatsServer, client: WireClient, tmp_path: Path) -> None:
    await filled(client, 12_000)
    await api(client, f"STREAM.PURGE.{LOG}", {"seq": 1001})
    durable = {"durable_name": "session", "ack_policy": "explicit", "filter_subject": "$MQTT.msgs.>"}
    await api(client, f"CONSUMER.DURABLE.CREATE.{LOG}.session", {"stream_name": LOG, "config": durable})
    about, chunks = await out(client, LOG)
    assert sum(map(len, chunks)) > 8 << 20, "more than a window"
    other = tmp_path / "other"
    other.mkdir()
    with NatsServer(other) as second:
        there = await second.client()
        await restore_stream(there, about, each(chunks))
        before, after = await stream_state(client, LOG), await stream_state(there, LOG)
        assert {name: after[name] for name in ("messages", "first_seq", "last_seq", "bytes")} == {
            name: before[name] for name in ("messages", "first_seq", "last_seq", "bytes")
        }
        last = (await read_page(there, LOG, ">", 11_999))[0]
        assert (last.sequence, last.payload) == (12_000, b"%08d" % 11_999)
        info = await api(there, f"CONSUMER.INFO.{LOG}.session")
        assert info["num_pending"] == 11_000
        with pytest.raises(RejectedError, match="already in use"):
            await restore_stream(there, about, each(chunks))
        there.close()
        await there.closed


async def test_all_streams_are_named(client: WireClient) -> None:
    assert {LOG, "skerry_events", "KV_skerry_checkpoints"} <= set(await stream_names(client))


async def test_a_stream_that_is_not_there_is_refused(client: WireClient) -> None:
    with pytest.raises(RejectedError, match="not found"):
        await take_snapshot(client, "nothing", len)


async def test_a_damaged_snapshot_makes_no_stream(client: WireClient, tmp_path: Path) -> None:
    await filled(client, 50)
    about, chunks = await out(client, LOG)
    await api(client, f"STREAM.DELETE.{LOG}")
    with pytest.raises(RejectedError):
        await restore_stream(client, about, each([b"x" * len(chunk) for chunk in chunks]))
    assert LOG not in await stream_names(client)


async def test_a_smaller_bound_refuses_what_is_new_and_drops_nothing(client: WireClient) -> None:
    await filled(client, 2000)
    held = await stream_state(client, LOG)
    info = await api(client, f"STREAM.INFO.{LOG}")
    await api(client, f"STREAM.UPDATE.{LOG}", info["config"] | log_plan(held["bytes"] // 2).config())
    refused = json.loads((await client.request(b"$MQTT.msgs.d.x", b"one more"))[3])
    assert "error" in refused
    after = await stream_state(client, LOG)
    assert (after["messages"], after["last_seq"]) == (2000, 2000)
    await api(client, f"STREAM.UPDATE.{LOG}", info["config"])
    assert await put(client, "$MQTT.msgs.d.x", b"one more") == 2001


async def test_a_chunk_waits_for_the_server_that_takes_it(server: NatsServer, client: WireClient) -> None:
    """In a cluster the answer to a restore may be there before the way to the server that gave it."""
    other = await server.client()
    taken: list[bytes] = []

    def take(frames: list[Frame]) -> None:
        for _, reply, _, payload in frames:
            taken.append(payload)
            other.publish(reply, b"")

    sending = asyncio.create_task(hand_over(client, b"later", b"a chunk"))
    await asyncio.sleep(0)
    assert not sending.done()
    other.subscribe(b"later", take)
    assert (await sending)[3] == b""
    assert taken == [b"a chunk"], "once"
    with pytest.raises(NobodyThereError, match="nothing answers on never"):
        await hand_over(client, b"never", b"a chunk", tries=2)
    other.close()
    await other.closed
