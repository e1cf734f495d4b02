"""The agent's side of the workers: one child a partition, its assignment, its reports, and what happens when it dies or hangs."""

import asyncio
import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from skerry.core import log
from skerry.core.clock import Clock
from skerry.core.service import Backoff, Restarts, cancel_and_wait
from skerry.runtime import Child, ChildSpec
from skerry.worker.protocol import Assignment, Command, Report
from skerry.worker.suspects import load_suspects, save_suspects
from skerry.worker.trace import Doing, read_trace

BASE_MEMORY = 256 * 1024 * 1024
DRAIN_S = 4.0
START_S = 60.0
WATCH_S = 0.25
_log = log.get("workers")
_decode_report = msgspec.json.Decoder(Report).decode


class WorkerPlan(msgspec.Struct, frozen=True):
    """What the pool runs: assignments without their partition, how many, and their bounds.

    Attributes:
        stall_s: a worker that is busy with the same thing, or silent for twice as long, is killed (for a minute while it starts).
        memory: bytes; a worker whose resident memory is over it is killed.
    """

    assignment: Assignment
    workers: int
    run_dir: Path
    stall_s: float
    memory: int


class Worker:
    """One worker child and what is known of it; `run` keeps it running."""

    def __init__(self, plan: WorkerPlan, index: int, clock: Clock, log_end: Callable[[], int]) -> None:
        self.index = index
        self.report = Report(ready=False)
        self.last_words = ""
        self.restarts = Restarts(clock)
        self._plan = plan
        self._clock = clock
        self._log_end = log_end
        self._child: Child | None = None
        self._trace = plan.run_dir / f"worker-{index}.trace"
        self._suspects_file = plan.run_dir / f"worker-{index}.suspects"
        self._suspects = load_suspects(self._suspects_file)
        self._heard = 0.0
        self._why = ""
        self._stale = -1
        self._convicted = False
        self.first_ready = asyncio.Event()
        self._drain = asyncio.Event()
        self.paused: set[str] = set()
        self.place: dict[str, Any] = {}

    @property
    def draining(self) -> bool:
        return self._drain.is_set()

    def _ended(self) -> bool:
        return self.draining

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child is not None else None

    @property
    def poison(self) -> dict[str, list[str]]:
        return self._suspects.poison

    async def run(self) -> None:
        """Start the worker, and start it again when it dies, with back-off, until cancelled."""
        backoff = Backoff(0.05, 10.0)
        while not self._ended():
            began = self._clock.monotonic()
            try:
                await self._live()
            except OSError as error:
                self.last_words = f"it could not be started: {error}"
                _log.error(f"worker {self.index}: {self.last_words}; it is tried again")
            if self._ended():
                return
            self.restarts.note()
            if self._clock.monotonic() - began > 30 or self._convicted:
                backoff.reset()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(backoff.next()):
                    await self._drain.wait()

    async def _live(self) -> None:
        """One life of the child, from its start to its end."""
        spec = ChildSpec(
            name=f"worker-{self.index}",
            argv=[sys.executable, "-m", "skerry.worker"],
            run_dir=self._plan.run_dir,
            pipes=True,
            memory_limit=2 * self._plan.memory,
        )
        child = self._child = Child(spec)
        self._why, self._convicted = "", False
        before = read_trace(self._trace)
        self._stale = before.counter if before is not None else -1
        await child.start()
        self._heard = self._clock.monotonic()
        watching = asyncio.create_task(self._watch(child))
        try:
            await child.write_line(msgspec.json.encode(self._assignment()))
            if self._ended():  # asked to drain while it was being started
                await self.command("drain")
            while line := await child.read_line():
                self._take(line)
            exit_ = await child.wait()
            if self.draining and exit_.code == 0:
                return
            self.report = Report(ready=False, failed=self.report.failed)
            self._note_death(self._why or exit_.sentence, exit_.code == 0 or bool(self.report.failed))
        finally:
            await cancel_and_wait(watching)
            if child.running:
                await child.kill()

    def _assignment(self) -> Assignment:
        given = self._plan.assignment
        return msgspec.structs.replace(
            given,
            **self.place,
            pipelines=[{**table, "paused": table["name"] in self.paused} for table in given.pipelines],
            partition=self.index,
            partitions=self._plan.workers,
            trace=str(self._trace),
            poison=self._suspects.poison,
            careful_until=self._suspects.careful_until,
        )

    def _take(self, line: bytes) -> None:
        self._heard = self._clock.monotonic()
        try:
            self.report = _decode_report(line)
        except msgspec.MsgspecError as error:
            _log.warning(f"worker {self.index} said what is no report: {error}")
        if self.report.ready:
            self.first_ready.set()

    def _note_death(self, why: str, by_itself: bool) -> None:
        blame = ""
        if not by_itself:
            known = self._suspects.poisoned
            blame = "; " + self._suspects.died(self._doing(), self._log_end())
            self._convicted = self._suspects.poisoned > known
            save_suspects(self._suspects_file, self._suspects)
        self.last_words = f"{why}{blame}"
        _log.error(f"worker {self.index} ended: {self.last_words}; it is started again")

    def _doing(self) -> Doing | None:
        """What it works on or worked on last; None before its first note: what the life before did is not put down to this one."""
        doing = read_trace(self._trace)
        return doing if doing is not None and doing.counter != self._stale else None

    async def _watch(self, child: Child) -> None:
        """Kill the child when it hangs or grows over its bound, and note why."""
        seen, since = -1, self._clock.monotonic()
        while child.running:
            await asyncio.sleep(WATCH_S)
            now = self._clock.monotonic()
            doing = self._doing()
            counter = doing.counter if doing is not None else -1
            if counter != seen:
                self._heard = now
            if counter != seen or doing is None or doing.kind == "idle":
                seen, since = counter, now
            memory = child.memory()
            patience = 2 * self._plan.stall_s if self.report.ready else START_S
            if memory > self._plan.memory:
                self._why = f"it used {memory >> 20} MiB, allowed are {self._plan.memory >> 20} MiB"
            elif now - since > self._plan.stall_s:
                self._why = f"it got nowhere for {self._plan.stall_s:g} s"
            elif now - self._heard > patience:
                self._why = f"it said nothing for {patience:g} s"
            else:
                continue
            await child.kill()

    async def command(self, do: str, pipeline: str = "") -> None:
        """Send one command; a child that is not there gets the state of things with its next assignment."""
        if self._child is not None and self._child.running:
            await self._child.write_line(msgspec.json.encode(Command(do, pipeline)))

    async def drain(self) -> None:
        """Ask for a last checkpoint and wait for the end; kill what has not ended after 4 s."""
        self._drain.set()
        child = self._child
        if child is None or not child.running:
            return
        await self.command("drain")
        try:
            async with asyncio.timeout(DRAIN_S):
                await child.wait()
        except TimeoutError:
            _log.warning(f"worker {self.index} did not end within {DRAIN_S:g} s of being asked and was killed")
            await child.kill()


class WorkerPool:
    """All workers of a node; a service."""

    def __init__(self, plan: WorkerPlan, clock: Clock, log_end: Callable[[], int]) -> None:
        self.ready = asyncio.Event()
        self.workers = [Worker(plan, index, clock, log_end) for index in range(plan.workers)]

    async def run(self) -> None:
        """Keep the workers running until they are drained, or cancelled."""
        tasks = [asyncio.create_task(worker.run()) for worker in self.workers]
        waiting = asyncio.create_task(self._await_ready())
        try:
            await asyncio.gather(*tasks)
        finally:
            await cancel_and_wait(*tasks, waiting)

    async def _await_ready(self) -> None:
        for worker in self.workers:
            await worker.first_ready.wait()
        self.ready.set()

    def give(self, host: str, port: int, user: str, password: str) -> None:
        """Say where the log is."""
        for worker in self.workers:
            worker.place = {"host": host, "port": port, "user": user, "password": password}

    def mark(self, pipeline: str, paused: bool) -> None:
        """Note that a pipeline is paused, or no longer, for the workers' next lives."""
        for worker in self.workers:
            (worker.paused.add if paused else worker.paused.discard)(pipeline)

    async def command(self, do: str, pipeline: str) -> None:
        """`pause` or `resume` a pipeline on all workers, and in their next lives."""
        self.mark(pipeline, do == "pause")
        await asyncio.gather(*[worker.command(do, pipeline) for worker in self.workers])

    async def drain(self) -> None:
        """Store all and end."""
        await asyncio.gather(*[worker.drain() for worker in self.workers])
