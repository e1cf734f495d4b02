"""The order that all rests on: acknowledged before it is covered, covered before what time decided is published."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from skerry.broker import MIB, StreamPlan, WireClient, api, ensure, position, read_page
from skerry.core.clock import ManualClock
from skerry.core.errors import CorruptError, FencedError
from skerry.pipeline import DEAD, EVENTS, EVENTS_PREFIX, CheckpointStore, begin_checkpoints, unpack_letters
from skerry.worker.outbox import Outbox
from skerry.worker.slot import Slot
from tests.fixtures.frames import ARRIVAL, frame, log_of, new_runner, sample, spec_of
from tests.fixtures.nats import NatsServer

T = ARRIVAL / 1e6 - 100
SPEC = spec_of(window={"kind": "tumbling", "size": "1s", "idle": "0s"}, features=["count"])


@pytest_asyncio.fixture
async def client(tmp_path: Path) -> AsyncIterator[WireClient]:
    with NatsServer(tmp_path) as server:
        found = await server.prepared()
        await begin_checkpoints(found, ["p"], 1, 0)
        yield found
        found.close()
        await found.closed


async def new_slot(client: WireClient, clock: ManualClock | None = None) -> Slot:
    """As the engine makes and loads one."""
    slot = Slot(SPEC, (0, 1), clock or ManualClock(ARRIVAL), Outbox(lambda: None))
    state = await slot.load_state(client)
    slot.take(new_runner(SPEC, state=state, known_letters=slot.known_letters))
    slot.outbox.attach(client)
    slot.start()
    return slot


def feed(slot: Slot, payloads: list[bytes], begin: int = 1) -> None:
    assert slot.runner is not None
    frames = log_of([b""] * (begin - 1) + payloads)[begin - 1 :]
    slot.runner.feed(frames, position(frames[0][1]), position(frames[-1][1]), 0.0)
    slot.release()


async def events(client: WireClient) -> list[str]:
    """Ids of the stored events, in order."""
    await client.flush()
    return [stored.headers["nats-msg-id"] for stored in await read_page(client, EVENTS, f"{EVENTS_PREFIX}>", 0)]


async def letters(client: WireClient) -> list[int]:
    return [letter.sequence for stored in await read_page(client, DEAD, ">", 0) for letter in unpack_letters(stored.payload)]


async def cursor(client: WireClient) -> int:
    state = await CheckpointStore("p", 0, 1).load(client)
    return state.cursor if state else -1


async def forget_ids(client: WireClient) -> None:
    """Make the server forget all ids of what it has stored, as time does."""
    for name in (EVENTS, DEAD):
        config: dict[str, Any] = (await api(client, f"STREAM.INFO.{name}"))["config"]
        await api(client, f"STREAM.UPDATE.{name}", config | {"duplicate_window": 100_000_000})
    await asyncio.sleep(0.3)


SECONDS = [sample(T + second, 1) for second in range(6)]


@pytest.mark.asyncio
async def test_a_checkpoint_waits_for_what_it_covers(client: WireClient) -> None:
    await api(client, f"STREAM.DELETE.{EVENTS}")
    slot = await new_slot_without_events(client)
    feed(slot, SECONDS)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(slot.checkpoint(client), 0.5)
    assert await cursor(client) == 0
    assert slot.dirty
    await ensure(client, StreamPlan(EVENTS, (f"{EVENTS_PREFIX}>",), MIB))
    slot.outbox.resend(older_than=0.0)
    await asyncio.wait_for(slot.checkpoint(client), 5)
    assert (await cursor(client), slot.durable, slot.dirty) == (6, 6, False)
    assert len(await events(client)) == 5


async def new_slot_without_events(client: WireClient) -> Slot:
    slot = Slot(SPEC, (0, 1), ManualClock(ARRIVAL), Outbox(lambda: None))
    state = await CheckpointStore("p", 0, 1).load(client)
    await slot._store.load(client)
    slot.take(new_runner(SPEC, state=state))
    slot.outbox.attach(client)
    slot.start()
    return slot


@pytest.mark.asyncio
async def test_what_time_decided_is_published_only_when_it_is_stored(client: WireClient) -> None:
    clock = ManualClock(ARRIVAL)
    slot = await new_slot(client, clock)
    feed(slot, SECONDS[:2])
    assert len(await events(client)) == 1
    clock.advance(5_000_000)
    assert slot.advance() is True
    feed(slot, [sample(T + 4, 1), sample(T + 9, 1)], begin=3)
    assert slot.advance() is False, "one decision at a time"
    assert len(await events(client)) == 1
    stored = asyncio.create_task(slot.checkpoint(client))
    await stored
    assert len(await events(client)) == 3
    state = await CheckpointStore("p", 0, 1).load(client)
    assert state is not None
    assert [output.id for output in state.outbox] == (await events(client))[1:]
    assert slot.advance() is True


@pytest.mark.asyncio
@pytest.mark.parametrize("published", [False, True])
async def test_a_death_after_that_checkpoint_publishes_it_once(client: WireClient, published: bool) -> None:
    clock = ManualClock(ARRIVAL)
    slot = await new_slot(client, clock)
    feed(slot, SECONDS[:1])
    clock.advance(5_000_000)
    assert slot.advance()
    if not published:
        slot.outbox.send = lambda outputs: None  # type: ignore[method-assign]  # it dies between storing and publishing
    await slot.checkpoint(client)
    assert len(await events(client)) == int(published)
    await forget_ids(client)
    again = await new_slot(client, clock)
    await again.outbox.acknowledged(again.outbox.number)
    assert len(await events(client)) == 1
    feed(again, [sample(T, 2)], begin=2)
    await again.outbox.acknowledged(again.outbox.number)
    assert await letters(client) == [2], "what comes for a window that time has closed is late"


@pytest.mark.asyncio
async def test_a_death_before_that_checkpoint_decides_anew(client: WireClient) -> None:
    clock = ManualClock(ARRIVAL)
    slot = await new_slot(client, clock)
    feed(slot, SECONDS[:1])
    await slot.checkpoint(client)
    clock.advance(5_000_000)
    assert slot.advance()
    again = await new_slot(client, clock)
    feed(again, [sample(T + 0.5, 1), sample(T + 1, 1)], begin=2)
    await again.outbox.acknowledged(again.outbox.number)
    assert len(await events(client)) == 1
    assert await letters(client) == []
    assert again.runner is not None
    assert again.runner.state.ledger.scored == 2


@pytest.mark.asyncio
async def test_a_replay_behind_the_checkpoint_repeats_no_event_and_no_letter(client: WireClient) -> None:
    rubbish = [b"one", *SECONDS, b"two", b"three"]
    slot = await new_slot(client)
    feed(slot, rubbish[:3])
    await slot.checkpoint(client)
    feed(slot, rubbish[3:8], begin=4)
    await slot.outbox.acknowledged(slot.outbox.number)
    before = await events(client)
    assert len(before) == 5
    await forget_ids(client)
    for _ in range(2):
        again = await new_slot(client)
        assert again.cursor == 3
        for begin in range(4, 10, 2):
            feed(again, rubbish[begin - 1 : begin + 1], begin)
        await again.outbox.acknowledged(again.outbox.number)
        assert await events(client) == before
        assert await letters(client) == [1, 8, 9]
        assert again.runner is not None
        assert again.runner.state.ledger.dead == {"undecodable": 3}
        await forget_ids(client)


@pytest.mark.asyncio
async def test_who_was_overtaken_is_fenced(client: WireClient) -> None:
    first, second = await new_slot(client), await new_slot(client)
    feed(second, SECONDS[:2])
    await second.checkpoint(client)
    feed(first, SECONDS[:3])
    with pytest.raises(FencedError):
        await first.checkpoint(client)
    assert await cursor(client) == 2
    assert len(await events(client)) == 2


@pytest.mark.asyncio
async def test_nothing_new_is_not_stored_again(client: WireClient) -> None:
    slot = await new_slot(client)
    feed(slot, SECONDS)
    await asyncio.gather(*[slot.checkpoint(client) for _ in range(5)])
    revision = slot._store.revision
    await slot.checkpoint(client)
    assert slot._store.revision == revision


@pytest.mark.asyncio
async def test_a_cursor_that_moved_over_what_is_for_others_is_stored_now_and_then_and_at_the_end(client: WireClient) -> None:
    clock = ManualClock(ARRIVAL)
    slot = await new_slot(client, clock)
    feed(slot, SECONDS)
    await slot.checkpoint(client)
    assert slot.runner is not None
    for stored, number in ((6, 7), (8, 8), (8, 9)):
        foreign = frame(number, b"x", topic="others/a/w")
        slot.runner.feed([foreign], position(foreign[1]), position(foreign[1]), 0.0)
        clock.advance(3_000_000)
        await slot.checkpoint(client)
        assert (await cursor(client), slot.cursor) == (stored, number)
    await slot.checkpoint(client, last=True)
    assert await cursor(client) == 9
    assert slot.runner.state.ledger.received == 6


@pytest.mark.asyncio
async def test_a_pipeline_without_a_beginning_is_not_begun_anywhere(client: WireClient) -> None:
    slot = Slot(spec_of(), (1, 2), ManualClock(), Outbox(lambda: None))
    with pytest.raises(CorruptError, match="p has no checkpoint"):
        await slot.load_state(client)


@pytest.mark.asyncio
async def test_a_report_says_where_it_stands(client: WireClient) -> None:
    slot = Slot(SPEC, (0, 1), ManualClock(ARRIVAL), Outbox(lambda: None))
    assert slot.report(0).state == "starting"
    slot.fail(CorruptError("no model"))
    assert slot.report(0).state == "failed: no model"
    slot = await new_slot(client)
    feed(slot, [*SECONDS, b"rubbish"])
    report = slot.report(4)
    assert (report.state, report.cursor, report.durable, report.lag, report.keys, report.windows) == ("running", 7, 0, 4, 1, 5)
    assert report.books["difference"] == 0
    slot.paused = True
    assert slot.report(0).state == "paused"


@pytest.mark.asyncio
async def test_outputs_whose_acknowledgement_was_lost_are_not_sent_again(client: WireClient) -> None:
    slot = Slot(SPEC, (0, 1), ManualClock(ARRIVAL), Outbox(lambda: None))
    slot.take(new_runner(SPEC, state=await slot.load_state(client)))
    slot.start()  # there is no connection: all that it puts out stays with it
    feed(slot, [*SECONDS, b"rubbish"])
    twin = await new_slot(client)
    feed(twin, [*SECONDS[:4], b"rubbish"])
    await twin.outbox.acknowledged(twin.outbox.number)
    before = await events(client)
    await forget_ids(client)
    assert slot.outbox.unacked == 6
    await slot.forget_stored(client)
    slot.outbox.attach(client)
    await asyncio.wait_for(slot.outbox.acknowledged(slot.outbox.number), 5)
    assert len(await events(client)) == 5
    assert (await events(client))[:3] == before
