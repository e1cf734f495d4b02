"""The pool's workers are real processes over a real nats-server: killed, stopped, grown, poisoned, drained at any moment."""

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from skerry.broker import WireClient, read_page
from skerry.core.clock import SystemClock
from skerry.core.service import cancel_and_wait
from skerry.pipeline import DEAD, DEAD_PREFIX, EVENTS, EVENTS_PREFIX, begin_checkpoints, stored_cursors, unpack_letters
from skerry.runtime import Lives
from skerry.worker import Assignment, WorkerPlan, WorkerPool, child
from tests.fixtures.nats import NatsServer, put, until

pytestmark = pytest.mark.asyncio
MIB = 1024 * 1024
FEATURES = """
import os
import numpy as np


def last(values, offsets):
    found = values[offsets[1:] - 1]
    for number in found[:, 0]:
        if number == 666:
            os._exit(3)
    return found
"""
TABLE = {
    "name": "p",
    "source": {"topic": "devices/+/v", "values": ["x"]},
    "features": "pool_features:last",
}


class Rig:
    """A server with its streams, and one pool over it."""

    def __init__(self, folder: Path, server: NatsServer, client: WireClient, **plan: Any) -> None:
        (folder / "pool_features.py").write_text(FEATURES)
        self.server, self.client = server, client
        tables = plan.pop("pipelines", [TABLE])
        workers = plan.get("workers", 1)
        assignment = Assignment(
            node="box", host="", port=0, user="", password="", partition=0, partitions=workers, pipelines=tables, models=[],
            base=str(folder), trace="",
        )  # fmt: skip
        values = {"workers": 1, "run_dir": folder / "run", "stall_s": 5.0, "memory": 400 * MIB, **plan}
        self.plan = WorkerPlan(assignment=assignment, **values)
        self.pool = self.made()

    def made(self) -> WorkerPool:
        pool = WorkerPool(self.plan, SystemClock(), lambda: 10_000)
        pool.give("127.0.0.1", self.server.port, "agent", "pw")
        return pool

    @asynccontextmanager
    async def running(self) -> AsyncIterator[WorkerPool]:
        running = asyncio.create_task(self.pool.run())
        try:
            async with asyncio.timeout(20):
                await self.pool.ready.wait()
            yield self.pool
        finally:
            await cancel_and_wait(running)

    async def send(self, *values: float) -> None:
        for value in values:
            await put(self.client, "$MQTT.msgs.devices.d.v", b'{"x": %f}' % value)

    async def scores(self) -> list[float]:
        return [json.loads(each.payload)["score"] for each in await read_page(self.client, EVENTS, f"{EVENTS_PREFIX}p.>", 0)]

    async def letters(self) -> list[tuple[str, str]]:
        page = await read_page(self.client, DEAD, f"{DEAD_PREFIX}p", 0)
        return [(one.reason, one.topic or one.key) for each in page for one in unpack_letters(each.payload)]

    async def come(self, *values: float, seconds: float = 15) -> None:
        async def same() -> bool:
            return sorted(await self.scores()) == sorted(values)

        try:
            await until(same, seconds)
        except TimeoutError:
            assert await self.scores() == list(values)


@asynccontextmanager
async def rigged(folder: Path, **plan: Any) -> AsyncIterator[Rig]:
    with NatsServer(folder) as server:
        client = await server.prepared()
        try:
            rig = Rig(folder, server, client, **plan)
            names = [table["name"] for table in rig.plan.assignment.pipelines]
            await begin_checkpoints(client, names, rig.plan.workers, 0)
            yield rig
        finally:
            client.close()


def books(worker: Any) -> dict[str, Any]:
    """The ledger that the worker has reported, if any."""
    report = worker.report.pipelines.get("p")
    return report.books if report is not None else {}


def gone(pids: list[int | None]) -> bool:
    return not any(pid is not None and psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids)


async def test_a_worker_that_is_killed_or_stopped_is_started_again_and_loses_nothing(tmp_path: Path) -> None:
    async with rigged(tmp_path, stall_s=1.0) as rig, rig.running() as pool:
        (worker,) = pool.workers
        await rig.send(1, 2)
        await rig.come(1, 2)
        first = worker.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: worker.restarts.total == 1)
        assert "SIGKILL" in worker.last_words
        assert "idle" in worker.last_words
        await rig.send(3)
        await rig.come(1, 2, 3)
        await until(lambda: worker.report.ready)
        second = worker.pid
        assert second not in (None, first)
        os.kill(second or 0, signal.SIGSTOP)
        await until(lambda: worker.restarts.total == 2, 10)
        assert "it said nothing for 2 s" in worker.last_words
        await rig.send(4)
        await rig.come(1, 2, 3, 4)
        await until(lambda: books(worker).get("received") == 4)
        assert books(worker)["difference"] == 0
        assert await rig.letters() == []
        pids = [first, second, worker.pid]
    assert gone(pids), "the end of run ends the child"


async def test_what_ends_a_worker_three_times_is_poison_and_the_rest_flows_on(tmp_path: Path) -> None:
    async with rigged(tmp_path, stall_s=1.0) as rig:
        async with rig.running() as pool:
            (worker,) = pool.workers
            await rig.send(1, 666, 2)
            await rig.come(1, 2, seconds=25)
            await until(rig.letters)
            assert await rig.letters() == [("poison", "d")]
            assert "exit code 3" in worker.last_words
            deaths = worker.restarts.total
            assert 3 <= deaths <= 4
            assert list(worker.poison) == ["p"]
            await until(lambda: books(worker).get("received") == 3)
            found = books(worker)
            assert (found["scored"], found["dead_letters"], found["difference"]) == (2, {"poison": 1}, 0)
        again = rig.made()
        assert again.workers[0].poison == worker.poison, "known over a restart of the agent"


async def test_a_worker_that_grows_over_its_bound_is_ended(tmp_path: Path) -> None:
    async with rigged(tmp_path, memory=20 * MIB) as rig:
        running = asyncio.create_task(rig.pool.run())
        try:
            (worker,) = rig.pool.workers
            await until(lambda: worker.restarts.total >= 1, 15)
            assert "allowed are 20 MiB" in worker.last_words or "Memory" in worker.last_words
        finally:
            await cancel_and_wait(running)


async def test_draining_stores_what_was_taken_and_ends_run(tmp_path: Path) -> None:
    async with rigged(tmp_path, workers=2) as rig:
        running = asyncio.create_task(rig.pool.run())
        await asyncio.wait_for(rig.pool.ready.wait(), 20)
        await rig.send(*range(50))
        await rig.come(*range(50))
        pids = [worker.pid for worker in rig.pool.workers]
        began = time.monotonic()
        await rig.pool.drain()
        await asyncio.wait_for(running, 2)
        assert time.monotonic() - began < 5
        assert max((await stored_cursors(rig.client)).values()) == 50
        assert gone(pids)
        assert all(worker.restarts.total == 0 for worker in rig.pool.workers)


async def test_a_worker_that_hangs_while_it_is_drained_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "DRAIN_S", 1.0)
    async with rigged(tmp_path, stall_s=60.0) as rig:
        running = asyncio.create_task(rig.pool.run())
        await asyncio.wait_for(rig.pool.ready.wait(), 20)
        pid = rig.pool.workers[0].pid
        os.kill(pid or 0, signal.SIGSTOP)
        began = time.monotonic()
        await rig.pool.drain()
        await asyncio.wait_for(running, 2)
        assert 0.9 < time.monotonic() - began < 3
        assert gone([pid])


@pytest.mark.parametrize("delay", [0.0, 0.01, 0.2])
async def test_draining_at_any_moment_of_the_start_ends_it(tmp_path: Path, delay: float) -> None:
    async with rigged(tmp_path) as rig:
        running = asyncio.create_task(rig.pool.run())
        await asyncio.sleep(delay)
        await rig.pool.drain()
        await asyncio.wait_for(running, 8)
        assert gone([worker.pid for worker in rig.pool.workers])


async def test_draining_does_not_wait_for_the_next_attempt(tmp_path: Path) -> None:
    """A worker that cannot start is tried again ever more rarely; who drains it meanwhile need not wait for that."""
    wrong = {**TABLE, "features": "no colon"}
    async with rigged(tmp_path) as rig:
        rig.plan.assignment.pipelines[:] = [wrong]
        rig.pool = rig.made()
        running = asyncio.create_task(rig.pool.run())
        worker = rig.pool.workers[0]
        await until(lambda: worker.restarts.total >= 4, 60)
        assert "is no Python function" in worker.report.failed
        began = time.monotonic()
        await rig.pool.drain()
        await asyncio.wait_for(running, 5)
        assert time.monotonic() - began < 3


async def test_a_worker_that_ends_too_often_is_quarantined_until_somebody_asks(tmp_path: Path) -> None:
    """Its own fault is a bad assignment: it ends at once, each time. A pipeline that is resumed ends the quarantine."""
    async with rigged(tmp_path, pipelines=[{"name": "p", "no": "source"}]) as rig:
        worker = rig.pool.workers[0]
        worker.restarts = Lives(SystemClock(), limit=2, quarantine_s=1000)
        running = asyncio.create_task(rig.pool.run())
        try:
            await until(lambda: worker.restarts.quarantined, 60)
            assert (worker.restarts.total, worker.pid) == (2, None)
            assert worker.restarts.last is not None
            assert worker.restarts.last.code == 1
            assert worker.restarts.sentence("worker 0", worker.last_words).startswith("worker 0 is quarantined for")
            await rig.pool.command("resume", "p")
            await until(lambda: worker.restarts.total == 3, 60)
            await until(lambda: worker.restarts.quarantined, 60)
        finally:
            await cancel_and_wait(running)


async def test_a_file_that_cannot_be_written_ends_no_pool(tmp_path: Path) -> None:
    (tmp_path / "run" / "worker-0.suspects.new").mkdir(parents=True)
    (tmp_path / "run" / "worker-0.new").mkdir(parents=True)
    async with rigged(tmp_path) as rig, rig.running() as pool:
        (worker,) = pool.workers
        await rig.send(666)
        await until(lambda: worker.restarts.total >= 2, 15)
        await rig.send(5)
        await rig.come(5, seconds=20)


async def test_a_pipeline_that_is_paused_stays_so_in_the_next_life(tmp_path: Path) -> None:
    def state(worker: Any) -> Callable[[], bool]:
        return lambda: worker.report.ready and worker.report.pipelines["p"].state == "paused"

    async with rigged(tmp_path) as rig, rig.running() as pool:
        (worker,) = pool.workers
        await pool.command("pause", "p")
        await until(state(worker))
        os.kill(worker.pid or 0, signal.SIGKILL)
        await until(lambda: worker.restarts.total == 1)
        await until(state(worker), 15)
        await rig.send(1)
        await asyncio.sleep(0.5)
        assert await rig.scores() == []
        await pool.command("resume", "p")
        await rig.come(1)


async def test_the_server_may_go_and_come_back(tmp_path: Path) -> None:
    async with rigged(tmp_path) as rig, rig.running() as pool:
        await rig.send(1, 2, 3)
        await rig.come(1, 2, 3)
        rig.server.kill()
        await asyncio.sleep(0.5)
        rig.server.start()
        rig.client.close()
        rig.client = await rig.server.client()
        await rig.send(4)
        await rig.come(1, 2, 3, 4)
        assert pool.workers[0].restarts.total == 0
        rig.client.close()
