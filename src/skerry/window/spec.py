"""The `window` of a pipeline as the configuration writes it, checked and in microseconds."""

from math import gcd
from typing import Literal

import msgspec

from skerry.core.errors import ConfigError
from skerry.core.units import at_key, parse_duration

Kind = Literal["tumbling", "sliding", "session", "count", "none"]


class WindowSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`{ kind = "tumbling", size = "1s", by = "device", lateness = "2s" }`.

    Attributes:
        kind: tumbling and sliding cut time, aligned to the epoch; session ends after `gap` of silence; count after `size` samples;
            none makes every message a window.
        size: a duration; for `count` a number of samples.
        every: sliding: how often a window starts (a duration no longer than size); count: a number of samples.
        gap: session: the silence that ends it.
        by: what a window belongs to; only `device` (the key of the source).
        lateness: how far a sample may lie behind the newest of its device and still count.
        idle: how long a silent device's windows stay open beyond their end and the lateness.
        max_samples: bound of one window; what is over it becomes a dead letter (`window-full`).
    """

    kind: Kind = "none"
    size: str | int = ""
    every: str | int = ""
    gap: str = ""
    by: Literal["device"] = "device"
    lateness: str = "0s"
    idle: str = "2s"
    max_samples: int = 65_536

    def __post_init__(self) -> None:
        if self.kind in ("tumbling", "sliding"):
            self._check_times()
        elif self.kind == "session" and not self.gap:
            raise ConfigError("a session window needs a gap", where="gap", allowed='a duration such as "30s"')
        elif self.kind == "count":
            _count(self.size, "size")
            if self.every != "" and _count(self.every, "every") > _count(self.size, "size"):
                raise ConfigError("every is more than size", where="every", allowed="at most size")
        at_key("lateness", parse_duration, self.lateness)
        at_key("idle", parse_duration, self.idle)
        if self.kind == "session" and at_key("gap", parse_duration, self.gap) <= 0:
            raise ConfigError("gap must be more than 0", where="gap")
        if self.max_samples < 1:
            raise ConfigError("max_samples must be 1 or more", where="max_samples")

    def _check_times(self) -> None:
        if not isinstance(self.size, str):
            raise ConfigError(f"{self.size!r} is not a duration", where="size", allowed='a duration such as "1s"')
        if not self.size:
            raise ConfigError(f"a {self.kind} window needs a size", where="size", allowed='a duration such as "1s"')
        if at_key("size", parse_duration, self.size) <= 0:
            raise ConfigError("size must be more than 0", where="size")
        if self.kind == "sliding" and not self.every:
            raise ConfigError("a sliding window needs every", where="every", allowed='a duration such as "1s"')
        if not 0 < at_key("every", parse_duration, str(self.every or self.size)) <= self.size_us:
            raise ConfigError("every must be more than 0 and at most size", where="every")

    @property
    def size_us(self) -> int:
        return parse_duration(str(self.size))

    @property
    def every_us(self) -> int:
        return parse_duration(str(self.every)) if self.kind == "sliding" else self.size_us

    @property
    def pane_us(self) -> int:
        """Width of the panes that windows are put together from: the greatest that divides both size and every."""
        return gcd(self.size_us, self.every_us)

    @property
    def gap_us(self) -> int:
        return parse_duration(self.gap)

    @property
    def lateness_us(self) -> int:
        return parse_duration(self.lateness)

    @property
    def idle_us(self) -> int:
        return parse_duration(self.idle)

    @property
    def count(self) -> int:
        return _count(self.size, "size")

    @property
    def step(self) -> int:
        return self.count if self.every == "" else _count(self.every, "every")


def _count(value: str | int, where: str) -> int:
    if not isinstance(value, int) or value < 1:
        raise ConfigError(f"a count window's {where} must be a number of samples, not {value!r}", where=where)
    return value
