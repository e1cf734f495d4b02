"""The worker's engine: one reader over the log feeds all its pipelines; a connection lost is a reader lost, never a state."""

import asyncio
import math
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from skerry.broker import Frame, LogReader, Position, WireClient, position, push_out
from skerry.core import log
from skerry.core.clock import Clock
from skerry.core.errors import ConfigError, CorruptError, RejectedError, SkerryError, UnavailableError
from skerry.core.service import Backoff, beat, cancel_and_wait
from skerry.core.units import parse_size
from skerry.pipeline import MAX_SUBJECT, QOS0_PREFIX, PipelineSpec, Runner, Standing, parse_pipeline, subjects_of
from skerry.runtime import resident, trim
from skerry.worker.growth import Growth
from skerry.worker.models import WorkerModels
from skerry.worker.outbox import Outbox
from skerry.worker.protocol import Assignment, Command, PipelineReport, Report
from skerry.worker.slot import Slot
from skerry.worker.trace import FileTrace

CHECKPOINT_S = 1.0
TICK_S = 0.25
EVERYTHING = [">"]
"""What is read of the log: with filters the server takes thrice as long for a message (12 µs more), and the worker needs less than
2 µs to pass over one that is for none of its pipelines."""
EXIT_BROKEN = 70
QOS0_QUEUE = b"skerry-qos0"
QOS0_MARKS = (b"NATS/1.0\r\nNmqtt-Pub:0\r\n", b"NATS/1.0\r\nNmqtt-Pub: 0\r\n")
PUSH_OUT_S = 5.0
_log = log.get("worker")


class Engine:
    """Runs what it is assigned until `drain` is called or a fence stops it."""

    def __init__(self, assignment: Assignment, clock: Clock) -> None:
        self._assignment = assignment
        self._clock = clock
        self._trace = FileTrace(Path(assignment.trace))
        self._slots: dict[str, Slot] = {}
        self._client: WireClient | None = None
        self._feed_client: WireClient | None = None
        self._reader: LogReader | None = None
        self._hole = 0
        self._pushed_out = -PUSH_OUT_S
        self._fed: list[Slot] = []
        self._changed = asyncio.Event()
        self._drained = asyncio.Event()
        self._loading = asyncio.Lock()
        self._draining = False
        self.ready = False
        self._waiting = ""
        if assignment.base not in sys.path:
            sys.path.insert(0, assignment.base)
        self._models = WorkerModels(assignment)
        for table in assignment.pipelines:
            spec = parse_pipeline(table, f"pipelines.{table.get('name')}")
            self._slots[spec.name] = Slot(spec, (assignment.partition, assignment.partitions), clock, Outbox(self._on_drained))
        allowed = {name: allowed_of(slot.spec, assignment.models) for name, slot in self._slots.items()}
        self._growth = Growth(allowed, resident)
        self._stand(assignment.standings)

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
        for slot in self._slots.values():
            if slot.runner is None:
                await self._load(slot)
            elif slot.runner is not None:
                await slot.forget_stored(self._client)
                slot.touch()
            slot.outbox.attach(self._client)
        for slot in self._slots.values():
            if slot.runner is not None and slot.fresh:
                slot.start()
        self._tap_qos0()

    async def _load(self, slot: Slot) -> None:
        async with self._loading:
            if slot.runner is None and not slot.failure:
                await self._begin(slot)

    async def _begin(self, slot: Slot) -> None:
        assert self._client is not None
        given = self._assignment
        try:
            state = await slot.load_state(self._client)
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
                partition=(given.partition, given.partitions),
                poison=given.poison.get(slot.spec.name, ()),
                known_letters=slot.known_letters,
                trace=self._trace,
            )
        except (ConfigError, RejectedError, CorruptError) as error:
            slot.fail(error)
            return
        slot.live = live
        slot.take(runner)

    def _tap_qos0(self) -> None:
        """QoS 0 is not in the log: put it there, each message by one worker only. What is lost before that, MQTT allows."""
        assert self._feed_client is not None
        client = self._feed_client

        def take(frames: list[Frame]) -> None:
            for subject, _, _, payload in frames:
                if len(subject) <= MAX_SUBJECT:  # a longer one has no room in a line, and the server would end the connection
                    client.publish(QOS0_PREFIX.encode() + subject, payload)

        wanted = {subject for slot in self._slots.values() for subject in subjects_of(slot.spec.source.topic)}
        for subject in sorted(_widest(wanted)):
            client.subscribe(subject.encode(), take, QOS0_QUEUE, QOS0_MARKS)

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
        self._fed = running = self._running()
        changed = asyncio.create_task(self._changed.wait())
        reading: asyncio.Task[None] | None = None
        if running and not self._draining:
            cursor = lambda: min(slot.cursor for slot in running)  # noqa: E731 - the reader's own set, not that of a later moment
            self._reader = LogReader(client, EVERYTHING, cursor, self._on_batch, full=self._full, on_hole=self._note_hole)
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
        return [slot for slot in self._slots.values() if slot.runner is not None and not slot.idle]

    def _full(self) -> bool:
        return any(slot.outbox.full for slot in self._slots.values())

    def _note_hole(self, sequence: int) -> None:
        self._hole = sequence

    async def _fill_hole(self, client: WireClient, now: float) -> None:
        """One worker does it, and not all the time: a device may make such messages as fast as it likes."""
        if not self._hole or self._assignment.partition or now - self._pushed_out < PUSH_OUT_S:
            return
        sequence, self._hole, self._pushed_out = self._hole, 0, now
        if await push_out(client, sequence):
            _log.warning(f"message {sequence} of the log is passed over: its topic was too long to be stored")

    def _on_drained(self) -> None:
        if self._reader is not None and not self._full():
            self._reader.go_on()

    def _on_batch(self, frames: list[Frame], first: Position, last: Position) -> None:
        try:
            self._take(frames, first, last)
        except BaseException:  # noqa: BLE001 - see below
            # no state is left that could be trusted, and a callback has no caller to tell: the agent starts a new worker
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(EXIT_BROKEN)

    def _take(self, frames: list[Frame], first: Position, last: Position) -> None:
        if first.stream <= self._assignment.careful_until:
            for frame in frames:
                where = position(frame[1])
                self._feed([frame], where, where)
        else:
            self._feed(frames, first, last)

    def _feed(self, frames: list[Frame], first: Position, last: Position) -> None:
        mono = self._clock.monotonic()
        careful = first.stream <= self._assignment.careful_until
        self._growth.look()  # the timers may be far: a read of many messages is fed in one go
        mark = self._growth.mark()
        for slot in self._fed:
            if slot.runner is not None:
                slot.runner.batch = 1 if careful else slot.batch
                slot.runner.feed(frames, first, last, mono)
                slot.release()
                mark = self._measure(slot, mark)

    def _measure(self, slot: Slot, mark: int) -> int:
        """Put down what memory a feed took, and feed a pipeline no longer that has taken too much; the mark for the next feed."""
        name = slot.spec.name
        if not mark:
            return 0
        mark = self._growth.note(name, mark)
        if self._growth.over(name) and not slot.over:
            slot.stop(self._growth.of(name), self._growth.allowed(name))
            self._leave_out(slot)
        return mark

    async def _keep_time(self, client: WireClient) -> None:
        """Timers: windows of silent devices, checkpoints, re-sends."""
        last_checkpoint = before = self._clock.monotonic()
        while not client.closed.done():
            await beat(TICK_S)
            now = self._clock.monotonic()
            caught_up = self._reader is not None and self._reader.caught_up
            urgent = False
            stood_still = now - before > 2 * TICK_S  # what it did not hear then says nothing about the devices
            for slot in self._fed:
                if stood_still:
                    slot.touch()
                elif caught_up:
                    mark = self._growth.mark()
                    urgent |= slot.advance()
                    self._measure(slot, mark)
                urgent |= slot.follow_share()
            self._growth.look()
            for slot in self._slots.values():
                slot.outbox.resend()
                if now >= slot.retry_at:
                    self._go_on(slot)
            await self._fill_hole(client, now)
            if urgent or now - last_checkpoint >= CHECKPOINT_S:
                last_checkpoint = now
                await self.checkpoint()
            if any(slot.park() for slot in self._slots.values() if slot.standing.held):
                await asyncio.to_thread(trim)
            before = self._clock.monotonic()

    async def checkpoint(self, last: bool = False) -> None:
        """Store the state of every pipeline that has moved."""
        if self._client is not None:
            await asyncio.gather(*[slot.checkpoint(self._client, last or slot.standing.held) for slot in self._slots.values()])

    def pause(self, pipeline: str, paused: bool) -> None:
        """Stop or go on reading for one pipeline; its state stays."""
        slot = self._slots.get(pipeline)
        if slot is not None and slot.paused != paused:
            slot.paused = paused
            self._leave_out(slot)
        if slot is not None and not paused and slot.over:
            self._go_on(slot)

    def retry(self, pipeline: str, after: float) -> None:
        """Let a pipeline go on after so many seconds that was stopped for its memory."""
        slot = self._slots.get(pipeline)
        if slot is not None and slot.over:
            slot.retry_at = self._clock.monotonic() + after

    def _go_on(self, slot: Slot) -> None:
        slot.over, slot.retry_at = 0, math.inf
        self._growth.forget(slot.spec.name)
        self._leave_out(slot)

    def _leave_out(self, slot: Slot) -> None:
        """Read anew with the pipelines that run: what this reader still brings stands behind a gap for one that was not there."""
        self._fed = [each for each in self._fed if each is not slot]
        slot.touch()
        self._changed.set()

    def _stand(self, standings: dict[str, Standing]) -> None:
        for name, slot in self._slots.items():
            before, slot.standing = slot.standing, standings.get(name, Standing())
            slot.follow_share()  # now: where feeds take seconds, the next look at the timers is far
            if before.held != slot.standing.held:
                self._leave_out(slot)

    async def change_standings(self, standings: dict[str, Standing]) -> None:
        """Give pipelines more or less: a pipeline that is held is stored and let go of, one that no longer is is loaded again."""
        self._stand(standings)
        slots = list(self._slots.values())
        await self._models.rest(frozenset(name for name, given in standings.items() if not given.shadow), slots)
        for slot in slots:
            here = self._client is not None and not self._client.closed.done() and not self._draining
            if slot.runner is None and not slot.standing.held and here:
                await self._load(slot)
                self._start_late(slot)

    async def change_models(self, command: Command) -> None:
        """Take other models: a swap between two feeds; a pipeline that failed over its model is begun anew."""
        slots = list(self._slots.values())
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

    async def drain(self) -> None:
        """Stop reading, store all, end `run`."""
        self._draining = True
        self._fed = []
        self._models.close()
        self._changed.set()
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
        reports: dict[str, PipelineReport] = {name: slot.report(lag) for name, slot in self._slots.items()}
        for name, report in reports.items():
            report.memory, report.allowed = self._growth.of(name), self._growth.allowed(name)
        spent = os.times()
        if self._reader is not None and self._reader.reading:
            self._waiting = ""
        return Report(ready=self.ready, pipelines=reports, waiting=self._waiting, cpu_seconds=spent.user + spent.system)


def allowed_of(spec: PipelineSpec, models: list[dict[str, Any]]) -> int:
    """Bytes that a worker may grow by for a pipeline: its own, and what its model may take to run."""
    name = (spec.model or "").partition("@")[0]
    may = [parse_size(str(table["memory"])) for table in models if table.get("name") == name and table.get("memory")]
    return spec.resources.memory_bytes + max(may, default=0)


def _widest(subjects: set[str]) -> set[str]:
    """The subjects less those that another one covers: the server refuses filters that overlap."""
    return {
        subject
        for subject in subjects
        if not any(other != subject and _covers(other.split("."), subject.split(".")) for other in subjects)
    }


def _covers(wide: list[str], narrow: list[str]) -> bool:
    for at, level in enumerate(wide):
        if level == ">":
            return len(narrow) > at
        if at >= len(narrow) or narrow[at] == ">" or level not in ("*", narrow[at]):
            return False
    return len(wide) == len(narrow)
