"""Samples out of a history: which series are a pipeline's, and their rows in order of time, a bounded number at once."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from skerry.historian import PAGE, Asked, Points, Source
from skerry.pipeline import KeyTemplate, SourceSpec, filter_matches
from skerry.replay.pace import gently

AT_ONCE = 300_000
"""Samples of all series together that are held at once."""
LEAST, LIVE_PAGE = 50, 5000
"""Samples of a page: at least, and at most where a node hands them out that has other work."""
_DEVICES = "devices/"
Row = tuple[float, ...]


def columns_of(source: SourceSpec, names: Sequence[str]) -> dict[str, list[str]]:
    """Keys of a pipeline's source, and the series of each in the order of its values; the naming is the historian's.

    A key that lacks the series of one value is left out, since none of its messages could be read.
    """
    known, found = set(names), dict[str, list[str]]()
    first = "/" + source.names[0]
    for name in names:
        if name.endswith(first):
            base = name.removesuffix(first)
            columns = [f"{base}/{value}" for value in source.names]
            key = _key(source, base) if known.issuperset(columns) else None
            if key is not None:
                found[key] = columns
    return dict(sorted(found.items()))


def _key(source: SourceSpec, base: str) -> str | None:
    """The key that a series is of; None where the source does not read it."""
    template = KeyTemplate(source.key, source.topic)
    parts = base.split("/")
    # where the key is in the payload it stands behind the topic, and may have a / in it
    cuts = range(1, len(parts)) if template.fields else [len(parts)]
    for cut in cuts:
        for topic in (_DEVICES + "/".join(parts[:cut]), "/".join(parts[:cut])):
            if filter_matches(source.topic, topic):
                return "/".join(parts[cut:]) if template.fields else template.from_topic(topic)
    return None


class _Tape:
    """One series, read on page by page."""

    def __init__(self, pages: Iterator[Points]) -> None:
        self._pages = pages
        self.times = np.empty(0, np.int64)
        self.values = np.empty(0, np.float64)
        self.ended = False

    def fill(self) -> None:
        """Read until there are samples, or none come any more."""
        while not len(self.times) and not self.ended:
            page = next(self._pages, None)
            if page is None:
                self.ended = True
            else:
                self.times, self.values = page

    def take(self, through: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """What was read up to a time."""
        at = int(np.searchsorted(self.times, through, "right"))
        taken = self.times[:at], self.values[:at]
        self.times, self.values = self.times[at:], self.values[at:]
        return taken


def rows_of(
    source: Source, columns: Mapping[str, Sequence[str]], start: int, end: int, live: bool = False
) -> Iterator[list[tuple[str, Row]]]:
    """Rows (key; microseconds and values) of `[start, end)` in order of time, in lists.

    A row is there where all series of its key have a sample of one time, as a message had. `live`: a node that works is asked.
    """
    page = max(LEAST, min(LIVE_PAGE if live else PAGE, AT_ONCE // max(1, sum(map(len, columns.values())))))
    asked = Asked(start, end)

    def tape_of(name: str) -> _Tape:
        pages = source.pages(name, asked, page)
        return _Tape(gently(pages) if live else pages)

    tapes = {key: [tape_of(name) for name in names] for key, names in columns.items()}
    every = [tape for mine in tapes.values() for tape in mine]
    while True:
        for tape in every:
            tape.fill()
        if all(tape.ended for tape in every):
            return
        # up to here nothing more can come of any series
        through = min(int(tape.times[-1]) for tape in every if not tape.ended)
        found: list[tuple[str, Row]] = []
        for key, mine in tapes.items():
            found += [(key, row) for row in _joined([tape.take(through) for tape in mine])]
        if found:
            order = np.argsort(np.array([row[0] for _, row in found]), kind="stable")
            yield [found[at] for at in order.tolist()]


def _joined(columns: list[tuple[NDArray[np.int64], NDArray[np.float64]]]) -> Iterator[Row]:
    times = columns[0][0]
    for other, _ in columns[1:]:
        if not np.array_equal(times, other):
            times = np.intersect1d(times, other, assume_unique=True)
    values = [value[np.isin(at, times, assume_unique=True)] if len(at) != len(times) else value for at, value in columns]
    return zip(times.astype(np.float64).tolist(), *(value.tolist() for value in values), strict=True)
