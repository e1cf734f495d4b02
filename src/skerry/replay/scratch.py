"""The scratch output: events of then and of now, in a database of its own that goes with the process, and what differs in them."""

import sqlite3
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

import msgspec

from skerry.core.clock import to_rfc3339
from skerry.core.errors import UnavailableError

MOST_EVENTS = 1_000_000
MOST_SHOWN = 50_000
"""Events of one side that are kept to be compared, and those that are kept whole to be shown; what is over is counted."""
CLOSE = 1e-6
"""Scores within it are the same: a batch of another size may round otherwise."""
THEN, NOW = 0, 1
Row = dict[str, Any]
Words = Literal["only then", "only now", "state", "score", "label", "count", "same"]
_TABLE = """
create table event (side int, key text, start int, "end" int, score real, label text, state text, count int, body blob);
create index of_then on event (key, "end") where side = 0;
"""
_NUMBERED = """
create table numbered as
select *, row_number() over (partition by side, key, "end" order by rowid) as n from event;
create index by_window on numbered (key, "end", n, side);
"""
_FIELDS = ("score", "label", "state", "count")
_PAIRS = """
select t.key, t."end", coalesce(n.start, t.start), 1, t.score, t.label, t.state, t.count,
       n.n is not null, n.score, n.label, n.state, n.count, t.n as place
from numbered t left join numbered n on n.key = t.key and n."end" = t."end" and n.n = t.n and n.side = 1 where t.side = 0
union all
select key, "end", start, 0, null, null, null, null, 1, score, label, state, count, n from numbered here
where side = 1 and not exists
  (select 1 from numbered t where t.key = here.key and t."end" = here."end" and t.n = here.n and t.side = 0)
order by 2, 1, place
"""


class Told(NamedTuple):
    """What is known of an event; times in microseconds. Of one out of the history the score alone."""

    key: str
    start: int
    end: int
    score: float | None
    label: str | int | None = None
    state: str | None = None
    samples: int | None = None


class Scratch:
    """Events of both sides, on disk where they are many. A context manager; nothing is left of it, after a kill neither."""

    def __init__(self) -> None:
        self.left_out = [0, 0]
        self._counts = [0, 0]
        # without a name it is a file that is unlinked as it is made, of which 8 MB are held in memory
        self._base = sqlite3.connect("", isolation_level=None)
        self._base.executescript(f"pragma journal_mode = off; pragma cache_size = -8192; begin; {_TABLE}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._base.close()

    def add(self, side: int, told: Told, body: bytes = b"") -> None:
        """Keep an event; `body` is its JSON. Raises `UnavailableError` where the disk is full."""
        if self._counts[side] >= MOST_EVENTS:
            self.left_out[side] += 1
            return
        self._counts[side] += 1
        label = None if told.label is None else str(told.label)
        row = (side, told.key, told.start, told.end, told.score, label, told.state, told.samples)
        try:
            shown = body if self._counts[side] <= MOST_SHOWN else b""
            self._base.execute("insert into event values (?, ?, ?, ?, ?, ?, ?, ?, ?)", (*row, shown))
        except sqlite3.Error as error:
            raise UnavailableError(f"no room for the scratch output: {error}", mend="set TMPDIR to a disk with room") from error

    def knows(self, told: Told) -> bool:
        """Whether an event of then of this key and window is there."""
        where = """select 1 from event where side = 0 and key = ? and "end" = ?"""
        return self._base.execute(where, (told.key, told.end)).fetchone() is not None

    def count(self, side: int) -> int:
        """How many events there were, left out ones too."""
        return self._counts[side] + self.left_out[side]

    def events(self) -> list[Row]:
        """Those of now, in order, as many as are shown."""
        found = self._base.execute("select body from event where side = 1 and body != x'' order by rowid")
        return [msgspec.json.decode(body) for (body,) in found]

    def diff(self) -> Row:
        """`{rows: [{key, start, end, then, now, difference}], left_out, totals}`: the rows that differ, in order of time."""
        self._base.executescript(_NUMBERED)
        rows: list[Row] = []
        totals: Row = {"then": self.count(THEN), "now": self.count(NOW), **dict.fromkeys(_NAMES.values(), 0)}
        most, total, both = 0.0, 0.0, 0
        for row in self._pairs():
            totals[_NAMES[row["difference"]]] += 1
            apart = _apart(row)
            if apart is not None:
                both, total, most = both + 1, total + apart, max(most, apart)
            if row["difference"] != "same" and len(rows) < MOST_SHOWN:
                rows.append(row)
        totals["score_difference"] = {"mean": total / both if both else None, "max": most if both else None}
        differing = sum(totals[name] for words, name in _NAMES.items() if words != "same")
        return {"rows": rows, "left_out": differing - len(rows), "totals": totals}

    def _pairs(self) -> Iterator[Row]:
        for key, end, start, *rest in self._base.execute(_PAIRS):
            then, now = (dict(zip(_FIELDS, rest[at + 1 : at + 5], strict=True)) if rest[at] else None for at in (0, 5))
            yield {"key": key, "start": to_rfc3339(start), "end": to_rfc3339(end), "then": then, "now": now,
                   "difference": difference(then, now)}  # fmt: skip


_NAMES: dict[Words, str] = {
    "same": "same", "state": "other_state", "score": "other_score", "label": "other_label", "count": "other_count",
    "only then": "only_then", "only now": "only_now",
}  # fmt: skip


def difference(then: Row | None, now: Row | None) -> Words:
    """The first thing in which two events of one window differ."""
    if now is None:
        return "only then"
    if then is None:
        return "only now"
    if then["state"] is None:  # out of the history, which keeps no more than the score
        return "same" if _same(then["score"], now["score"]) else "score"
    if then["state"] != now["state"]:
        return "state"
    if not _same(then["score"], now["score"]):
        return "score"
    if then["label"] != now["label"]:
        return "label"
    return "same" if then["count"] == now["count"] else "count"


def _same(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return abs(one - other) <= CLOSE * max(1.0, abs(one))


def _apart(row: Row) -> float | None:
    then, now = row["then"], row["now"]
    if then is None or now is None or then["score"] is None or now["score"] is None:
        return None
    return abs(float(now["score"]) - float(then["score"]))
