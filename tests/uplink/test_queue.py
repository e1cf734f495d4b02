"""The uplink's queue over a real nats-server: what is not committed never counts, whatever ends in between."""

from pathlib import Path

import pytest

from skerry.broker import WireClient, api, stream_state
from skerry.core.errors import FencedError, OverloadedError
from skerry.uplink.queue import STREAM, Entry, Queue
from tests.fixtures.nats import NatsServer

pytestmark = pytest.mark.asyncio
SIZE = 8 * 1024 * 1024


async def opened(client: WireClient, size: int = SIZE) -> Queue:
    queue = Queue(client, size)
    await queue.open()
    return queue


def entries(first: int, count: int, lane: str = "normal") -> list[Entry]:
    return [Entry(lane, "p", b"%d" % at) for at in range(first, first + count)]  # type: ignore[arg-type]  # names of lanes


async def bodies(queue: Queue, lane: str = "normal") -> list[int]:
    return [int(body) for _, body in await queue.read(lane, 10_000, 1 << 30)]  # type: ignore[arg-type]  # names of lanes


async def test_items_count_from_the_commit_on_in_their_order(client: WireClient) -> None:
    queue = await opened(client)
    await queue.put(entries(0, 1200))
    assert await bodies(queue) == []
    await queue.commit(7, 8, b"state", 9)
    assert await bodies(queue) == list(range(1200))
    assert queue.waits("normal") == 1200
    again = await opened(client)
    found = again.checkpoint
    assert (found.log, found.events, found.state, found.sent, found.epoch) == (7, 8, b"state", 9, queue.checkpoint.epoch)
    assert again.waits("normal") == 1200
    assert await bodies(again) == list(range(1200))


async def test_a_step_that_was_not_committed_is_taken_back(client: WireClient) -> None:
    queue = await opened(client)
    await queue.put(entries(0, 3))
    await queue.commit(1, 1, b"", 0)
    await queue.put(entries(100, 50))
    again = await opened(client)
    await again.put(entries(3, 3))
    await again.commit(2, 2, b"", 0)
    assert await bodies(again) == [0, 1, 2, 3, 4, 5]
    assert (await stream_state(client, STREAM))["messages"] == 6


async def test_who_was_taken_for_dead_cannot_write(client: WireClient) -> None:
    queue = await opened(client)
    other = await opened(client)
    await other.put(entries(0, 1))
    await other.commit(1, 1, b"", 0)
    with pytest.raises(FencedError):
        await queue.put(entries(9, 1))
    with pytest.raises(FencedError):
        await queue.commit(5, 5, b"", 0)
    assert await bodies(other) == [0]


async def test_what_the_centre_has_goes_from_its_lane_only(client: WireClient) -> None:
    queue = await opened(client)
    await queue.put([*entries(0, 4), *entries(10, 2, "alarm"), *entries(4, 4)])
    await queue.commit(1, 1, b"", 0)
    found = await queue.read("normal", 6, 1 << 20)
    await queue.drop("normal", found[-1][0])
    assert await bodies(queue) == [6, 7]
    assert await bodies(queue, "alarm") == [10, 11]
    assert (queue.waits("normal"), queue.waits("alarm")) == (2, 2)


async def test_reading_holds_its_bounds_and_gives_at_least_one(client: WireClient) -> None:
    queue = await opened(client)
    await queue.put([Entry("bulk", "p", bytes(1000)) for _ in range(5)])
    await queue.commit(1, 1, b"", 0)
    assert len(await queue.read("bulk", 100, 10)) == 1
    assert len(await queue.read("bulk", 100, 3500)) == 3
    assert len(await queue.read("bulk", 2, 1 << 20)) == 2


async def test_a_full_queue_refuses_the_whole_step(client: WireClient) -> None:
    queue = await opened(client, 4 * 1024 * 1024)
    await queue.put(entries(0, 3))
    await queue.commit(1, 1, b"", 0)
    with pytest.raises(OverloadedError, match="full"):
        await queue.put([Entry("bulk", "p", bytes(100_000)) for _ in range(60)])
    await queue.roll_back()
    await queue.put(entries(3, 2))
    await queue.commit(2, 2, b"", 0)
    assert await bodies(queue) == [0, 1, 2, 3, 4]
    assert await bodies(queue, "bulk") == []


async def test_what_was_thinned_is_gone_when_its_stand_in_counts(client: WireClient) -> None:
    queue = await opened(client)
    await queue.put(entries(0, 10, "bulk"))
    await queue.commit(1, 1, b"", 0)
    old = [sequence for sequence, _ in await queue.read("bulk", 6, 1 << 20)]
    await queue.put(entries(99, 1, "bulk"))
    await queue.commit(1, 1, b"", 0, old)
    assert await bodies(queue, "bulk") == [6, 7, 8, 9, 99]
    assert queue.waits("bulk") == 5
    assert await bodies(await opened(client), "bulk") == [6, 7, 8, 9, 99]


async def test_a_lost_end_of_the_stream_is_not_numbered_again(client: WireClient) -> None:
    queue = await opened(client)
    await queue.put(entries(0, 5))
    await queue.commit(1, 1, b"", 0)
    await api(client, f"STREAM.DELETE.{STREAM}")
    again = await opened(client)
    await again.put(entries(5, 1))
    await again.commit(2, 2, b"", 0)
    assert [(sequence > 5, body) for sequence, body in await again.read("normal", 9, 99)] == [(True, b"5")]


async def test_a_queue_out_of_a_backup_counts_anew(client: WireClient) -> None:
    queue = await opened(client)
    await queue.put(entries(0, 2))
    await queue.commit(1, 1, b"s", 0)
    epoch = queue.checkpoint.epoch
    same, other = Queue(client, SIZE), Queue(client, SIZE)
    assert (await same.open(epoch)).epoch == epoch
    assert (await other.open("")).epoch != epoch
    assert (other.checkpoint.state, await bodies(other)) == (b"s", [0, 1])
    third = Queue(client, SIZE)
    assert (await third.open(other.checkpoint.epoch)).epoch == other.checkpoint.epoch


async def test_it_outlives_the_broker(server: NatsServer, client: WireClient, tmp_path: Path) -> None:
    queue = await opened(client)
    await queue.put(entries(0, 5))
    await queue.commit(3, 4, b"s", 5)
    await queue.put(entries(70, 5))
    server.kill()
    server.start()
    second = await server.client()
    again = await opened(second)
    assert await bodies(again) == [0, 1, 2, 3, 4]
    second.close()
