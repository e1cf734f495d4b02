"""The runner: frames of the log in, outputs out. A function of (state, frames): a replay from a checkpoint decides the same again.

Two things are decided outside the log: windows of silent devices (`advance`) and what is skipped as poison. Whoever lets a runner
decide them must store the state before it publishes the outputs (`held`).
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from skerry.broker import Frame, Position, position
from skerry.core.ports import Scorer
from skerry.pipeline.decode import FUTURE, OVERSIZED, UNDECODABLE, UNKNOWN_KEY, WRONG_SHAPE, Undecoded, decoder
from skerry.pipeline.dedup import mark_of, seen_before
from skerry.pipeline.drift import DriftWatch
from skerry.pipeline.event import DeadLetter, Output, event_output, letters_outputs, message_letter, window_letter, window_of
from skerry.pipeline.judging import Judge
from skerry.pipeline.partitions import partition_of
from skerry.pipeline.picture import TensorWindow, tensor_window
from skerry.pipeline.router import Router, Target
from skerry.pipeline.sampling import Probe
from skerry.pipeline.shed import without_shed
from skerry.pipeline.spec import PipelineSpec
from skerry.pipeline.stage import Scores, Stage, StageError, Timing
from skerry.pipeline.state import PipelineState, adopt
from skerry.pipeline.topics import RETRY_PREFIX
from skerry.pipeline.trace import Trace, window_name
from skerry.window.state import Closed, KeyState, Row
from skerry.window.windower import silent_watermark, windower

POISON = "poison"
SCORE_NAN = "score-nan"
BATCH = 512
MOST_RECENT = 32
MOST_NUMBERS = 1_000_000


class Runner:
    """One partition of one pipeline.

    Args:
        now: wall clock in microseconds, for `latency_ms`; None offline.
        partition: (index, of how many): which keys are ours, by crc32.
        poison: sequences and window names that are not tried again.
        known_letters: dead letters that are stored already (of a run before this one, behind the checkpoint).
        stage: what scores, where something beside the score is wanted of it; else one of the spec and the scorer.
    """

    def __init__(
        self,
        spec: PipelineSpec,
        scorer: Scorer | None,
        node: str,
        state: PipelineState,
        *,
        now: Callable[[], int] | None = None,
        partition: tuple[int, int] = (0, 1),
        poison: Sequence[str] = (),
        known_letters: set[str] | None = None,
        trace: Trace | None = None,
        stage: Stage | None = None,
    ) -> None:
        self.spec = spec
        self.state = state
        self.outputs: list[Output] = []
        self.latencies_ms: list[float] = []
        self.ages_ms: list[float] = []
        self.recent: deque[tuple[str, int, float]] = deque(maxlen=MOST_RECENT)  # key, end, score: to be looked at, no state
        self.probe: Probe | None = None
        self._letters: list[DeadLetter] = []
        self._now = now
        self._poison = frozenset(poison)
        self._known_letters = known_letters or set()
        self._trace = trace or Trace()
        self.batch = BATCH
        self._stage = stage or Stage(spec, scorer)
        self._drift = DriftWatch(spec, node, state.drift)
        self._judge = Judge(spec, node)
        self.decode = decoder(spec.source, spec.dedup_field if spec.dedup == "id" else "")
        self.router = Router(spec.name, spec.source, state.keys, partition)
        self._windower = windower(spec.window)
        self._lateness = spec.window.lateness_us
        self._max_future = spec.source.max_future_us
        self._tensors, self._max_payload = spec.source.tensors, spec.source.max_payload_bytes
        self._longest = -1 if self._tensors else self._max_payload  # tensors are uncommon whatever their length
        self._closed: list[Closed] = []
        self._numbers = 0
        self._arrival = 0
        self._letters += adopt(state, spec.window_digest)
        self._flush_letters()

    @property
    def scorer(self) -> Scorer | None:
        return self._stage.scorer

    @scorer.setter
    def scorer(self, scorer: Scorer | None) -> None:
        self._stage.scorer = scorer  # between two feeds: what is scored together is scored by one version

    @property
    def custom(self) -> bool:
        return self._stage.custom

    @property
    def timing(self) -> Timing:
        return self._stage.timing

    def feed(self, frames: list[Frame], first: Position, last: Position, mono: float) -> None:
        """Take in frames of the log; outputs are appended to `outputs`."""
        state, ledger = self.state, self.state.ledger
        if last.stream <= state.cursor:
            return
        if first.stream <= state.cursor:
            frames = [frame for frame in frames if position(frame[1]).stream > state.cursor]
        if state.taken:
            frames = [frame for frame in frames if not self._taken_before(frame)]
        name, targets, route, decode = self.spec.name, self.router.targets, self.router.route, self.decode
        add, lateness = self._windower.add, self._lateness
        self._trace.messages(name, first.stream, last.stream)
        self._arrival = first.arrival
        latest = min(first.arrival, last.arrival) + self._max_future
        longest = self._longest
        received = received_bytes = 0
        dedup = self.spec.dedup != "off"
        for frame in frames:
            target = targets.get(frame[0]) or route(frame[0])
            key, keyed = target.key, target.state
            if key is None:
                continue
            payload = frame[3]
            received += 1
            received_bytes += len(payload)
            try:
                if self._poison and self._skip_poison(frame, key):
                    continue
                if keyed is None or len(payload) > longest or frame[2].endswith(b"Skerry-Window: 1\r\n\r\n"):
                    self._uncommon(frame, target, mono)
                    continue
                rows, identity = decode(payload)
                if dedup and self._skip_resent(frame, key, rows, identity):
                    continue
            except Undecoded as error:
                self._bury(frame, error.reason, error.detail, key)
                continue
            if len(rows) == 1 and 0.0 <= rows[0][0] <= latest:
                reason = add(keyed, rows[0], True)
                if reason is not None:
                    self._bury(frame, reason, "", key)
                    continue
            elif not self._add_many(frame, key, keyed, rows):
                continue
            keyed.seen = mono
            if keyed.due <= keyed.newest - lateness:
                self._close(key, keyed, keyed.newest - lateness)
        self._score()
        ledger.received += received
        ledger.received_bytes += received_bytes
        state.cursor = last.stream
        if state.taken and state.cursor >= max(map(max, state.taken)):
            state.taken = []
        self._flush_letters()
        self._trace.idle()

    def _close(self, key: str, keyed: KeyState, watermark: int) -> None:
        """Close windows and score them as they come: a device that fell silent may close thousands that overlap."""
        for window in self._windower.close(key, keyed, watermark):
            self._closed.append(window)
            self._numbers += len(window.flat)
            if len(self._closed) >= self.batch or self._numbers > MOST_NUMBERS:
                self._score()

    def _take_tensor(self, frame: Frame, key: str, keyed: KeyState, tensor: Any) -> None:
        """A picture or a text: its window is closed, and scored with those that came with it as far as memory allows."""
        self._closed += [tensor_window(window, tensor, frame) for window in self._windower.close(key, keyed, keyed.due)]
        self._numbers += tensor.size
        if len(self._closed) >= self.batch or self._numbers > MOST_NUMBERS:
            self._score()

    def _taken_before(self, frame: Frame) -> bool:
        """Whether the partition that had the frame's key before a re-deal has taken it in."""
        target = self.router.targets.get(frame[0]) or self.router.route(frame[0])
        key, at = self.router.owner(target, frame[3]), position(frame[1]).stream
        return any(at <= cursors[partition_of(key, len(cursors))] for cursors in self.state.taken)

    def _uncommon(self, frame: Frame, target: Target, mono: float) -> None:
        """Frames that are too long, carry their key in the payload, or are a window tried again."""
        payload, source = frame[3], self.spec.source
        if frame[2].endswith(b"Skerry-Window: 1\r\n\r\n"):
            self._take_again(frame)
            return
        long = len(payload) > self._max_payload
        owner = target.key or "" if long else self.router.owner(target, payload)
        if not self.router.mine(owner):
            self._disown(payload)
            return
        if long:
            raise Undecoded(OVERSIZED, f"{len(payload)} bytes, allowed are {source.max_payload_bytes}")
        key = self.router.key_of(target, payload)
        keyed = self.router.keyed(key)
        if keyed is None:
            raise Undecoded(UNKNOWN_KEY, f"over {source.max_keys} keys")
        if self._tensors:  # decoders of pictures are native code: who ends the worker is to be known by name
            self._trace.messages(self.spec.name, *[position(frame[1]).stream] * 2)
        rows, identity = self.decode(payload)
        if self.spec.dedup != "off" and self._skip_resent(frame, key, rows, identity):
            return
        if self._add_many(frame, key, keyed, rows):
            keyed.seen = mono
            if self._tensors:
                self._take_tensor(frame, key, keyed, identity)
                return
            self._close(key, keyed, keyed.newest - self._lateness)

    def _take_again(self, frame: Frame) -> None:
        """A window that had failed and is to be tried again, whole."""
        try:
            window = window_of(frame[3], position(frame[1]).stream)
        except msgspec.MsgspecError as error:
            if not self.router.mine(""):
                self._disown(frame[3])
                return
            raise Undecoded(UNDECODABLE, f"not a window: {error}") from error
        if not self.router.mine(window.key):
            self._disown(frame[3])
            return
        self.state.ledger.received += window.messages - 1
        if len(window.flat) == window.samples * self._stage.width:
            self._closed.append(window)
            return
        self._bury_window(window, WRONG_SHAPE, "the pipeline reads other values now than when the window was made")

    def _disown(self, payload: bytes) -> None:
        """Another partition's: not received after all."""
        self.state.ledger.received -= 1
        self.state.ledger.received_bytes -= len(payload)

    def _add_many(self, frame: Frame, key: str, keyed: KeyState, rows: list[Row]) -> bool:
        """Samples with arrival time, several samples, or a time to be looked at; False when the message is a dead letter."""
        arrival = float(position(frame[1]).arrival)
        latest, reason, counted = arrival + self._max_future, "", False
        for row in rows:
            if row[0] < 0:
                # a clock that was set back must not make all that arrives late until it has caught up
                row = (max(arrival + row[0] + 1.0, float(keyed.newest - self._lateness)), *row[1:])
            refused = FUTURE if row[0] > latest else self._windower.add(keyed, row, not counted)
            if refused is None:
                counted = True
            else:
                reason = refused
                self.state.ledger.late_samples += 1
        if counted:
            return True
        self.state.ledger.late_samples -= len(rows)
        self._bury(frame, reason, "", key)
        return False

    def _skip_poison(self, frame: Frame, key: str) -> bool:
        """Whether a message is poison; asked before anything is done with it."""
        if str(position(frame[1]).stream) not in self._poison:
            return False
        self._bury(frame, POISON, "it ended the worker three times", key)
        return True

    def _skip_resent(self, frame: Frame, key: str, rows: list[Row], identity: object) -> bool:
        """Whether a message is a re-send; a dead letter that is tried again is none."""
        if frame[0].startswith(RETRY_PREFIX.encode()):
            return False
        mark = mark_of(self.spec.dedup, frame[3], rows, identity)
        if not seen_before(self.state.recent.setdefault(key, []), mark, self.spec.dedup_horizon):
            return False
        self.state.ledger.duplicates += 1
        return True

    def advance(self, mono: float) -> bool:
        """Close windows of devices that fell silent; True if any was closed. Only for a runner that has caught up with the log."""
        idle, decided, self._arrival = self.spec.window.idle_us, False, 0
        for key, keyed in self.state.keys.items():
            if keyed.panes:
                watermark = silent_watermark(keyed, mono, self._lateness, idle)
                if keyed.due <= watermark:
                    decided = True
                    self._close(key, keyed, watermark)
        self._score()
        self._flush_letters()
        self._trace.idle()
        return decided

    def feed_rows(self, rows: Iterable[tuple[str, Row]]) -> None:
        """Take in samples of a history, key and row, in order of time: each as a message of its own that came when it was made."""
        ledger, add, lateness = self.state.ledger, self._windower.add, self._lateness
        for key, row in rows:
            ledger.received += 1
            keyed = self.router.keyed(key)
            refused = UNKNOWN_KEY if keyed is None else add(keyed, row, True)
            if keyed is None or refused is not None:
                self._letters.append(DeadLetter(0, str(refused), "", "", key, int(row[0]), b""))
                ledger.bury(str(refused), 1)
            elif keyed.due <= keyed.newest - lateness:
                self._close(key, keyed, keyed.newest - lateness)
        self._score()
        self._flush_letters()

    def finish(self, through: int = 2**61) -> None:
        """Close all windows that end by then: the end of a file."""
        for key, keyed in self.state.keys.items():
            self._close(key, keyed, through)
        self._score()
        self._flush_letters()

    def touch(self, mono: float) -> None:
        """Take all devices as heard of now: after a restart nobody knows how long they were silent."""
        for keyed in self.state.keys.values():
            keyed.seen = mono

    def _bury(self, frame: Frame, reason: str, detail: str, key: str) -> None:
        self._letters.append(message_letter(frame, reason, detail, key))
        self.state.ledger.bury(reason, 1)

    def _flush_letters(self) -> None:
        if self._known_letters:
            self._letters = [letter for letter in self._letters if letter.identity not in self._known_letters]
        self.outputs += letters_outputs(self.spec.name, self._letters)
        self._letters = []

    def _score(self) -> None:
        """Score what has closed, in batches; a batch that fails is tried window by window, so that one bad one fails alone."""
        closed, self._closed, self._numbers = self._closed, [], 0
        if self._poison:
            closed = [window for window in closed if not self._poisoned(window)]
        if self.state.share < 1.0:
            closed, shed = without_shed(closed, self.state.share)
            self.state.ledger.shed += shed
        for begin in range(0, len(closed), self.batch):
            batch = closed[begin : begin + self.batch]
            self._trace.windows(self.spec.name, window_name(batch[0]), window_name(batch[-1]))
            try:
                self._emit(batch, self._stage.score(batch) if self.probe is None else self.probe.score(self._stage, batch))
            except StageError as error:
                self._score_alone(batch, error)
            if self.probe is not None:
                self.probe.ruled(self.outputs)

    def _score_alone(self, batch: list[Closed], error: StageError) -> None:
        if len(batch) == 1:
            self._bury_window(batch[0], error.reason, error.detail)
            return
        for window in batch:
            self._trace.windows(self.spec.name, window_name(window), window_name(window))
            try:
                self._emit([window], self._stage.score([window]))
            except StageError as alone:
                self._bury_window(window, alone.reason, alone.detail)

    def _poisoned(self, window: Closed) -> bool:
        if window_name(window) not in self._poison:
            return False
        self._bury_window(window, POISON, "it ended the worker three times")
        return True

    def _bury_window(self, window: Closed, reason: str, detail: str) -> None:
        if isinstance(window, TensorWindow):
            self._bury(window.frame, reason, detail, window.key)
            return
        self._letters.append(window_letter(window, reason, detail, self.state.cursor))
        self.state.ledger.bury(reason, window.messages)

    def _emit(self, windows: list[Closed], scores: Scores) -> None:
        ledger = self.state.ledger
        now = self._now() if self._now is not None else 0
        latency = max(0.0, (now - self._arrival) / 1000) if now and self._arrival else 0.0
        for window, score, label, row in zip(windows, scores.scores, scores.labels, scores.rows, strict=True):
            if math.isnan(score):
                self._bury_window(window, SCORE_NAN, "the score is not a number")
                continue
            ledger.windows += 1
            ledger.scored += window.messages
            features = dict(zip(scores.columns, row, strict=False))
            event = self._judge.event(self.state.alarms, self._stage.scorer, window, score, label, features, latency)
            if event is not None:
                ledger.events += 1
                self.outputs.append(event_output(event))
                if latency:
                    self.latencies_ms.append(latency)
                    self.ages_ms.append(max(0.0, (now - window.end) / 1000))
        last = zip(windows[-MOST_RECENT:], scores.scores[-MOST_RECENT:], strict=True)
        self.recent.extend((window.key, window.end, score) for window, score in last if math.isfinite(score))
        for moved in self._drift.observe(windows, scores.table, self._stage.watched, self._stage.scorer):
            ledger.events += 1
            self.outputs.append(event_output(moved))
        self.state.drift = self._drift.state
