"""Roll-ups: what is kept of each minute or hour of a series. Pure.

Rows of one block are columns: start, samples, minimum, maximum, sum, last and the quantile sketch's buckets. NaN samples count for
nothing; a stretch without samples has no row: gaps are gaps.
"""

import re
import zlib
from typing import NamedTuple

import msgspec
import numpy as np
import zstandard
from numpy.typing import NDArray

from skerry.core.errors import CorruptError, RejectedError
from skerry.store.sketch import keys_of, merged, quantile

FORMAT = 1
AGGREGATES = ("mean", "min", "max", "sum", "last", "count", "p50", "p95", "p99")
_ROW_BITS, _MIDDLE = 20, 1 << 19
_DENSE = 8
"""Times as many cells as there are samples are counted in a table, without a sort."""
_MOST = 64 * 1024 * 1024
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Rollup(NamedTuple):
    """N rows. `starts` are microseconds; row i has the buckets `bounds[i]` to `bounds[i + 1]` of `keys` and `counts`."""

    starts: Ints
    samples: Ints
    minimum: Floats
    maximum: Floats
    total: Floats
    last: Floats
    bounds: Ints
    keys: Ints
    counts: Ints


def roll(times: Ints, values: Floats, width: int) -> Rollup:
    """One row for each stretch of `width` microseconds (aligned to the epoch) that has samples.

    Args:
        times: int64 [N] in order.
        values: float64 [N]; what is not finite is passed over.
    """
    known = np.isfinite(values)
    if not known.all():
        times, values = times[known], values[known]
    starts, first = _runs(times // width)
    if not len(starts):
        return Rollup(starts, *_nothing())
    starts *= width
    ends = np.append(first[1:], len(times))
    row = np.repeat(np.arange(len(starts)), ends - first)
    bucket_row, keys, counts = _counted(row, len(starts), keys_of(values))
    return Rollup(
        starts,
        ends - first,
        np.minimum.reduceat(values, first),
        np.maximum.reduceat(values, first),
        np.add.reduceat(values, first),
        values[ends - 1],
        np.searchsorted(bucket_row, np.arange(len(starts) + 1)),
        keys,
        counts,
    )


def _counted(row: Ints, rows: int, keys: Ints, counts: Ints | None = None) -> tuple[Ints, Ints, Ints]:
    """Row, key and count of each bucket, in order of rows and keys."""
    least, most = (int(keys.min()), int(keys.max())) if len(keys) else (0, 0)
    span = most - least + 1
    if rows * span <= _DENSE * len(keys):
        cells = np.bincount(row * span + (keys - least), counts)
        at = np.flatnonzero(cells)
        return at // span, at % span + least, cells[at].astype(np.int64)
    # far apart: one sort for the sketches of all rows, the row in the high bits
    both, sums = merged((row << _ROW_BITS) + keys + _MIDDLE, np.ones(len(keys), np.int64) if counts is None else counts)
    return both >> _ROW_BITS, (both & (1 << _ROW_BITS) - 1) - _MIDDLE, sums


def coarser(rows: Rollup, width: int) -> Rollup:
    """Rows of `width` microseconds out of finer ones, in order of time."""
    starts, first = _runs(rows.starts // width)
    if not len(starts):
        return rows
    starts *= width
    ends = np.append(first[1:], len(rows.starts))
    row = np.repeat(np.repeat(np.arange(len(starts)), ends - first), np.diff(rows.bounds))
    bucket_row, keys, counts = _counted(row, len(starts), rows.keys, rows.counts)
    return Rollup(
        starts,
        np.add.reduceat(rows.samples, first),
        np.minimum.reduceat(rows.minimum, first),
        np.maximum.reduceat(rows.maximum, first),
        np.add.reduceat(rows.total, first),
        rows.last[ends - 1],
        np.searchsorted(bucket_row, np.arange(len(starts) + 1)),
        keys,
        counts,
    )


def _runs(ordered: Ints) -> tuple[Ints, Ints]:
    """The distinct numbers of an ordered array, and where each begins."""
    if not len(ordered):
        return ordered, np.empty(0, np.int64)
    first = np.flatnonzero(np.append([True], ordered[1:] != ordered[:-1]))
    return ordered[first], first


def _nothing() -> tuple[Ints, Floats, Floats, Floats, Floats, Ints, Ints, Ints]:
    whole, number = np.empty(0, np.int64), np.empty(0, np.float64)
    return whole, number, number, number, number, np.zeros(1, np.int64), whole, whole


def answer(rows: Rollup, aggregate: str) -> Floats:
    """One number a row: mean, min, max, sum, last, count, or a quantile such as p50 or p99.9. Raises `RejectedError`."""
    plain = {"min": rows.minimum, "max": rows.maximum, "sum": rows.total, "last": rows.last}
    if aggregate in plain:
        return plain[aggregate]
    if aggregate == "mean":
        return rows.total / rows.samples
    if aggregate == "count":
        return rows.samples.astype(np.float64)
    match = re.fullmatch(r"p(\d{1,2}(?:\.\d+)?|100)", aggregate)
    if match is None:
        raise RejectedError(f"unknown aggregate {aggregate!r}", where="agg", mend=f"use one of {', '.join(AGGREGATES)}")
    share = float(match[1]) / 100
    sketches = zip(rows.bounds[:-1], rows.bounds[1:], strict=True)
    return np.array([quantile(rows.keys[a:b], rows.counts[a:b], share) for a, b in sketches], np.float64)


def joined(parts: list[Rollup]) -> Rollup:
    """All rows of several blocks one behind the other."""
    if not parts:
        return Rollup(np.empty(0, np.int64), *_nothing())
    offsets = np.cumsum([0, *(len(part.keys) for part in parts)])
    bounds = [part.bounds[:-1] + offset for part, offset in zip(parts, offsets, strict=False)]
    return Rollup(
        np.concatenate([part.starts for part in parts]),
        np.concatenate([part.samples for part in parts]),
        np.concatenate([part.minimum for part in parts]),
        np.concatenate([part.maximum for part in parts]),
        np.concatenate([part.total for part in parts]),
        np.concatenate([part.last for part in parts]),
        np.concatenate([*bounds, offsets[-1:]]),
        np.concatenate([part.keys for part in parts]),
        np.concatenate([part.counts for part in parts]),
    )


def part(rows: Rollup, at: int, to: int | None = None) -> Rollup:
    """The rows from `at` up to but without `to` (the next one where it is left out)."""
    to = at + 1 if to is None else to
    first, last = int(rows.bounds[at]), int(rows.bounds[to])
    return Rollup(
        rows.starts[at:to],
        rows.samples[at:to],
        rows.minimum[at:to],
        rows.maximum[at:to],
        rows.total[at:to],
        rows.last[at:to],
        rows.bounds[at : to + 1] - first,
        rows.keys[first:last],
        rows.counts[first:last],
    )


def within(rows: Rollup, start: int, end: int, width: int) -> Rollup:
    """The rows that lie in `[start, end)`; a row that begins before `start` and reaches into it is taken in."""
    first, last = np.searchsorted(rows.starts, [start // width * width, end]).tolist()
    return part(rows, first, last)


def in_order(rows: Rollup) -> Rollup:
    """The rows in order of time."""
    if (np.diff(rows.starts) >= 0).all():
        return rows
    return joined([part(rows, at) for at in np.argsort(rows.starts, kind="stable").tolist()])


def encode(rows: Rollup) -> bytes:
    """The block of a roll-up."""
    small = [rows.starts, rows.samples, rows.bounds, np.diff(rows.keys, prepend=0), rows.counts]
    wide = [rows.minimum, rows.maximum, rows.total, rows.last]
    plain = msgspec.msgpack.encode((FORMAT, [column.tolist() for column in small], [column.tobytes() for column in wide]))
    body = zstandard.ZstdCompressor(level=3).compress(plain)
    return zlib.crc32(body).to_bytes(4, "little") + body


def decode(block: bytes) -> Rollup:
    """The roll-up of a block. Raises `CorruptError`."""
    body = block[4:]
    if zlib.crc32(body).to_bytes(4, "little") != block[:4]:
        raise CorruptError("a roll-up is not what was written")
    try:
        plain = zstandard.ZstdDecompressor().decompress(body, max_output_size=_MOST)
        kind, small, wide = msgspec.msgpack.decode(plain, type=tuple[int, list[list[int]], list[bytes]])
    except (zstandard.ZstdError, msgspec.MsgspecError) as error:
        raise CorruptError(f"a roll-up cannot be read: {error}") from error
    if kind != FORMAT:
        raise CorruptError(f"a roll-up has format {kind}, not {FORMAT}", mend="run the version that wrote it")
    starts, samples, bounds, keys, counts = (np.array(column, np.int64) for column in small)
    minimum, maximum, total, last = (np.frombuffer(column, np.float64) for column in wide)
    return Rollup(starts, samples, minimum, maximum, total, last, bounds, np.cumsum(keys), counts)
