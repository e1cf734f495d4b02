"""One pipeline partition in a worker: its runner, its outbox, and its checkpoints in the right order.

Order, which is the whole point: outputs are acknowledged before the checkpoint that covers them is written; what was decided by
time and not by the log (`hold`) is in the checkpoint before it is published.
"""

import asyncio
import math
from collections.abc import AsyncIterator

import msgspec

from skerry.broker import LOG, Frame, Position, Stored, WireClient, read_page, stream_state
from skerry.core import log
from skerry.core.clock import Clock
from skerry.core.errors import CorruptError, SkerryError
from skerry.core.histogram import RecentHistogram
from skerry.core.units import show_size
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
    Standing,
    books,
    drift_report,
    encode_state,
    unpack_letters,
)
from skerry.worker.live import KEPT, LiveModel
from skerry.worker.merge import add_models
from skerry.worker.outbox import Outbox
from skerry.worker.protocol import ModelReport, PipelineReport
from skerry.worker.sampling import Sampler

CUSTOM_BATCH = 64
IDLE_S = 5.0
"""How often a cursor that only moves over messages for others is stored: it holds the log until then."""
_log = log.get("worker")


class Slot:
    """Runs one pipeline partition. `runner` is None until `load` has succeeded."""

    def __init__(self, spec: PipelineSpec, partition: tuple[int, int], clock: Clock, outbox: Outbox) -> None:
        self.spec = spec
        self.partition = partition[0]
        self.outbox = outbox
        self.runner: Runner | None = None
        self.durable = 0
        self.paused = spec.paused
        self.standing = Standing()
        self.failure = ""
        self.over = self.breaches = 0
        self.retry_at = math.inf
        self.fresh = False
        self.batch = BATCH
        self.known_letters: set[str] = set()
        self.latency = RecentHistogram()
        self.age = RecentHistogram()
        self.live: LiveModel | None = None
        self.parked: PipelineReport | None = None
        self.sampler: Sampler | None = None
        self.past: dict[tuple[str, str], ModelReport] = {}
        self._clock = clock
        self._store = CheckpointStore(spec.name, *partition)
        self._replayed = 0
        self._held: list[Output] = []
        self._hold = False
        self._saving = asyncio.Lock()
        self._stored_cursor = -1
        self._stored_received = 0
        self._stored_at = 0.0

    async def load_state(self, client: WireClient, claim: bool = False) -> PipelineState:
        """The state to go on from, with the outputs that were published after it marked as known.

        With `claim` it is written once more first, so that who had it before can write nothing any more."""
        state = await self._store.load(client, claim)
        if state is None:
            raise CorruptError(f"pipeline {self.spec.name} has no checkpoint", mend="restart the node")
        self.outbox.events_seq, self.outbox.dead_seq = state.events_seq, state.dead_seq
        self.outbox.fence = self._store.revision if claim else 0
        self.outbox.known, self.known_letters = set(), set()
        name = self.spec.name
        async for page in _pages_behind(client, EVENTS, f"{EVENTS_PREFIX}{name}.>", state.events_seq):
            self.outbox.known.update(stored.headers.get("nats-msg-id", "") for stored in page)
        async for page in _pages_behind(client, DEAD, f"{DEAD_PREFIX}{name}", state.dead_seq):
            self.known_letters.update(letter.identity for stored in page for letter in unpack_letters(stored.payload))
        self.durable = state.cursor
        self._replayed = int((await stream_state(client, LOG))["last_seq"]) if self.outbox.known else 0
        self._stored_cursor, self._stored_received = state.cursor, state.ledger.received
        return state

    def take(self, runner: Runner) -> None:
        """Take a runner that stands on a loaded state."""
        self.runner = runner
        self.fresh = True
        if runner.custom:
            self.batch = CUSTOM_BATCH
        runner.touch(self._clock.monotonic())

    def swap(self, live: LiveModel) -> None:
        """Score with another version from the next feed on: what is scored is scored by the version that its event names."""
        before, self.live = self.live, live
        if before is not None:
            self.keep(before.report)
            before.shadow = None
        if self.runner is not None:
            self.runner.scorer = live
        _log.info(f"pipeline {self.spec.name} scores with {live.name}@{live.version}")

    def keep(self, report: ModelReport) -> None:
        """Keep what an earlier version did, added to what it did before that; of the last some versions only."""
        before = self.past.pop((report.model, report.version), None)
        if before is not None:
            epochs = msgspec.structs.replace(before, epoch=report.epoch, failure="")
            report = add_models([epochs, report])[0]
        self.past[report.model, report.version] = report
        while len(self.past) > KEPT:
            del self.past[next(iter(self.past))]

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
        self.follow_share()
        self.release()

    @property
    def cursor(self) -> int:
        if self.runner is None:
            return self.parked.cursor if self.parked is not None else 0
        return self.runner.state.cursor

    def release(self) -> None:
        """Publish what the runner has put out, or hold it until the next checkpoint is stored."""
        runner = self.runner
        if runner is not None and self.sampler is not None:
            self.sampler.look(runner, self.outbox)
        if runner is None or not runner.outputs:
            return
        outputs, runner.outputs = runner.outputs, []
        now = self._clock.monotonic()
        for latency, age in zip(runner.latencies_ms, runner.ages_ms, strict=True):
            self.latency.add(latency, now)
            self.age.add(age, now)
        runner.latencies_ms.clear()
        runner.ages_ms.clear()
        if self._hold:
            self._held += outputs
        else:
            self.outbox.send(outputs)

    def follow(self, frames: list[Frame], first: Position, last: Position, mono: float) -> None:
        """Feed the runner, by who follows a message in it."""
        assert self.runner is not None
        assert self.sampler is not None
        self.sampler.feed(self.runner, frames, first, last, mono)

    def advance(self) -> bool:
        """Close what silent devices left open; True when a checkpoint is needed before anything may be published."""
        if self.runner is None or self._hold:
            return False
        if self.runner.advance(self._clock.monotonic()):
            self._hold = True
        self.release()
        return self._hold

    def follow_share(self) -> bool:
        """Score the share of keys that it is given now; True when a checkpoint is needed before anything may be published.

        What is scored and what is shed must be decided again the same in a replay: the share is stored with the place in the log
        from which on it holds, and nothing that was decided by it is published before. Nor is shed what an earlier life has scored
        and put out."""
        runner, share = self.runner, self.standing.share
        if runner is None or self._hold or runner.state.share == share:
            return False
        if share < runner.state.share and self.outbox.known and runner.state.cursor < self._replayed:
            return False
        runner.state.share = share
        self._hold = True
        return True

    def park(self) -> bool:
        """Let go of all that is loaded, once all of it is stored; True when it has."""
        if self.runner is None or self.dirty or self.outbox.unacked or self._saving.locked():
            return False
        self._show(self.report(0))
        self.runner = self.live = None
        return True

    def rest_on(self, state: PipelineState) -> None:
        """Show a stored state, and load nothing."""
        opened, ledger = books(state), state.ledger
        shown = PipelineReport("pending", opened, cursor=state.cursor, durable=self.durable, keys=len(state.keys))
        shown.windows, shown.events, shown.received_bytes = ledger.windows, ledger.events, ledger.received_bytes
        self._show(shown)

    def _show(self, report: PipelineReport) -> None:
        past = [*self.past.values(), *([self.live.report] if self.live else [])]
        self.parked = msgspec.structs.replace(report, state="pending", models=past, model="", version="", shadow=None)

    @property
    def dirty(self) -> bool:
        """True when the state has moved since the last checkpoint."""
        return self.runner is not None and (self._hold or self.runner.state.cursor != self._stored_cursor)

    @property
    def _due(self) -> bool:
        """True when a checkpoint is worth its write: something was received, or the cursor has moved for a while."""
        assert self.runner is not None
        received = self.runner.state.ledger.received != self._stored_received
        return self._hold or received or self._clock.monotonic() - self._stored_at >= IDLE_S

    async def checkpoint(self, client: WireClient, last: bool = False) -> None:
        """Store the state as it is now, once its outputs are acknowledged. Raises `FencedError`, `UnavailableError`."""
        async with self._saving:
            if self.runner is None or not self.dirty or not (last or self._due):
                return
            state = self.runner.state
            state.events_seq, state.dead_seq = self.outbox.events_seq, self.outbox.dead_seq
            holding = self._hold
            state.outbox = list(self._held)
            data, cursor, received, number = encode_state(state), state.cursor, state.ledger.received, self.outbox.number
            state.outbox = []
            await self.outbox.acknowledged(number)
            await self._store.save(client, data, cursor)
            self.durable = self._stored_cursor = cursor
            self._stored_received, self._stored_at = received, self._clock.monotonic()
            if holding:
                self._hold = False
                ready, self._held = self._held, []
                self.outbox.send(ready)

    async def settle(self, client: WireClient) -> None:
        """Store all that was taken in, and wait until all that it put out is acknowledged. It is not to be fed any more."""
        while self.dirty:
            await self.checkpoint(client, last=True)
        await self.outbox.acknowledged(self.outbox.number)

    @property
    def idle(self) -> bool:
        """Whether it is not to be fed: paused, stopped for its memory, or not admitted."""
        return self.paused or bool(self.over) or self.standing.held

    def stop(self, used: int, allowed: int) -> None:
        """Note that it is fed no longer, since it took more memory than it may."""
        self.over, self.retry_at = used, math.inf
        self.breaches += 1
        _log.warning(f"pipeline {self.spec.name} is stopped: it used {show_size(used)}, allowed are {show_size(allowed)}")

    def fail(self, error: SkerryError) -> None:
        """Note that the pipeline cannot run, and why."""
        self.failure = str(error)
        _log.error(f"pipeline {self.spec.name} does not run: {error}")

    def report(self, lag: int) -> PipelineReport:
        """How this partition stands."""
        if self.runner is None and self.parked is not None and not self.failure:
            return self.parked if self.standing.held else msgspec.structs.replace(self.parked, state="starting")
        if self.runner is None:
            return PipelineReport(state="failed: " + self.failure if self.failure else "starting", models=list(self.past.values()))
        state, recent, ages = self.runner.state, self.latency.recent(), self.age.recent()
        scorer, timing = self.runner.scorer, self.runner.timing
        windows = list(self.runner.recent)
        self.runner.recent.clear()
        return PipelineReport(
            state="pending" if self.standing.held else "stopped" if self.over else "paused" if self.paused else "running",
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
            age=self.age.all,
            age_p50_ms=ages.quantile(0.5),
            age_p99_ms=ages.quantile(0.99),
            infer_seconds=timing.seconds,
            infer_runs=timing.runs,
            infer_rows=timing.rows,
            model=scorer.name if scorer else "",
            version=scorer.version if scorer else "",
            models=[*self.past.values(), *([self.live.report] if self.live else [])],
            shadow=self.live.shadow.report if self.live and self.live.shadow else None,
            drift=drift_report(state.drift, self.spec),
            over=self.over,
            breaches=self.breaches,
            recent=windows,
        )


async def _pages_behind(client: WireClient, stream: str, subject: str, after: int) -> AsyncIterator[list[Stored]]:
    """What a stream holds for a subject behind a sequence, in pages."""
    while page := await read_page(client, stream, subject, after):
        yield page
        after = page[-1].sequence
