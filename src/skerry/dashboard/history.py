"""The history's page: which stretch is shown at which resolution, and what is drawn and exported. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from skerry.core.clock import from_rfc3339, to_rfc3339
from skerry.dashboard.html import Html, card, count, empty, h, join, moment, score, table
from skerry.dashboard.plot import Line, Mark, Point, plot

SECOND = 1_000_000
SPANS = {
    "5 minutes": 300, "15 minutes": 900, "1 hour": 3600, "6 hours": 21_600, "1 day": 86_400, "7 days": 604_800,
    "30 days": 2_592_000, "1 year": 31_536_000,
}  # fmt: skip
LEAST_S, MOST_S = 10, 5 * 31_536_000
POINTS = 400
MOST_SERIES = 6
MOST_KEYS, MOST_MARKS, MOST_TOLD = 6, 100, 12
_TONES = {"firing": "bad", "cleared": "good"}
Row = dict[str, Any]


class Stretch(msgspec.Struct, frozen=True):
    """From `end - seconds` to `end` (Unix seconds); `end` None: until now, and it follows."""

    seconds: int = 3600
    end: int | None = None

    def bounds(self, now: int) -> tuple[int, int]:
        """Begin and end in seconds."""
        end = now if self.end is None else self.end
        return end - self.seconds, end

    def zoomed(self, factor: float, now: int) -> "Stretch":
        """Around its middle; what follows goes on to follow."""
        begin, end = self.bounds(now)
        seconds = round(min(MOST_S, max(LEAST_S, self.seconds * factor)))
        middle = (begin + end) / 2
        return Stretch(seconds, None if self.end is None else min(now, round(middle + seconds / 2)))

    def moved(self, by: float, now: int) -> "Stretch":
        """By a part of its length, back or on; at the end of what there is it follows again."""
        _, end = self.bounds(now)
        end = round(end + by * self.seconds)
        return Stretch(self.seconds, None if end >= now else end)

    @property
    def every(self) -> str:
        """One number for each stretch of so long, so that no more than `POINTS` are asked for; empty: the samples themselves."""
        seconds = self.seconds // POINTS
        if self.seconds <= 900:
            return ""
        if seconds < 60:
            return f"{max(1, seconds)}s"
        return f"{seconds // 60}m" if seconds < 3600 else f"{seconds // 3600}h"

    def query(self, now: int) -> dict[str, object]:
        """What to ask `/api/v1/series/{name}`."""
        begin, end = self.bounds(now)
        return {"from": to_rfc3339(begin * SECOND), "to": to_rfc3339(end * SECOND), "every": self.every, "limit": 20_000}


def points_of(answer: Mapping[str, Sequence[object]]) -> list[Point]:
    """Unix seconds and values of an answer of the API."""
    found: list[Point] = []
    for at, value in zip(answer["times"], answer["values"], strict=True):
        assert isinstance(at, int | float)
        found.append((at / SECOND, float(value) if isinstance(value, int | float) else None))
    return found


def keys_of(names: Sequence[str]) -> list[str]:
    """The devices that series may be of: a channel's name begins with it, a score's has it behind the pipeline."""
    return list(dict.fromkeys(part for name in names for part in name.split("/")[:2]))[:MOST_KEYS]


def marks_of(events: Sequence[Row]) -> list[Mark]:
    """Where alarms fired and cleared, the last `MOST_MARKS`."""
    found = [
        Mark(from_rfc3339(event["end"]) / SECOND, _words(event), tone)
        for event in events
        if (tone := _TONES.get(str(event["state"])))
    ]
    return sorted(found, key=lambda mark: mark.at)[-MOST_MARKS:]


def _words(event: Row) -> str:
    return f"{event['key']} {event['state']}: {event['pipeline']} {score(event['score'])}"


def drawn(found: Mapping[str, list[Point]], stretch: Stretch, now: int, together: bool, marks: Sequence[Mark] = ()) -> Html:
    """The chosen series, in one plot or each in its own, with what happened meanwhile."""
    if not found:
        return card("Plot", empty("Nothing is chosen.", "Choose series on the list: up to six are compared."), wide=True)
    begin, end = stretch.bounds(now)
    span = (float(begin), float(end))
    note = f"{to_rfc3339(begin * SECOND)[:19]} to {to_rfc3339(end * SECOND)[:19]} UTC, {stretch.every or 'all samples'}"
    lines = [Line(name, points, str(at)) for at, (name, points) in enumerate(found.items())]
    groups = [lines] if together else [[line] for line in lines]
    plots = [
        plot(group, ", ".join(line.name for line in group), "", span=span, marks=marks)
        if any(line.points for line in group)
        else empty(f"{', '.join(line.name for line in group)}: nothing was kept in this stretch.")
        for group in groups
    ]
    return join([card("Plot", h("div", *plots, class_="stack"), note=note, wide=True), _told(marks, span)])


def _told(marks: Sequence[Mark], span: tuple[float, float]) -> Html | None:
    """What the marks stand for, the newest first."""
    seen = [mark for mark in marks if span[0] <= mark.at <= span[1]]
    if not seen:
        return None
    rows = [(moment(to_rfc3339(round(mark.at * SECOND))), mark.words) for mark in list(reversed(seen))[:MOST_TOLD]]
    note = f"the last {MOST_TOLD} of {count(len(seen))}" if len(seen) > MOST_TOLD else None
    return card("Alarms meanwhile", table("Alarms meanwhile", ("When (UTC)", "What"), rows), note=note, wide=True)


def csv(found: Mapping[str, list[Point]]) -> str:
    """`time,series,value` of all that is shown."""
    rows = ["time,series,value"]
    for name, points in found.items():
        quoted = '"' + name.replace('"', '""') + '"'
        rows += [f"{to_rfc3339(round(at * SECOND))},{quoted},{'' if value is None else repr(value)}" for at, value in points]
    return "\n".join(rows) + "\n"


def listed(names: Sequence[str], more: bool) -> str:
    """How many series there are to choose from."""
    return f"{count(len(names))} series{', and more: narrow them down' if more else ''}"
