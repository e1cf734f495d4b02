"""A pipeline proposed from a sample of messages: its fields, its window and its key. Pure."""

import json
import math
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from skerry.core.clock import SECOND, from_number, from_rfc3339
from skerry.core.errors import RejectedError

Message = tuple[str, bytes, int]
"""Topic, payload, arrival in microseconds."""
MOST_VALUES = 16
SIZES = ((1, "1s"), (5, "5s"), (10, "10s"), (30, "30s"), (60, "1m"), (300, "5m"), (900, "15m"), (3600, "1h"))
"""Windows to choose from: the shortest with `SAMPLES` samples."""
SAMPLES = 10
FAST_HZ = 20.0
"""From here on it is a signal whose shape counts."""
_NEAR = 2 * 86_400 * SECOND
_BY_HAND = "write the pipeline by hand: docs/guide.md, Sources, has the formats"
_TIME_NAMES = ("ts", "time", "timestamp", "t", "datetime", "date", "at")


class Proposal(NamedTuple):
    """The table of `[[pipelines]]`, and in words what it rests on."""

    table: dict[str, Any]
    found: list[str]

    @property
    def toml(self) -> str:
        """The table as it stands in skerry.toml."""
        lines = ["[[pipelines]]"]
        for key, value in self.table.items():
            lines.append(f"{key} = {_toml(value)}")
        return "\n".join(lines) + "\n"


def propose(name: str, topic: str, messages: Sequence[Message]) -> Proposal:
    """A pipeline for a topic filter out of messages on it. Raises `RejectedError` where they hold no numbers."""
    if not messages:
        raise RejectedError(f"no message came on {topic}", mend="wait longer with --seconds, or look at the topic")
    source: dict[str, Any] = {"topic": topic}
    rows = [row for _, payload, _ in messages for row in _rows(payload)]
    if rows:
        time = _time_field(messages)
        values = _values(rows, time)
        source |= {"format": "json", **({"time": time} if time else {}), "values": values}
    else:
        values = _columns(messages)
        source |= {"format": "text", "values": values}
    level, keys = _key(topic, messages)
    if level != 2:
        source["key"] = f"{{{level}}}"
    interval = _interval(messages, level)
    found = [f"{len(messages)} messages of {keys} {'key' if keys == 1 else 'keys'}, {', '.join(values)}"]
    table: dict[str, Any] = {"name": name, "source": source}
    if interval is None:
        found.append("one message a key: each is an event of its own; add a window when you know how often they come")
    else:
        size = next((text for seconds, text in SIZES if seconds >= SAMPLES * interval), SIZES[-1][1])
        table["window"] = {"kind": "tumbling", "size": size, "by": "device", "lateness": _lateness(interval)}
        fast = 1 / interval >= FAST_HZ
        table["features"] = ["mean", "std", "rms", "peak", "crest", "kurtosis"] if fast else ["mean", "std", "min", "max"]
        found.append(f"one message each {interval:.3g} s a key: windows of {size}")
    table["sinks"] = ["event"]
    return Proposal(table, found)


def _rows(payload: bytes) -> list[Mapping[str, Any]]:
    try:
        found = json.loads(payload)
    except (ValueError, RecursionError):
        return []
    return [row for row in (found if isinstance(found, list) else [found]) if isinstance(row, dict)]


def _numbers(row: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, float]]:
    """Dotted names of the numbers in a row, but for names that a source cannot have."""
    for name, value in row.items():
        if not name or any(sign < " " or sign in '."\\' for sign in name):
            continue
        if isinstance(value, dict):
            yield from _numbers(value, f"{before}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            yield before + name, float(value)


def _values(rows: Sequence[Mapping[str, Any]], time: str) -> list[str]:
    """Fields that are numbers in every row, in the order of the first."""
    seen = Counter(name for row in rows for name in dict(_numbers(row)))
    found = [name for name, _ in _numbers(rows[0]) if seen[name] == len(rows) and name != time]
    if not found:
        raise RejectedError("no field is a number in every message", mend=_BY_HAND)
    return found[:MOST_VALUES]


def _time_field(messages: Sequence[Message]) -> str:
    """A field that is called like a time and is near the arrival in every message; empty where there is none."""
    for name in _TIME_NAMES:
        if all(_near(row.get(name), at) for _, payload, at in messages for row in _rows(payload)):
            return name
    return ""


def _near(value: object, at: int) -> bool:
    try:
        moment = from_rfc3339(value) if isinstance(value, str) else from_number(value) if isinstance(value, int | float) else None
    except (ValueError, OverflowError):
        return False
    return moment is not None and abs(moment - at) < _NEAR


def _columns(messages: Sequence[Message]) -> list[str]:
    """Names for the numbers of a line of text."""
    widths = set()
    for _, payload, _ in messages:
        try:
            widths.add(len([float(word) for word in payload.decode().replace(",", " ").split()]))
        except ValueError:
            raise RejectedError(
                "the messages are neither JSON objects nor numbers",
                mend=_BY_HAND,
            ) from None
    if len(widths) != 1 or widths == {0}:
        raise RejectedError("the lines have different numbers of numbers", mend=_BY_HAND)
    width = widths.pop()
    return ["value"] if width == 1 else [f"v{at}" for at in range(1, width + 1)]


def _key(topic: str, messages: Sequence[Message]) -> tuple[int, int]:
    """Which level of the topic tells the devices apart, and how many there are."""
    levels = topic.split("/")
    wild = [at for at, level in enumerate(levels, 1) if level in ("+", "#")]
    chosen = wild[0] if wild else min(2, len(levels))
    return chosen, len({_level(name, chosen) for name, _, _ in messages})


def _level(topic: str, number: int) -> str:
    levels = topic.split("/")
    return levels[number - 1] if number <= len(levels) else ""


def _interval(messages: Sequence[Message], level: int) -> float | None:
    """Seconds between two samples of one key, in the median over the keys."""
    arrivals: dict[str, list[int]] = {}
    samples: Counter[str] = Counter()
    for topic, payload, at in messages:
        key = _level(topic, level)
        arrivals.setdefault(key, []).append(at)
        samples[key] += max(1, len(_rows(payload)))
    spans = [(max(times) - min(times)) / SECOND / (len(times) - 1) / (samples[key] / len(times))
             for key, times in arrivals.items() if len(times) > 1]  # fmt: skip
    return max(statistics.median(spans), 1e-4) if spans else None


def _lateness(interval: float) -> str:
    return f"{max(1, math.ceil(2 * interval))}s"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {_toml(item)}' for key, item in value.items())} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    # JSON's escapes are among TOML's, but JSON leaves DEL as it is, which TOML does not allow
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
