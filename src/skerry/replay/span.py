"""The stretch of time that a replay is about, and how much before it is read so that it begins as it was. Pure."""

import msgspec

from skerry.core.clock import SECOND, to_rfc3339
from skerry.core.errors import RejectedError
from skerry.core.units import parse_duration
from skerry.pipeline import PipelineSpec

ON_ITS_WAY = 3 * SECOND
"""How long a sample may take into the history and an event into its log: what is younger is not compared."""
MOST_WARM_UP = 3600 * SECOND
ALWAYS = 1 << 61


class Span(msgspec.Struct, frozen=True):
    """Events of windows within `[start, until]` count, in microseconds; reading starts at `begin`, so that alarms are known."""

    start: int
    until: int
    begin: int

    def holds(self, start: int, end: int) -> bool:
        """Whether a window is wholly within."""
        return start >= self.start and end <= self.until


WHOLE = Span(-ALWAYS, ALWAYS, -ALWAYS)
"""A file's: all of it, and its end closes all windows."""


def span_of(spec: PipelineSpec, start: int, end: int, now: int) -> Span:
    """The span from start to end. Windows that end later than some seconds ago are left out: nothing is decided of them yet.

    Raises `RejectedError` where nothing is left.
    """
    if start >= end:
        raise RejectedError("the stretch ends before it begins", where="--from", mend="give --from before --to")
    until = min(end, now - spec.window.lateness_us - spec.window.idle_us - ON_ITS_WAY)
    if until <= start:
        undecided = f"nothing is decided yet of what comes after {to_rfc3339(until)}"
        raise RejectedError(undecided, where="--from", mend="begin earlier, or wait a little")
    return Span(start, until, start - min(MOST_WARM_UP, _warm_up(spec)))


def _warm_up(spec: PipelineSpec) -> int:
    """Twice what a window and the patience of the rule take, and at least a minute."""
    window, rule = spec.window, spec.rule
    timed = window.kind in ("tumbling", "sliding")
    size = window.size_us if timed else window.gap_us if window.kind == "session" else 0
    step = window.every_us if timed else size
    patience = [] if rule is None else [rule.for_, rule.clear_for]
    longest = max([each * step if isinstance(each, int) else parse_duration(each) for each in patience], default=0)
    return max(60 * SECOND, 2 * (size + window.lateness_us + longest))
