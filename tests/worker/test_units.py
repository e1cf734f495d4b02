"""Units go from worker to worker under load, of one node and of two: every window complete, each event once, nothing missing."""

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from skerry.broker import WireClient, read_page
from skerry.core.clock import SECOND, SystemClock
from skerry.core.service import cancel_and_wait
from skerry.pipeline import EVENTS, EVENTS_PREFIX, CheckpointStore, begin_checkpoints, unit_name
from skerry.worker import Assignment, Report, WorkerPlan, WorkerPool
from skerry.worker.engine import Engine
from skerry.worker.outbox import FENCE
from skerry.worker.sharing import Share, deal
from tests.fixtures.frames import sample
from tests.fixtures.nats import NatsServer, put, until

PARTITIONS, DEVICES, A_WINDOW = 4, 12, 10
SLOW_S = 60.0
TABLE = {
    "name": "p",
    "source": {"topic": "devices/+/v", "time": "ts", "values": ["x"]},
    "window": {"kind": "tumbling", "size": "1s", "idle": "1h"},
    "features": ["count"],
}
ALL = [unit_name("p", at) for at in range(PARTITIONS)]
NOW = SystemClock().now() // SECOND


def assignment(server: NatsServer, folder: Path, node: str, units: list[str]) -> Assignment:
    return Assignment(
        node=node, host="127.0.0.1", port=server.port, user="agent", password="pw", partition=0, partitions=PARTITIONS,
        pipelines=[TABLE], models=[], base=str(folder), trace=str(folder / f"trace-{node}"), units=units,
    )  # fmt: skip


@asynccontextmanager
async def running(engine: Engine) -> AsyncIterator[Engine]:
    task = asyncio.create_task(engine.run())
    try:
        await until(lambda: engine.ready, SLOW_S)
        yield engine
    finally:
        await cancel_and_wait(task)


@asynccontextmanager
async def pooled(server: NatsServer, folder: Path, node: str, workers: int = 1) -> AsyncIterator[WorkerPool]:
    plan = WorkerPlan(
        assignment=assignment(server, folder, node, []), workers=workers, run_dir=folder / node, stall_s=30.0, memory=400 << 20
    )
    pool = WorkerPool(plan, SystemClock(), lambda: 0)
    pool.give("127.0.0.1", server.port, "agent", "pw")
    task = asyncio.create_task(pool.run())
    try:
        await until(pool.ready.is_set, SLOW_S)
        yield pool
    finally:
        await pool.drain()
        await cancel_and_wait(task)


@asynccontextmanager
async def prepared(server: NatsServer) -> AsyncIterator[WireClient]:
    client = await server.prepared()
    try:
        await begin_checkpoints(client, ["p"], PARTITIONS, 0)
        yield client
    finally:
        client.close()


class Load:
    """Messages of all devices, ten a window each, as long as it runs."""

    def __init__(self, client: WireClient) -> None:
        self._client = client
        self._enough = False
        self.sent = 0

    async def round(self) -> None:
        """One message of each device."""
        payload = sample(NOW - 3000 + self.sent / A_WINDOW, 1)
        await asyncio.gather(*[put(self._client, f"$MQTT.msgs.devices.d{at}.v", payload) for at in range(DEVICES)])
        self.sent += 1

    async def run(self) -> None:
        while not self._enough:
            await self.round()

    async def finish(self, running: "asyncio.Task[None] | None" = None) -> None:
        """Go on to the first message of a window, which closes the one before."""
        self._enough = True
        if running is not None:
            await running
        while self.sent % A_WINDOW != 1:
            await self.round()


async def events(client: WireClient) -> list[dict[str, object]]:
    found, after = [], 0
    while page := await read_page(client, EVENTS, f"{EVENTS_PREFIX}p.>", after):
        after = page[-1].sequence
        found += [json.loads(stored.payload) for stored in page]
    return found


async def all_came(client: WireClient, load: Load) -> None:
    """Every window of every device, whole, and each once."""
    wanted = DEVICES * (load.sent // A_WINDOW)

    async def there() -> bool:
        return len(await events(client)) >= wanted

    await until(there, SLOW_S)
    found = await events(client)
    times = Counter((event["key"], event["start"]) for event in found)
    assert [each for each, count in times.items() if count > 1] == [], "a window is there twice"
    assert len({event["id"] for event in found}) == len(found) == wanted, "an event is there twice"
    assert {event["count"] for event in found} == {A_WINDOW}, "a window is not whole"
    assert set(Counter(event["key"] for event in found).values()) == {load.sent // A_WINDOW}


def test_a_unit_stays_where_it_is_and_new_ones_are_spread() -> None:
    assert deal(["p/0", "p/1", "q/0"], {}, 2) == {"p/0": 0, "p/1": 1, "q/0": 0}
    assert deal(["p/1", "p/2", "p/3"], {"p/0": 0, "p/1": 1}, 2) == {"p/1": 1, "p/2": 0, "p/3": 0}


def test_a_unit_is_held_until_the_worker_has_heard_of_it_and_says_that_it_is_gone() -> None:
    share = Share()
    share.give(["p/0", "p/1"])
    assert share.held(Report(ready=True, turn=0)) == {"p/0", "p/1"}
    share.give(["p/1"])
    assert share.held(Report(ready=True, turn=1, units=[])) == {"p/0", "p/1"}, "said before it was told"
    assert share.held(Report(ready=True, turn=2, units=["p/0", "p/1"])) == {"p/0", "p/1"}, "still being stored"
    assert share.held(Report(ready=True, turn=2, units=["p/1"])) == {"p/1"}
    share.give([])
    assert share.held(None) == set(), "a process that is gone runs nothing"


@pytest.mark.asyncio
async def test_units_move_between_the_workers_of_two_nodes_under_load(server: NatsServer, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(prepared(server))
        one = await stack.enter_async_context(pooled(server, tmp_path, "one", workers=2))
        other = await stack.enter_async_context(pooled(server, tmp_path, "other"))
        load = Load(client)
        loading = asyncio.create_task(load.run())
        for share in (ALL, ALL[:2], [], ALL[1:3], ALL):
            rest = [unit for unit in ALL if unit not in share]
            await one.run_units([unit for unit in share if unit not in other.held()])
            await other.run_units([unit for unit in rest if unit not in one.held()])
            await until(lambda share=share: one.held() <= {*share}, SLOW_S)
            await until(lambda rest=rest: other.held() <= {*rest}, SLOW_S)
            await one.run_units(share)
            await other.run_units(rest)
            await until(lambda share=share: {*one.workers[0].report.units, *one.workers[1].report.units} == {*share}, SLOW_S)
            before = load.sent
            await until(lambda before=before: load.sent > before + A_WINDOW, SLOW_S)
        await load.finish(loading)
        await all_came(client, load)
        books = [worker.report.pipelines["p"].books for worker in one.workers]
        await until(
            lambda: sum(each.report.pipelines["p"].books["received"] for each in one.workers) == DEVICES * load.sent, SLOW_S
        )
        assert all(each["difference"] == 0 for each in books)


@pytest.mark.asyncio
async def test_the_units_of_a_killed_worker_and_of_one_that_stands_still_run_elsewhere(server: NatsServer, tmp_path: Path) -> None:
    """The one that goes on later holds the last it knew for its own, and can write nothing of it."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(prepared(server))
        one = await stack.enter_async_context(pooled(server, tmp_path, "one"))
        other = await stack.enter_async_context(pooled(server, tmp_path, "other"))
        load = Load(client)
        await one.run_units(ALL)
        loading = asyncio.create_task(load.run())
        await until(lambda: load.sent > 2 * A_WINDOW, SLOW_S)
        os.kill(one.workers[0].pid or 0, signal.SIGSTOP)
        await other.run_units(ALL)
        await until(lambda: other.workers[0].report.units == ALL, SLOW_S)
        before = load.sent
        await until(lambda: load.sent > before + 2 * A_WINDOW, SLOW_S)
        os.kill(one.workers[0].pid or 0, signal.SIGCONT)
        await one.run_units([])
        await until(lambda: not one.held(), SLOW_S)
        await one.run_units(ALL[:2])
        await other.run_units(ALL[2:])
        await until(lambda: one.workers[0].report.units == ALL[:2] and other.workers[0].report.units == ALL[2:], SLOW_S)
        os.kill(other.workers[0].pid or 0, signal.SIGKILL)
        await one.run_units(ALL)
        await other.run_units([])
        await until(lambda: one.workers[0].report.units == ALL, SLOW_S)
        await load.finish(loading)
        await all_came(client, load)


@pytest.mark.asyncio
async def test_each_event_says_under_which_claim_it_was_put_out(server: NatsServer, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(prepared(server))
        load, claims = Load(client), list[set[int]]()
        for node in ("one", "other"):
            begun = load.sent // A_WINDOW
            async with running(Engine(assignment(server, tmp_path, node, ALL), SystemClock())):
                while load.sent // A_WINDOW == begun:
                    await load.round()
                await load.finish()
                await all_came(client, load)
            fences = [int(each.headers[FENCE.lower()]) for each in await read_page(client, EVENTS, f"{EVENTS_PREFIX}p.>", 0)]
            claims.append(set(fences[begun * DEVICES :]))
        assert len(claims[0]) == len(claims[1]) == PARTITIONS, "one claim a unit"
        assert max(claims[0]) < min(claims[1])


@pytest.mark.asyncio
async def test_what_is_taken_over_is_fenced_at_once(server: NatsServer, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(prepared(server))
        load = Load(client)
        first = await stack.enter_async_context(running(Engine(assignment(server, tmp_path, "one", ALL), SystemClock())))
        await load.round()
        await until(lambda: first.report().pipelines["p"].books["received"] == DEVICES, SLOW_S)
        taken = CheckpointStore("p", 1, PARTITIONS)
        state = await taken.load(client, claim=True)
        assert state is not None
        await load.round()
        await until(lambda: first.report().units == [ALL[0], *ALL[2:]], SLOW_S)
        await first.change_units([ALL[0], *ALL[2:]], 1)
        await taken.save(client, b"mine", 1)  # raises where another has written since


@pytest.mark.asyncio
async def test_nothing_is_taken_published_or_stored_when_the_lease_has_ended(server: NatsServer, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(prepared(server))
        load, clock = Load(client), SystemClock()
        engine = await stack.enter_async_context(running(Engine(assignment(server, tmp_path, "one", ALL), clock)))
        for _ in range(A_WINDOW):
            await load.round()
        await until(lambda: engine.report().pipelines["p"].books["received"] == DEVICES * A_WINDOW, SLOW_S)
        engine.extend(clock.monotonic())
        await load.round()
        await until(lambda: "lease" in engine.report().waiting, SLOW_S)
        await engine.change_units(ALL[1:], 1)
        assert engine.report().units == ALL[1:], "it is let go of, unwritten"
        assert engine.report().pipelines["p"].books["received"] < DEVICES * A_WINDOW
        assert await events(client) == []
        engine.extend(clock.monotonic() + 3600)
        await engine.change_units(ALL, 2)
        await load.finish()
        await all_came(client, load)
