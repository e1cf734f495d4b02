"""What a pipeline's uplink sink sends to the centre: events, roll-ups, raw samples, and which of the raw ones."""

import math
from typing import Literal

import msgspec

from skerry.core.errors import ConfigError
from skerry.core.units import at_key, parse_duration

Level = Literal["event", "features", "1m", "1h", "raw"]
_OF_EVENTS = ("event", "features")
_LONGEST = "1h"


class Around(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Raw samples only from `before` an alarm begins to `after` it."""

    before: str = "10s"
    after: str = "30s"

    def __post_init__(self) -> None:
        for where in ("before", "after"):
            if at_key(where, parse_duration, getattr(self, where)) > parse_duration(_LONGEST):
                raise ConfigError(f"{getattr(self, where)} is too long", where=where, allowed=f"up to {_LONGEST}")


class Band(msgspec.Struct, frozen=True):
    """A dead-band: a value counts as moved when it is further than `width`, or `share` of the last sent one, from that."""

    width: float = 0.0
    share: float = 0.0


class ForwardSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`{ kind = "uplink", select = ["event", "raw"], deadband = "1%" }`; `select` left out: what `[uplink]` says.

    Attributes:
        deadband: of raw samples only those leave of which a value moved: `0.5` (in its unit), `"1%"` (of the last one sent), or
            one for each value `{ x = 0.5, y = "1%" }`; a value without one counts with any change.
        on_change: of raw samples only those that differ from the last one sent.
        decimate: of each device's raw samples every n-th.
        around: raw samples only around alarms, instead of `select = ["raw"]`.
    """

    select: tuple[Level, ...] | None = None
    deadband: float | str | dict[str, float | str] | None = None
    on_change: bool = False
    decimate: int = 1
    around: Around | None = None

    def __post_init__(self) -> None:
        self.bands(())
        if not 1 <= self.decimate <= 1_000_000:
            raise ConfigError(f"{self.decimate} is out of range", where="decimate", allowed="1 to 1000000")
        if self.around is not None and self.select is not None and "raw" in self.select:
            raise ConfigError("all raw samples leave already", where="around", mend='leave it, or "raw" in select, out')
        check_levels(self.select)
        if self.on_change and self.deadband is not None:
            raise ConfigError("a dead-band leaves out what does not change", where="on_change", mend="leave one of them out")

    def levels(self, given: tuple[Level, ...], tensors: bool) -> tuple[Level, ...]:
        """What leaves, where `[uplink] select` is `given`; what that names beside events is passed over where it does not fit."""
        if self.select is not None:
            return self.select
        return tuple(level for level in given if level in _OF_EVENTS or not (tensors or (level == "raw" and self.around)))

    def check(self, names: tuple[str, ...], tensors: bool) -> None:
        """Raises `ConfigError` for what does not fit the source."""
        self.bands(names)
        numbers = self.around is not None or any(level not in _OF_EVENTS for level in self.select or ())
        if tensors and numbers:
            raise ConfigError("images and texts have no numbers to send", where="select", allowed='select = ["event"]')

    def bands(self, names: tuple[str, ...]) -> dict[str, Band] | None:
        """The dead-band of each value; None where there is none."""
        if self.on_change:
            return dict.fromkeys(names, Band())
        if self.deadband is None:
            return None
        if not isinstance(self.deadband, dict):
            band = _band(self.deadband, "deadband")
            return dict.fromkeys(names, band)
        named = {name: _band(text, f"deadband.{name}") for name, text in self.deadband.items()}
        for name in named:
            if names and name not in names:
                raise ConfigError(f"{name!r} is no value of the pipeline", where="deadband", allowed=", ".join(names))
        return {name: named.get(name, Band()) for name in names}


def check_levels(select: tuple[Level, ...] | None) -> None:
    """Raises `ConfigError` for features without the events that they are of."""
    if select and "features" in select and "event" not in select:
        raise ConfigError("features leave with events only", where="select", mend='add "event"')


def _band(text: float | str, where: str) -> Band:
    share = isinstance(text, str) and text.endswith("%")
    try:
        number = float(text.removesuffix("%")) if isinstance(text, str) else float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise ConfigError(f"{text!r} is no dead-band", where=where, allowed='a number of 0 or more, or a share such as "1%"')
    return Band(share=number / 100) if share else Band(width=number)
