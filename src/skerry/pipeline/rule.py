"""The rule: when a score is an alarm, and when the alarm is over. Pure: (rule, state, window) → transition."""

import hashlib
import math
from typing import Literal

import msgspec

from skerry.core.errors import ConfigError
from skerry.core.units import at_key, parse_duration

Severity = Literal["info", "warning", "critical"]
Transition = Literal["firing", "cleared"]


class RuleSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`{ field = "score", above = 0.8, clear_below = 0.5, for = 3, severity = "warning" }`.

    Attributes:
        field: `score` or a feature column.
        above, below: fires when the value is more than `above` (or less than `below`); one of the two.
        clear_below, clear_above: the alarm clears beyond it; by default where it no longer fires.
        for_, clear_for: windows in a row (a number), or a duration of event time, before it fires or clears.
        severity: info, warning or critical.
        flap: an alarm that fires again within this time of its clearing goes on as the same alarm, counted in `flaps`.
    """

    field: str = "score"
    above: float | None = None
    below: float | None = None
    clear_below: float | None = None
    clear_above: float | None = None
    for_: int | str = msgspec.field(name="for", default=1)
    clear_for: int | str = 1
    severity: str = "warning"
    flap: str = "10s"

    def __post_init__(self) -> None:
        if (self.above is None) == (self.below is None):
            raise ConfigError("a rule has one of above and below", where="above")
        for where, bound in (("above", self.above), ("below", self.below)):
            if bound is not None and not math.isfinite(bound):
                raise ConfigError(f"{bound} is no bound", where=where, allowed="a finite number")
        if self.above is not None and self.clear_below is not None and self.clear_below > self.above:
            raise ConfigError("clear_below is more than above", where="clear_below", allowed=f"at most {self.above}")
        if self.below is not None and self.clear_above is not None and self.clear_above < self.below:
            raise ConfigError("clear_above is less than below", where="clear_above", allowed=f"at least {self.below}")
        for where, value in (("for", self.for_), ("clear_for", self.clear_for)):
            if isinstance(value, int) and value < 1:
                raise ConfigError("must be 1 window or more", where=where)
            if isinstance(value, str):
                at_key(where, parse_duration, value)
        at_key("flap", parse_duration, self.flap)
        if not self.severity:
            raise ConfigError("must not be empty", where="severity", allowed="such as info, warning, critical")


class Alarm(msgspec.Struct, array_like=True):
    """Rule state of one key. `streak` windows in a row speak for a change, the first began at `since`."""

    firing: bool = False
    streak: int = 0
    since: int = 0
    alarm_id: str = ""
    cleared_at: int = -(2**62)
    flaps: int = 0


class Rule:
    """A rule spec with its durations parsed; keeps no state."""

    def __init__(self, spec: RuleSpec) -> None:
        self.spec = spec
        self.severity = spec.severity
        self._flap = parse_duration(spec.flap)
        self._for = _patience(spec.for_)
        self._clear_for = _patience(spec.clear_for)

    def judge(self, alarm: Alarm, value: float, start: int, end: int, pipeline: str, key: str) -> Transition | None:
        """Take one window in and answer whether the alarm changes with it."""
        speaks = self._clears(value) if alarm.firing else self._fires(value)
        if not speaks:
            alarm.streak = 0
            return None
        if alarm.streak == 0:
            alarm.since = start
        alarm.streak += 1
        windows, duration = self._clear_for if alarm.firing else self._for
        if alarm.streak < windows or end - alarm.since < duration:
            return None
        alarm.streak = 0
        alarm.firing = not alarm.firing
        if not alarm.firing:
            alarm.cleared_at = end
            return "cleared"
        if start - alarm.cleared_at < self._flap:
            alarm.flaps += 1
        else:
            alarm.flaps = 0
            alarm.alarm_id = digest(pipeline, key, "alarm", str(start))
        return "firing"

    def _fires(self, value: float) -> bool:
        if self.spec.above is not None:
            return value > self.spec.above
        return self.spec.below is not None and value < self.spec.below

    def _clears(self, value: float) -> bool:
        if self.spec.clear_below is not None:
            return value < self.spec.clear_below
        if self.spec.clear_above is not None:
            return value > self.spec.clear_above
        return not self._fires(value)


def _patience(value: int | str) -> tuple[int, int]:
    """(windows, microseconds) that must both be reached."""
    return (value, 0) if isinstance(value, int) else (1, parse_duration(value))


def digest(*parts: str) -> str:
    """An id computed from what it names: 24 hex digits."""
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=12).hexdigest()
