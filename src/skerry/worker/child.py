"""The agent's side of one worker: the child, its assignment, its reports, and what happens when it dies or hangs."""

import asyncio
import contextlib
import sys
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from skerry.core import log
from skerry.core.clock import Clock
from skerry.core.service import beat, cancel_and_wait
from skerry.core.units import show_size
from skerry.pipeline import Standing
from skerry.runtime import Child, ChildSpec, Confines, Exit, Lives, next_look
from skerry.worker.plan import WorkerPlan
from skerry.worker.protocol import Assignment, Command, PipelineReport, Report
from skerry.worker.sharing import Share
from skerry.worker.suspects import load_suspects, save_suspects
from skerry.worker.trace import Doing, read_trace
from skerry.worker.tracing import Traces

DRAIN_S = 4.0
START_S = 60.0
WATCH_S = 0.25
NICE = 2
_log = log.get("workers")
_decode_report = msgspec.json.Decoder(Report).decode


Breach = Callable[[str, int, int], Awaitable[float | None]]
"""Pipeline, the bytes that it used and those that it may; the seconds until it may try again, None: it is quarantined."""
Window = tuple[str, int, float]
"""Key, end in microseconds, and score."""
SHOWN_WINDOWS = 200
Breached = Callable[[str, str], None]
"""Told of each time that a worker or a pipeline has taken more memory than it may: who, and a sentence."""


class Worker:
    """One worker child and what is known of it; `run` keeps it running."""

    def __init__(
        self, plan: WorkerPlan, index: int, clock: Clock, log_end: Callable[[], int], breach: Breach, breached: Breached
    ) -> None:
        self.index = index
        self.report = Report(ready=False)
        self.last_words = ""
        self.restarts = Lives(clock)
        self._plan = plan
        self._clock = clock
        self._log_end = log_end
        self._breach, self._breached = breach, breached
        self._breaches: dict[str, int] = {}
        self.windows: dict[str, deque[Window]] = {}
        self._for_others = self._told = False
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
        self._wake = asyncio.Event()
        self.paused: set[str] = set()
        self.place: dict[str, Any] = {}
        self.models: dict[str, Any] = {}
        self.standings: dict[str, Standing] = {}
        self.traces, self.share = Traces(), Share(plan.assignment.units)

    async def run_units(self, units: list[str]) -> None:
        """Run these units from now on, in its next lives too."""
        if units != self.share.units:
            self.share.give(units)
            await self.send(Command("units", units=units, turn=self.share.turn))

    def held(self) -> set[str]:
        """The units that it is to run, or may not have stopped yet."""
        return self.share.held(self.report if self.pid is not None else None)

    @property
    def draining(self) -> bool:
        return self._drain.is_set()

    def _ended(self) -> bool:
        return self.draining

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child is not None and self._child.running else None

    @property
    def poison(self) -> dict[str, list[str]]:
        return self._suspects.poison

    async def run(self) -> None:
        """Start the worker, and start it again when it dies, with back-off and in quarantine at last, until cancelled."""
        while not self._ended():
            self.restarts.begin()
            exit_: Exit | None = None
            try:
                exit_ = await self._live()
            except OSError as error:
                self.last_words = f"it could not be started: {error}"
                _log.error(f"worker {self.index}: {self.last_words}; it is tried again")
            if self._ended():
                return
            if self._convicted:
                self.restarts.forgive()
            # one that could not be started is the machine's fault: it is full, or short of processes
            own_fault = exit_ is not None and (bool(self._why) or not exit_.from_outside)
            delay = self.restarts.end(exit_, own_fault)
            if self.restarts.quarantined:
                _log.error(self.restarts.sentence(f"worker {self.index}", self.last_words))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._wake.wait()

    def wake(self) -> None:
        """Do not wait any longer for the next life."""
        self._wake.set()
        if not self.draining:
            self._wake.clear()

    async def _live(self) -> Exit:
        """One life of the child, from its start to its end."""
        name, confinement = f"worker-{self.index}", self._plan.confinement
        spec = ChildSpec(
            name=name,
            argv=[sys.executable, "-m", "skerry.worker"],
            run_dir=self._plan.run_dir,
            pipes=True,
            memory_limit=2 * self._plan.memory,
            join=confinement.group(name, Confines(self._plan.memory, self._plan.cpu)),
            nice=NICE,
        )
        ended_before = confinement.out_of_memory(name)
        self._told = False  # its first line is the assignment, and that says how things stand by then
        child = self._child = Child(spec)
        self._why, self._convicted = "", False
        self._breaches, self._for_others = {}, False
        before = read_trace(self._trace)
        self._stale = before.counter if before is not None else -1
        await child.start()
        self._heard, self._told = self._clock.monotonic(), True
        watching = asyncio.create_task(self._watch(child))
        try:
            await child.write_line(msgspec.json.encode(self._assignment()))
            if self._ended():  # asked to drain while it was being started
                await self.command("drain")
            while line := await child.read_line():
                await self._take(line)
            exit_ = await child.wait()
            if self.draining and exit_.code == 0:
                return exit_
            self.report = Report(ready=False, failed=self.report.failed)
            if not self._why and confinement.out_of_memory(name) > ended_before:
                self._too_large(f"the kernel ended it in its cgroup: it used more than {show_size(self._plan.memory)}")
            by_itself = exit_.code == 0 or bool(self.report.failed) or self._for_others
            self._note_death(self._why or exit_.sentence, by_itself)
            return exit_
        finally:
            await cancel_and_wait(watching)
            if child.running:
                await child.kill()

    def _assignment(self) -> Assignment:
        given = self._plan.assignment
        return msgspec.structs.replace(
            given,
            **self.place,
            **self.models,
            pipelines=[{**table, "paused": table["name"] in self.paused} for table in given.pipelines],
            standings=self.standings,
            partition=self.index,
            units=self.share.units,
            turn=self.share.turn,
            lease=self.share.lease,
            trace=str(self._trace),
            poison=self._suspects.poison,
            careful_until=self._suspects.careful_until,
        )

    async def _take(self, line: bytes) -> None:
        self._heard = self._clock.monotonic()
        try:
            self.report = _decode_report(line)
        except msgspec.MsgspecError as error:
            _log.warning(f"worker {self.index} said what is no report: {error}")
        if self.report.ready:
            self.first_ready.set()
        self.traces.take(self.report.samples)
        reports = self.report.pipelines
        self.windows = {name: self.windows.get(name) or deque(maxlen=SHOWN_WINDOWS) for name in reports}
        for name, report in reports.items():
            self.windows[name].extend(report.recent)
            report.recent = []
            await self._judge(name, report)

    async def _judge(self, name: str, report: PipelineReport) -> None:
        """Let a pipeline that the worker has stopped for its memory try again after a while, or not."""
        if report.breaches > self._breaches.get(name, 0) and report.over:
            self._breaches[name] = report.breaches
            pause = await self._breach(name, report.over, report.allowed)
            if pause is not None:
                await self.send(Command("retry", name, after=pause))

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
        pause = WATCH_S
        while child.running:
            await (asyncio.sleep(pause) if pause < WATCH_S else beat(WATCH_S))
            now = self._clock.monotonic()
            doing = self._doing()
            counter = doing.counter if doing is not None else -1
            if counter != seen:
                self._heard = now
            if counter != seen or doing is None or doing.kind == "idle":
                seen, since = counter, now
            memory = child.memory()
            pause = next_look(memory, self._plan.memory)
            patience = 2 * self._plan.stall_s if self.report.ready else START_S
            if memory > self._plan.memory:
                self._too_large(f"it used {memory >> 20} MiB, allowed are {self._plan.memory >> 20} MiB")
            elif now - since > self._plan.stall_s:
                self._why = f"it got nowhere for {self._plan.stall_s:g} s"
            elif now - self._heard > patience:
                self._why = f"it said nothing for {patience:g} s"
            else:
                continue
            await child.kill()

    async def command(self, do: str, pipeline: str = "") -> None:
        """Send one command; a child that is not there gets the state of things with its next assignment."""
        await self.send(Command(do, pipeline))

    async def send(self, command: Command) -> None:
        """Send a command as it is."""
        if self._child is not None and self._child.running and self._told:
            await self._child.write_line(msgspec.json.encode(command))

    async def end(self, why: str) -> None:
        """Kill it for the sake of others; it is started again, and no message is blamed for it."""
        if self._child is not None and self._child.running and not self._why:
            self._too_large(why)
            self._for_others = True
            await self._child.kill()

    def _too_large(self, why: str) -> None:
        self._why = why
        self._breached(f"worker-{self.index}", f"worker {self.index} is stopped: {why}")

    async def drain(self) -> None:
        """Ask for a last checkpoint and wait for the end; kill what has not ended after 4 s."""
        self._drain.set()
        self.wake()
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
