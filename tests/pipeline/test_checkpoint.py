"""Checkpoints in a real bucket: fenced, whole also when they are large, and sure of themselves after a lost answer."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from skerry.broker import WireClient, kv_get, kv_put
from skerry.core.errors import CorruptError, FencedError, UnavailableError
from skerry.pipeline import BUCKET, CheckpointStore, Output, PipelineState, begin_checkpoints, encode_state, stored_cursors
from skerry.pipeline.checkpoint import PART_BYTES
from tests.fixtures.nats import NatsServer
from tests.fixtures.proxy import Proxy

KEY = "p.0-of-1"


@pytest_asyncio.fixture
async def client(tmp_path: Path) -> AsyncIterator[WireClient]:
    with NatsServer(tmp_path) as server:
        found = await server.prepared()
        yield found
        found.close()
        await found.closed


def large(cursor: int, size: int = PART_BYTES * 2) -> PipelineState:
    """A state that does not shrink when it is compressed."""
    return PipelineState(cursor=cursor, outbox=[Output("s", "i", random.Random(cursor).randbytes(size))])


async def saved(store: CheckpointStore, client: WireClient, state: PipelineState) -> None:
    await store.save(client, encode_state(state), state.cursor)


@pytest.mark.asyncio
async def test_what_was_saved_is_loaded(client: WireClient) -> None:
    store = CheckpointStore("p", 0, 1)
    assert await store.load(client) is None
    for cursor in (3, 4):
        await saved(store, client, PipelineState(cursor=cursor))
    assert await CheckpointStore("p", 0, 1).load(client) == PipelineState(cursor=4)
    assert await CheckpointStore("p", 0, 2).load(client) is None
    assert await stored_cursors(client) == {KEY: 4}


@pytest.mark.asyncio
async def test_who_has_been_overtaken_writes_nothing(client: WireClient) -> None:
    first, second = CheckpointStore("p", 0, 1), CheckpointStore("p", 0, 1)
    await saved(first, client, PipelineState(cursor=1))
    await second.load(client)
    await saved(second, client, PipelineState(cursor=2))
    for state in (PipelineState(cursor=3), large(3)):
        with pytest.raises(FencedError, match="another owner"):
            await saved(first, client, state)
    await saved(second, client, large(4))
    with pytest.raises(FencedError):
        await saved(first, client, large(5))
    assert await CheckpointStore("p", 0, 1).load(client) == large(4)


@pytest.mark.asyncio
async def test_two_that_begin_at_once_are_told_apart(client: WireClient) -> None:
    first, second = CheckpointStore("p", 0, 1), CheckpointStore("p", 0, 1)
    await saved(first, client, PipelineState(cursor=1))
    with pytest.raises(FencedError):
        await saved(second, client, PipelineState(cursor=1))


@pytest.mark.asyncio
async def test_a_large_state_is_stored_in_parts_that_are_never_written_over(client: WireClient) -> None:
    store = CheckpointStore("p", 0, 1)
    for cursor in range(1, 4):
        await saved(store, client, large(cursor))
        assert await CheckpointStore("p", 0, 1).load(client) == large(cursor)
    before = {part: await kv_get(client, BUCKET, f"{KEY}.a.{part}") for part in range(3)}
    await saved(store, client, large(4))
    assert {part: await kv_get(client, BUCKET, f"{KEY}.a.{part}") for part in range(3)} == before
    await saved(store, client, PipelineState(cursor=5))
    assert await CheckpointStore("p", 0, 1).load(client) == PipelineState(cursor=5)
    assert await stored_cursors(client) == {KEY: 5}


@pytest.mark.asyncio
async def test_parts_that_do_not_fit_together_are_seen(client: WireClient) -> None:
    store = CheckpointStore("p", 0, 1)
    await saved(store, client, large(1))
    await kv_put(client, BUCKET, f"{KEY}.a.1", b"x" * PART_BYTES, None)
    with pytest.raises(CorruptError, match="do not fit together"):
        await CheckpointStore("p", 0, 1).load(client)
    await client.request(f"$KV.{BUCKET}.{KEY}.a.1".encode(), b"", b"KV-Operation: DEL\r\n")
    with pytest.raises(CorruptError, match="lacks a part"):
        await CheckpointStore("p", 0, 1).load(client)


@pytest.mark.asyncio
@pytest.mark.parametrize(("size", "parts"), [(10, 0), (PART_BYTES + 1, 2)])
async def test_a_write_whose_answer_was_lost_fences_nobody(tmp_path: Path, size: int, parts: int) -> None:
    with NatsServer(tmp_path) as server:
        client = await server.prepared()
        async with Proxy(server.port) as proxy:
            cut_off = await WireClient.connect("127.0.0.1", proxy.port, "agent", "pw", "through the proxy")
            store = CheckpointStore("p", 0, 1)
            await saved(store, cut_off, large(1, size))
            proxy.swallow_answers_with(b'"KV_' + BUCKET.encode() + b'"', after=parts)
            writing = asyncio.create_task(saved(store, cut_off, large(2, size)))
            await proxy.swallowed.wait()
            cut_off.close()
            with pytest.raises(UnavailableError):
                await writing
        assert await CheckpointStore("p", 0, 1).load(client) == large(2, size)
        await saved(store, client, large(3, size))
        assert await CheckpointStore("p", 0, 1).load(client) == large(3, size)
        client.close()
        await client.closed


@pytest.mark.asyncio
async def test_a_pipeline_begins_behind_what_was_there_before_it(client: WireClient) -> None:
    await begin_checkpoints(client, ["p", "q"], 2, 77)
    assert await stored_cursors(client) == {"p.0-of-2": 77, "p.1-of-2": 77, "q.0-of-2": 77, "q.1-of-2": 77}
    store = CheckpointStore("p", 1, 2)
    await store.load(client)
    await saved(store, client, PipelineState(cursor=99))
    await begin_checkpoints(client, ["p", "q"], 2, 200)
    assert (await stored_cursors(client))["p.1-of-2"] == 99


@pytest.mark.asyncio
async def test_another_number_of_partitions_goes_on_from_the_lowest(client: WireClient) -> None:
    await begin_checkpoints(client, ["p"], 2, 10)
    store = CheckpointStore("p", 1, 2)
    await store.load(client)
    await saved(store, client, PipelineState(cursor=50))
    await begin_checkpoints(client, ["p"], 3, 999)
    for at in range(3):
        state = await CheckpointStore("p", at, 3).load(client)
        assert state is not None
        assert (state.cursor, state.taken) == (10, [[10, 50]])


@pytest.mark.asyncio
async def test_parts_go_round_without_touching_the_ones_that_count_or_may_yet_count(client: WireClient) -> None:
    store = CheckpointStore("p", 0, 1)
    used = []
    for cursor in range(1, 5):
        await saved(store, client, large(cursor))
        used.append(store._generation)
    assert all(one != following for one, following in itertools.pairwise(used))
    store._doubtful = next(name for name in "abc" if name != store._generation)  # as after a write that was not answered
    doubtful, counting = store._doubtful, store._generation
    await saved(store, client, large(9))
    assert store._generation not in (doubtful, counting)
    assert await CheckpointStore("p", 0, 1).load(client) == large(9)


@pytest.mark.asyncio
@pytest.mark.parametrize("size", [10, PART_BYTES + 1])
async def test_another_number_of_partitions_leaves_nothing_of_the_old_ones(client: WireClient, size: int) -> None:
    await begin_checkpoints(client, ["p", "q"], 1, 10)
    store = CheckpointStore("p", 0, 1)
    await store.load(client)
    await saved(store, client, large(50, size))
    await begin_checkpoints(client, ["p"], 2, 999)
    assert sorted(await stored_cursors(client)) == ["p.0-of-2", "p.1-of-2", "q.0-of-1"]
    assert await kv_get(client, BUCKET, f"{KEY}.a.0") is None
