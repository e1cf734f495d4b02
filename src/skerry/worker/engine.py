"""The worker's engine: one reader over the log feeds all its pipelines; a connection lost is a reader lost, never a state."""

import asyncio
import math
import os
import sys
from pathlib import Path

from skerry.broker import LogReader, WireClient
from skerry.core import log
from skerry.core.clock import Clock
from skerry.core.errors import ConfigError, CorruptError, RejectedError, SkerryError, UnavailableError
from skerry.core.service import Backoff, beat, cancel_and_wait
from skerry.pipeline import Runner, Standing, parse_pipeline, unit_name
from skerry.runtime import resident, trim
from skerry.worker.feeding import Feeding
from skerry.worker.growth import Growth, allowed_of
from skerry.worker.holes import Holes
from skerry.worker.merge import merge_parts
from skerry.worker.models import WorkerModels
from skerry.worker.outbox import Outbox
from skerry.worker.protocol import Assignment, Command, PipelineReport, Report
from skerry.worker.sampling import Samples
from skerry.worker.slot import Slot
from skerry.worker.tap import tap_qos0
from skerry.worker.trace import FileTrace
from skerry.worker.units import Units

CHECKPOINT_S = 1.0
TICK_S = 0.25
EVERYTHING = [">"]
"""What is read of the log: with filters the server takes thrice as long for a message (12 µs more), and the worker needs less than
2 µs to pass over one that is for none of its pipelines."""
_log = log.get("worker")


class Engine:
    """Runs what it is assigned until `drain` is called or a fence stops it."""

    def __init__(self, assignment: Assignment, clock: Clock) -> None:
        self._assignment = assignment
        self._clock = clock
        self._trace = FileTrace(Path(assignment.trace))
        self._client: WireClient | None = None
        self._feed_client: WireClient | None = None
        self._reader: LogReader | None = None
        self._holes = Holes(assignment.partition == 0)
        self._changed = asyncio.Event()
        self._drained = asyncio.Event()
        self._loading = asyncio.Lock()
        self._draining = self.ready = False
        self._samples = Samples()
        self._waiting = ""
        if assignment.base not in sys.path:
            sys.path.insert(0, assignment.base)
        self._models = WorkerModels(assignment)
        found = [parse_pipeline(table, f"pipelines.{table.get('name')}") for table in assignment.pipelines]
        self._specs = {spec.name: spec for spec in found}
        self._paused = {spec.name for spec in found if spec.paused}
        self._standings = assignment.standings
        self._lease = math.inf if assignment.lease is None else assignment.lease
        self._growth = Growth({spec.name: allowed_of(spec, assignment.models) for spec in found}, resident)
        self._slots = Units(self._new_slot, self._load_late, self._leave_out, self._connected, fixed=assignment.units is None)
        self._feeding = Feeding(
            self._slots, self._growth, assignment.careful_until, clock.monotonic, self._may_work, self._leave_out
        )
        own = [unit_name(spec.name, assignment.partition) for spec in found]
        self._slots.begin(own if assignment.units is None else assignment.units, assignment.turn)

    def _new_slot(self, pipeline: str, partition: int) -> Slot:
        outbox = Outbox(self._on_drained, lambda: not self._lapsed)
        slot = Slot(self._specs[pipeline], (partition, self._assignment.partitions), self._clock, outbox)
        slot.paused = pipeline in self._paused
        slot.standing = self._standings.get(pipeline, Standing())
        return slot

    def _connected(self) -> WireClient | None:
        """The connection, if there is one to write over and this worker may."""
        here = self._client is not None and not self._client.closed.done() and not self._lapsed
        return self._client if here else None

    @property
    def _lapsed(self) -> bool:
        """Whether the node's lease has ended: others may be doing this work. Never on a node alone."""
        return self._clock.monotonic() >= self._lease

    async def run(self) -> None:
        """Work until drained. Raises `FencedError` when another worker has taken over."""
        backoff = Backoff(0.05, 2.0)
        while not self._drained.is_set():
            try:
                await self._connect()
                backoff.reset()
                await self._work()
            except (UnavailableError, RejectedError) as error:
                self._waiting = str(error)
                _log.warning(f"worker {self._assignment.partition} waits for the broker: {error}")
                await asyncio.sleep(backoff.next())
            finally:
                for client in (self._client, self._feed_client):
                    if client is not None:
                        client.close()

    async def _connect(self) -> None:
        given = self._assignment
        name = f"worker-{given.partition}"
        login = (given.host, given.port, given.user, given.password)
        self._client = await WireClient.connect(*login, name)
        # a connection of its own for the log: answers to checkpoints must not stand in line behind a backlog
        self._feed_client = await WireClient.connect(*login, f"{name}-reader")
        for slot in self._slots:
            if slot.runner is None:
                await self._load(slot)
            elif slot.runner is not None:
                await slot.forget_stored(self._client)
                slot.touch()
            slot.outbox.attach(self._client)
        for slot in self._slots:
            if slot.runner is not None and slot.fresh:
                slot.start()
        tap_qos0(self._feed_client, [spec.source.topic for spec in self._specs.values()])

    async def _load_late(self, slot: Slot) -> None:
        """Load a pipeline beside those that read, and let it read too; where there is no connection, the next one does it."""
        if self._connected() is not None and not self._draining:
            await self._load(slot)
            self._start_late(slot)

    async def _load(self, slot: Slot) -> None:
        async with self._loading:
            if slot.runner is None and not slot.failure:
                await self._begin(slot)

    async def _begin(self, slot: Slot) -> None:
        assert self._client is not None
        given = self._assignment
        try:
            state = await slot.load_state(self._client, claim=given.units is not None)
            if slot.standing.held:
                slot.rest_on(state)
                return
            live = await self._models.load(slot) if slot.spec.model else None
            runner = Runner(
                slot.spec,
                live,
                given.node,
                state,
                now=self._clock.now,
                partition=(slot.partition, given.partitions),
                poison=given.poison.get(slot.spec.name, ()),
                known_letters=slot.known_letters,
                trace=self._trace,
            )
        except (ConfigError, RejectedError, CorruptError) as error:
            slot.fail(error)
            return
        slot.live = live
        slot.take(runner)

    async def _work(self) -> None:
        assert self._client is not None
        assert self._feed_client is not None
        timers = asyncio.create_task(self._keep_time(self._client))
        ends = (self._client.closed, self._feed_client.closed)
        try:
            while not any(end.done() for end in ends) and not self._drained.is_set():
                self._changed.clear()
                await self._read(self._feed_client, timers, self._client.closed)
        finally:
            await cancel_and_wait(timers)
        if not self._drained.is_set():
            raise UnavailableError(f"the connection ended: {next(end.result() for end in ends if end.done())}")

    async def _read(self, client: WireClient, timers: "asyncio.Task[None]", end: "asyncio.Future[str]") -> None:
        """Read for the pipelines that run, until that set changes, the connection ends or a timer failed."""
        self._feeding.fed = running = self._running()
        changed = asyncio.create_task(self._changed.wait())
        reading: asyncio.Task[None] | None = None
        if running and not self._draining:
            cursor = lambda: min(slot.cursor for slot in running)  # noqa: E731 - the reader's own set, not that of a later moment
            self._reader = LogReader(client, EVERYTHING, cursor, self._feeding.on_batch, full=self._full, on_hole=self._holes.note)
            reading = asyncio.create_task(self._reader.run())
        if not self.ready:
            self._growth.begin()
        self.ready = True
        watched = [task for task in (changed, reading, timers, client.closed, end) if task is not None]
        await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        self._reader = None
        await cancel_and_wait(*[task for task in (changed, reading) if task is not None and not task.done()])
        for task in (reading, timers):
            if task is not None and task.done() and not task.cancelled():
                task.result()

    def _running(self) -> list[Slot]:
        if self._lapsed:
            return []
        return [slot for slot in self._slots if slot.runner is not None and not slot.fresh and not slot.idle]

    def _full(self) -> bool:
        return any(slot.outbox.full for slot in self._slots)

    def _on_drained(self) -> None:
        if self._reader is not None and not self._full():
            self._reader.go_on()

    async def _keep_time(self, client: WireClient) -> None:
        """Timers: windows of silent devices, checkpoints, re-sends."""
        last_checkpoint = before = self._clock.monotonic()
        while not client.closed.done():
            await beat(TICK_S)
            now = self._clock.monotonic()
            if not self._may_work(now):
                continue
            caught_up = self._reader is not None and self._reader.caught_up
            urgent = False
            stood_still = now - before > 2 * TICK_S  # what it did not hear then says nothing about the devices
            for slot in self._feeding.fed:
                if stood_still:
                    slot.touch()
                elif caught_up:
                    urgent |= self._feeding.advance(slot)
                urgent |= slot.follow_share()
            self._growth.look()
            for slot in self._slots:
                slot.outbox.resend()
                if now >= slot.retry_at:
                    self._go_on(slot)
            await self._holes.fill(client, now)
            if urgent or now - last_checkpoint >= CHECKPOINT_S:
                last_checkpoint = now
                await self.checkpoint()
            if any(slot.park() for slot in self._slots if slot.standing.held):
                await asyncio.to_thread(trim)
            before = self._clock.monotonic()

    async def checkpoint(self, last: bool = False) -> None:
        """Store the state of every pipeline that has moved."""
        if self._client is not None:
            await self._slots.checkpoint(self._client, last)

    def extend(self, lease: float) -> None:
        """The node's lease ends at this time, by the monotonic clock: until then what runs here runs nowhere else."""
        lapsed, self._lease = self._lapsed, lease
        if lapsed and not self._lapsed:
            for slot in self._slots:
                slot.touch()
            self._changed.set()

    def _may_work(self, now: float) -> bool:
        """Whether the lease holds; where it has ended nothing is taken in, stored or published until it is renewed."""
        if now < self._lease:
            return True
        if self._feeding.fed:
            _log.warning("the node's lease in the cluster has ended: its pipelines pause")
            self._feeding.fed = []
            self._changed.set()
        return False

    async def change_units(self, units: list[str], turn: int) -> None:
        """Run these units from now on."""
        await self._slots.change(units, turn)

    def pause(self, pipeline: str, paused: bool) -> None:
        """Stop or go on reading for one pipeline; its state stays."""
        (self._paused.add if paused else self._paused.discard)(pipeline)
        for slot in self._slots.of(pipeline):
            if slot.paused != paused:
                slot.paused = paused
                self._leave_out(slot)
            if not paused and slot.over:
                self._go_on(slot)

    def retry(self, pipeline: str, after: float) -> None:
        """Let a pipeline go on after so many seconds that was stopped for its memory."""
        for slot in self._slots.of(pipeline):
            if slot.over:
                slot.retry_at = self._clock.monotonic() + after

    def _go_on(self, slot: Slot) -> None:
        slot.over, slot.retry_at = 0, math.inf
        self._growth.forget(slot.spec.name)
        self._leave_out(slot)

    def _leave_out(self, slot: Slot) -> None:
        """Read anew with the pipelines that run: what this reader still brings stands behind a gap for one that was not there."""
        self._feeding.leave_out(slot)
        slot.touch()
        self._changed.set()

    def _stand(self, standings: dict[str, Standing]) -> None:
        self._standings = standings
        for slot in self._slots:
            before, slot.standing = slot.standing, standings.get(slot.spec.name, Standing())
            slot.follow_share()  # now: where feeds take seconds, the next look at the timers is far
            if before.held != slot.standing.held:
                self._leave_out(slot)

    async def change_standings(self, standings: dict[str, Standing]) -> None:
        """Give pipelines more or less: a pipeline that is held is stored and let go of, one that no longer is is loaded again."""
        self._stand(standings)
        slots = list(self._slots)
        await self._models.rest(frozenset(name for name, given in standings.items() if not given.shadow), slots)
        for slot in slots:
            if slot.runner is None and not slot.standing.held:
                await self._load_late(slot)

    async def change_models(self, command: Command) -> None:
        """Take other models: a swap between two feeds; a pipeline that failed over its model is begun anew."""
        slots = list(self._slots)
        await self._models.change(command.models, command.shadows, command.epoch, slots)
        for slot in slots:
            if slot.runner is None and slot.failure and slot.spec.model and not self._draining:
                slot.failure = ""
                await self._load(slot)
                self._start_late(slot)

    def _start_late(self, slot: Slot) -> None:
        """Let a pipeline that was loaded while the others read read too."""
        if slot.runner is not None and slot.fresh and self._client is not None:
            slot.outbox.attach(self._client)
            slot.start()
            self._changed.set()

    async def trace(self, command: Command) -> None:
        """Follow the next message of a pipeline; the next report has what came of it."""
        await self._samples.follow(list(self._slots.of(command.pipeline)), command, self._clock)

    async def drain(self) -> None:
        """Stop reading, store all, end `run`."""
        self._draining, self._feeding.fed = True, []
        self._models.close()
        self._changed.set()
        await self._slots.close()
        await asyncio.sleep(0)
        try:
            async with asyncio.timeout(3):
                await self.checkpoint(last=True)
        except (SkerryError, TimeoutError) as error:
            _log.warning(f"the last checkpoint was not stored, its part is read again at the next start: {error}")
        self._drained.set()
        self._changed.set()

    def report(self) -> Report:
        """How all pipelines of this worker stand."""
        lag = self._reader.pending if self._reader is not None else 0
        reports: dict[str, PipelineReport] = {}
        for slot in self._slots:
            name, part = slot.spec.name, slot.report(lag)
            reports[name] = merge_parts(reports[name], part) if name in reports else part
        for name, report in reports.items():
            report.memory, report.allowed = self._growth.of(name), self._growth.allowed(name)
        if self._reader is not None and self._reader.reading:
            self._waiting = ""
        waiting = "the node's lease in the cluster has ended" if self._lapsed else self._waiting
        units, turn, samples = self._slots.names(), self._slots.turn, self._samples.done()
        cpu_s = sum(os.times()[:2])  # user and system
        return Report(self.ready, reports, waiting=waiting, cpu_seconds=cpu_s, units=units, turn=turn, samples=samples)
