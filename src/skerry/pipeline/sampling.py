"""One message followed through a runner: what time each step took, for who asked for it. Nobody else pays for it."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from skerry.broker import Frame, position
from skerry.core.clock import Clock, to_rfc3339
from skerry.pipeline.decode import Undecoded
from skerry.pipeline.event import Output
from skerry.pipeline.topics import topic_of

if TYPE_CHECKING:
    from skerry.pipeline.runner import Runner
    from skerry.pipeline.stage import Scores, Stage
    from skerry.window.state import Closed


class _Head(msgspec.Struct, gc=False):
    id: str
    key: str = ""
    start: str = ""


class Sample(msgspec.Struct):
    """A message on its way. Times are wall clock in microseconds, 0: not come to yet.

    Attributes:
        device: the message's own time; 0 where it carries none. arrival: at the broker, as the log has it. read: by the worker.
        begun: its turn among what was read with it. decoded, windowed: it is in its open window. closed: its window is, and
            scoring begins. features, model, ruled: the ends of these.
        model_us: of `model` the time that the model ran. batch: windows that were scored together.
        outcome: what came of it; empty while that is open. event: the id of its event.
        stored: its event is in the event log, at `sequence_event`.
    """

    key: str
    topic: str
    sequence: int
    size: int
    arrival: int
    read: int
    begun: int
    device: int = 0
    decoded: int = 0
    windowed: int = 0
    closed: int = 0
    features: int = 0
    model: int = 0
    ruled: int = 0
    stored: int = 0
    sequence_event: int = 0
    batch: int = 0
    samples: int = 0
    start: str = ""
    end: str = ""
    outcome: str = ""
    event: str = ""


class Probe:
    """What a runner tells while it works on the message: see `Sample`. One for each message."""

    def __init__(self, sample: Sample, clock: Clock) -> None:
        self.sample = sample
        self._clock = clock
        self._time = float(sample.arrival)

    def timed(self, decode: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
        """A decoder that notes when it is through, and the time in the message."""

        def decoded(payload: bytes) -> Any:
            rows, identity = decode(payload)
            self.sample.decoded = self._clock.now()
            if rows and rows[-1][0] >= 0:
                self._time = float(rows[-1][0])
                self.sample.device = round(self._time)
            return rows, identity

        return decoded

    def score(self, stage: "Stage", windows: "list[Closed]") -> "Scores":
        """Score as the stage does; noted where the message's window is among those."""
        sample = self.sample
        mine = next((each for each in windows if each.key == sample.key and each.start <= self._time <= each.end), None)
        if mine is None or sample.closed:
            return stage.score(windows)
        sample.closed, sample.batch, sample.samples = self._clock.now(), len(windows), mine.samples
        sample.start, sample.end = to_rfc3339(mine.start), to_rfc3339(mine.end)
        before = stage.timing.seconds
        try:
            scores = stage.score(windows)
        except Exception as error:
            sample.outcome = f"a window that was scored with it failed: {error}"
            raise
        sample.model = self._clock.now()
        sample.features = max(sample.closed, sample.model - round((stage.timing.seconds - before) * 1e6))
        return scores

    def ruled(self, outputs: Sequence[Output]) -> None:
        """Note what the rule made of the window."""
        sample = self.sample
        if not sample.model or sample.ruled:
            return
        sample.ruled = self._clock.now()
        for output in outputs:
            found = _head(output.payload)
            if found is not None and (found.key, found.start) == (sample.key, sample.start):
                sample.event, sample.outcome = found.id, "event"
                return
        sample.outcome = "no event: the rule had nothing new to say"


def _head(payload: bytes) -> _Head | None:
    try:
        return msgspec.json.decode(payload, type=_Head)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None  # dead letters are no events


def key_of_frame(runner: "Runner", frame: Frame) -> str | None:
    """Whose a frame is, where it is one that this runner has yet to take in; else None."""
    if position(frame[1]).stream <= runner.state.cursor:
        return None
    target = runner.router.route(frame[0])
    if target.key is None:
        return None
    try:
        key = runner.router.key_of(target, frame[3])
    except Undecoded:
        return None
    return key if runner.router.mine(key) else None


def feed_followed(runner: "Runner", frame: Frame, key: str, mono: float, read: int, clock: Clock) -> Probe:
    """Feed one message alone, and follow it from then on: `runner.probe` is told of its window."""
    where, ledger = position(frame[1]), runner.state.ledger
    sample = Sample(key, topic_of(frame[0]), where.stream, len(frame[3]), where.arrival, read, clock.now())
    probe = runner.probe = Probe(sample, clock)
    decode, before = runner.decode, (dict(ledger.dead), ledger.duplicates)
    runner.decode = probe.timed(decode)
    try:
        runner.feed([frame], where, where, mono)
    finally:
        runner.decode = decode
    sample.windowed = sample.closed or clock.now()
    buried = [reason for reason, count in ledger.dead.items() if count > before[0].get(reason, 0)]
    if not sample.outcome and (buried or ledger.duplicates > before[1]):
        sample.outcome = f"dead letter: {buried[0]}" if buried else "it was a re-send, and is not counted"
    return probe
