"""One pipeline partition in a worker: its runner, its outbox, and its checkpoints in the right order.

Order, which is the whole point: outputs are acknowledged before the checkpoint that covers them is written; what was decided by
time and not by the log (`hold`) is in the checkpoint before it is published.
"""

import asyncio
from collections.abc import AsyncIterator

from skerry.broker import Stored, WireClient, read_page
from skerry.core import log
from skerry.core.clock import Clock
from skerry.core.errors import CorruptError, SkerryError
from skerry.core.histogram import RecentHistogram
from skerry.pipeline import (
    BATCH,
    DEAD,
    DEAD_PREFIX,
    EVENTS,
    EVENTS_PREFIX,
    CheckpointStore,
    Output,
    PipelineSpec,
    PipelineState,
    Runner,
    books,
    encode_state,
    log_subjects,
    unpack_letters,
)
from skerry.worker.outbox import Outbox
from skerry.worker.protocol import PipelineReport

CUSTOM_BATCH = 64
_log = log.get("worker")


class Slot:
    """Runs one pipeline partition. `runner` is None until `load` has succeeded."""

    def __init__(self, spec: PipelineSpec, partition: tuple[int, int], clock: Clock, outbox: Outbox) -> None:
        self.spec = spec
        self.outbox = outbox
        self.subjects = log_subjects(spec.name, spec.source.topic)
        self.runner: Runner | None = None
        self.durable = 0
        self.paused = spec.paused
        self.failure = ""
        self.fresh = False
        self.batch = BATCH
        self.known_letters: set[str] = set()
        self.latency = RecentHistogram()
        self._clock = clock
        self._store = CheckpointStore(spec.name, *partition)
        self._held: list[Output] = []
        self._hold = False
        self._saving = asyncio.Lock()
        self._stored_cursor = -1

    async def load_state(self, client: WireClient) -> PipelineState:
        """The state to go on from, with the outputs that were published after it marked as known."""
        state = await self._store.load(client)
        if state is None:
            raise CorruptError(f"pipeline {self.spec.name} has no checkpoint", mend="restart the node")
        self.outbox.events_seq, self.outbox.dead_seq = state.events_seq, state.dead_seq
        name = self.spec.name
        async for page in _pages_behind(client, EVENTS, f"{EVENTS_PREFIX}{name}.>", state.events_seq):
            self.outbox.known.update(stored.headers.get("nats-msg-id", "") for stored in page)
        async for page in _pages_behind(client, DEAD, f"{DEAD_PREFIX}{name}", state.dead_seq):
            self.known_letters.update(letter.identity for stored in page for letter in unpack_letters(stored.payload))
        self.durable = state.cursor
        self._stored_cursor = state.cursor
        return state

    def take(self, runner: Runner) -> None:
        """Take a runner that stands on a loaded state."""
        self.runner = runner
        self.fresh = True
        if runner.custom:
            self.batch = CUSTOM_BATCH
        runner.touch(self._clock.monotonic())

    def touch(self) -> None:
        """Take all devices as heard of now."""
        if self.runner is not None:
            self.runner.touch(self._clock.monotonic())

    async def forget_stored(self, client: WireClient) -> None:
        """After an outage: outputs that were stored and whose acknowledgement was lost are not sent again."""
        name, outbox = self.spec.name, self.outbox
        stored: set[str] = set()
        for stream, subject, after in (
            (EVENTS, f"{EVENTS_PREFIX}{name}.>", outbox.events_seq),
            (DEAD, f"{DEAD_PREFIX}{name}", outbox.dead_seq),
        ):
            async for page in _pages_behind(client, stream, subject, after):
                stored.update(each.headers.get("nats-msg-id", "") for each in page)
        outbox.settle(stored)

    def start(self) -> None:
        """Publish what the loaded state's outbox held: it was stored before it was to be published."""
        assert self.runner is not None
        self.fresh = False
        self.outbox.send(self.runner.state.outbox)
        self.runner.state.outbox = []
        self.release()

    @property
    def cursor(self) -> int:
        return self.runner.state.cursor if self.runner is not None else 0

    def skip_to(self, cursor: int) -> None:
        """Move the cursor over messages that are not for this pipeline."""
        if self.runner is not None:
            self.runner.state.cursor = max(self.runner.state.cursor, cursor)

    def release(self) -> None:
        """Publish what the runner has put out, or hold it until the next checkpoint is stored."""
        runner = self.runner
        if runner is None or not runner.outputs:
            return
        outputs, runner.outputs = runner.outputs, []
        now = self._clock.monotonic()
        for latency in runner.latencies_ms:
            self.latency.add(latency, now)
        runner.latencies_ms.clear()
        if self._hold:
            self._held += outputs
        else:
            self.outbox.send(outputs)

    def advance(self) -> bool:
        """Close what silent devices left open; True when a checkpoint is needed before anything may be published."""
        if self.runner is None or self._hold:
            return False
        if self.runner.advance(self._clock.monotonic()):
            self._hold = True
        self.release()
        return self._hold

    @property
    def dirty(self) -> bool:
        """True when the state has moved since the last checkpoint."""
        return self.runner is not None and (self._hold or self.runner.state.cursor != self._stored_cursor)

    async def checkpoint(self, client: WireClient) -> None:
        """Store the state as it is now, once its outputs are acknowledged. Raises `FencedError`, `UnavailableError`."""
        async with self._saving:
            if self.runner is None or not self.dirty:
                return
            state = self.runner.state
            state.events_seq, state.dead_seq = self.outbox.events_seq, self.outbox.dead_seq
            holding = self._hold
            state.outbox = list(self._held)
            data, cursor, number = encode_state(state), state.cursor, self.outbox.number
            state.outbox = []
            await self.outbox.acknowledged(number)
            await self._store.save(client, data, cursor)
            self.durable = self._stored_cursor = cursor
            if holding:
                self._hold = False
                ready, self._held = self._held, []
                self.outbox.send(ready)

    def fail(self, error: SkerryError) -> None:
        """Note that the pipeline cannot run, and why."""
        self.failure = str(error)
        _log.error(f"pipeline {self.spec.name} does not run: {error}")

    def report(self, lag: int) -> PipelineReport:
        """How this partition stands."""
        if self.runner is None:
            return PipelineReport(state="failed: " + self.failure if self.failure else "starting")
        state, recent = self.runner.state, self.latency.recent()
        scorer, timing = self.runner.scorer, self.runner.timing
        return PipelineReport(
            state="paused" if self.paused else "running",
            books=books(state),
            cursor=state.cursor,
            durable=self.durable,
            lag=lag,
            keys=len(state.keys),
            windows=state.ledger.windows,
            events=state.ledger.events,
            received_bytes=state.ledger.received_bytes,
            unacknowledged=self.outbox.unacked + len(self._held),
            latency=self.latency.all,
            recent_p50_ms=recent.quantile(0.5),
            recent_p99_ms=recent.quantile(0.99),
            infer_seconds=timing.seconds,
            infer_runs=timing.runs,
            infer_rows=timing.rows,
            model=scorer.name if scorer else "",
            version=scorer.version if scorer else "",
        )


async def _pages_behind(client: WireClient, stream: str, subject: str, after: int) -> AsyncIterator[list[Stored]]:
    """What a stream holds for a subject behind a sequence, in pages."""
    while page := await read_page(client, stream, subject, after):
        yield page
        after = page[-1].sequence
