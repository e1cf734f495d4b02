"""Plots as SVG: small ones beside a number, and lines over time with axes. Pure; at most `MOST_POINTS` of a line are drawn."""

import math
from collections.abc import Sequence

import msgspec

from skerry.core.clock import to_rfc3339
from skerry.dashboard.html import Html, h

MOST_POINTS = 400
Point = tuple[float, float | None]
"""Seconds (or whatever the x axis has), and a value; None is a gap."""


class Line(msgspec.Struct, frozen=True):
    """One line of a plot. `tone`: a number from 0 on, of the palette, or `threshold`."""

    name: str
    points: Sequence[Point]
    tone: str = "0"


class Mark(msgspec.Struct, frozen=True):
    """Something that happened at a moment (Unix seconds): a line across the plot. `tone`: good, warn or bad."""

    at: float
    words: str
    tone: str = "warn"


def thin(points: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """No more than `most` points that keep what stands out: of each stretch the lowest and the highest, in their order."""
    if len(points) <= most:
        return list(points)
    found: list[Point] = []
    stretches = max(1, most // 2)
    for at in range(stretches):
        part = points[at * len(points) // stretches : (at + 1) * len(points) // stretches]
        there = [point for point in part if point[1] is not None]
        if not there:
            found.append(part[0])
            continue
        low, high = min(there, key=lambda point: point[1] or 0.0), max(there, key=lambda point: point[1] or 0.0)
        found += sorted({low, high})
    return found


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers between two."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return [low]
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(at * step, 12) for at in range(first, math.floor(high / step + 1e-9) + 1)]


def spark(points: Sequence[Point], label: str) -> Html:
    """A small line without axes; `label` says in words what it shows."""
    lines = Line("", points)
    low, high = _bounds([lines], zero=True)
    frame = _Frame(0, 2, 240, 36, _span([lines]), (low, high))
    drawn = thin(points, 120)
    path = _path(drawn, frame)
    there = [frame.place(at, low)[0] for at, value in drawn if value is not None]
    whole = bool(there) and path.count("M") == 1
    under = f"{path}L{there[-1]:.1f} 40L{there[0]:.1f} 40Z" if whole else ""
    return h(
        "svg", h("path", d=under, class_="under"), h("path", d=path, class_="line tone-0"), class_="spark",
        viewBox="0 0 240 40", preserveAspectRatio="none", role="img", aria_label=label,
    )  # fmt: skip


class _Frame(msgspec.Struct, frozen=True):
    left: float
    top: float
    width: float
    height: float
    x: tuple[float, float]
    y: tuple[float, float]

    def place(self, at: float, value: float) -> tuple[float, float]:
        x0, x1 = self.x
        y0, y1 = self.y
        return self.left + self.width * (at - x0) / (x1 - x0), self.top + self.height * (1 - (value - y0) / (y1 - y0))


def plot(
    lines: Sequence[Line], label: str, unit: str, *, height: int = 220, zero: bool = False, span: tuple[float, float] | None = None,
    marks: Sequence[Mark] = (),
) -> Html:  # fmt: skip
    """Lines over time (Unix seconds), with round numbers on both axes, a legend, and its last values in words for readers."""
    drawn = [msgspec.structs.replace(line, points=thin(line.points)) for line in lines]
    x, y = span or _span(drawn), _bounds(drawn, zero)
    words = _words(label, lines, unit)
    seen = [mark for mark in marks if x[0] <= mark.at <= x[1]]
    pictures = [_picture(drawn, seen, x, y, height, width, words) for width in (1108, 360)]
    legend = [h("li", h("i", class_=f"key tone-{line.tone}", aria_hidden="true"), line.name) for line in lines if line.name]
    return h("figure", h("figcaption", h("span", unit, class_="unit"), h("ul", *legend, class_="legend")), *pictures)


Span = tuple[float, float]


def _picture(drawn: Sequence[Line], marks: Sequence[Mark], x: Span, y: Span, height: int, width: int, words: str) -> Html:
    """The plot at one width: broad for a desk, narrow for a phone; the style shows one of both."""
    frame = _Frame(56, 12, width - 68, height - 40, x, y)
    parts: list[Html] = []
    levels = ticks(*y)
    for value in levels:
        _, at = frame.place(x[0], value)
        parts += [
            h("line", x1="56", x2=str(width - 12), y1=f"{at:.1f}", y2=f"{at:.1f}", class_="grid"),
            h("text", _number(value, levels), x="50", y=f"{at + 4:.1f}", text_anchor="end"),
        ]
    for at in _moments(*x, 6 if width > 500 else 3):
        where, _ = frame.place(at, y[0])
        side = "end" if where > width - 40 else "middle"  # what stands at the edge must not be cut
        parts.append(h("text", _clock(at, x[1] - x[0]), x=f"{min(where, width - 12.0):.1f}", y=str(height - 8), text_anchor=side))
    for mark in marks:
        where, _ = frame.place(mark.at, y[0])
        line = h("line", x1=f"{where:.1f}", x2=f"{where:.1f}", y1="12", y2=str(height - 28), class_=f"mark {mark.tone}")
        parts.append(h("g", h("title", mark.words), line))
    parts += [h("path", d=_path(line.points, frame), class_=f"line tone-{line.tone}") for line in drawn]
    look = "plot broad" if width > 500 else "plot narrow"
    return h("svg", *parts, viewBox=f"0 0 {width} {height}", class_=look, role="img", aria_label=words)


def _words(label: str, lines: Sequence[Line], unit: str) -> str:
    said = []
    for line in lines:
        last = next((value for _, value in reversed(line.points) if value is not None), None)
        if last is not None:
            said.append(f"{line.name or 'last'} {last:.4g} {unit}".strip())
    return f"{label}: {', '.join(said) or 'nothing yet'}"


def _span(lines: Sequence[Line]) -> tuple[float, float]:
    found = [at for line in lines for at, _ in line.points]
    low, high = min(found, default=0.0), max(found, default=1.0)
    return (low, high) if high > low else (low - 1, low + 1)


def _bounds(lines: Sequence[Line], zero: bool) -> tuple[float, float]:
    found = [value for line in lines for _, value in line.points if value is not None and math.isfinite(value)]
    low, high = min(found, default=0.0), max(found, default=1.0)
    low = min(low, 0.0) if zero else low
    if high <= low:
        return low, low + (abs(low) or 1.0)
    return low, high + 0.06 * (high - low)


def _path(points: Sequence[Point], frame: _Frame) -> str:
    parts, down = [], True
    for at, value in points:
        if value is None or not math.isfinite(value):
            down = True
            continue
        x, y = frame.place(at, value)
        parts.append(f"{'M' if down else 'L'}{x:.1f} {y:.1f}")
        down = False
    return "".join(parts)


_STEPS = (
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800, 2592000,
)  # fmt: skip


def _moments(low: float, high: float, most: int) -> list[float]:
    step = next((step for step in _STEPS if (high - low) / step <= most), _STEPS[-1])
    first = math.ceil(low / step)
    return [float(at * step) for at in range(first, math.floor(high / step) + 1)][: most + 1]


def _clock(at: float, span: float) -> str:
    text = to_rfc3339(round(at * 1e6))
    return text[5:10] if span > 3 * 86400 else text[11:16] if span > 600 else text[11:19]


def _number(value: float, marks: Sequence[float]) -> str:
    step = marks[1] - marks[0] if len(marks) > 1 else 1.0
    digits = max(0, min(6, -math.floor(math.log10(step)))) if step > 0 else 0
    return f"{value:,.{digits}f}"
