"""One loaded model and how requests become runs of it: checked, stacked, run, cut apart. No loop, no threads.

A model is run in one of three ways. `rows`: the first dimension of every input and output is the batch, and rows have been seen to
be independent, so requests share runs. `ones`: the batch is fixed at 1, so rows run one by one. `whole`: what one request brings
is one run.
"""

import threading
import time
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from skerry.core.clock import Clock, SystemClock
from skerry.core.errors import RejectedError, SkerryError
from skerry.inference.batching.batcher import Pace, Ticket, best_batch
from skerry.inference.engine.samples import OPEN_SIZES, agree, first_rows, join, rows_of, sample_feed
from skerry.inference.engine.seam import Session
from skerry.inference.engine.signature import Signature, check_feed, numpy_dtype
from skerry.runtime import Block, MemoryPool

Feed = Mapping[str, NDArray[Any]]
Part = tuple[int, Feed]
Kind = Literal["rows", "ones", "whole"]

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
FEW_SIZES = (1, 4, 16, 64, 256)
UNMEASURED = 32  # rows of a run when nothing could be measured
_MOST_BYTES = 64 * 1024 * 1024  # of a measured batch
_EACH_S = 0.004  # a size is run again and again for so long, or so often, and the fastest run counts
_EACH = 5
_PAUSE_S = 0.0001  # between two of these: a thread that takes the interpreter back at once leaves the loop beside it none
_AROUND_S = 50e-6  # what a run costs outside the engine: a turn of the loop or a hand-over, stacking, cutting
_LONG_ENOUGH_S = 0.00075  # of a run: what is around it is a twentieth of that
_DOES_NOT_RUN = (SkerryError, TypeError)  # refused by the model, or of a type that no array can be made of


class Counts(msgspec.Struct):
    """What a model has run.

    Attributes:
        runs, rows: runs of the engine and rows in them.
        seconds: time in the engine and around it (stack, cut).
        failed: runs that raised.
        split: batches that failed and were run again request by request.
        allocated: arrays that were made for a batch: all where there is no pool, else what the pool could not give.
    """

    runs: int = 0
    rows: int = 0
    seconds: float = 0.0
    failed: int = 0
    split: int = 0
    allocated: int = 0


class _Arrays:
    """Arrays to stack batches in: blocks of a pool where one is given, else new ones, which are no slower (`bench stacks`)."""

    def __init__(self, pool: MemoryPool | None) -> None:
        self.pool = pool

    def take(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[NDArray[Any], Block | None]:
        size = int(np.prod(shape)) * dtype.itemsize if self.pool is not None else 0
        if self.pool is not None and 0 < size <= self.pool.block_size and not dtype.hasobject:
            block = self.pool.try_allocate()
            if block is not None:
                return block.array(shape, dtype), block
        return np.empty(shape, dtype), None

    def give(self, block: Block) -> None:
        if self.pool is not None:
            self.pool.deallocate(block)


class Runner:
    """A session, what it is fed with and what it has run.

    Args:
        kind: how it is run, see above; `reason` says why.
        pool: where stacked batches live; by default in arrays of their own.
    """

    def __init__(
        self, session: Session, kind: Kind, reason: str, *, pool: MemoryPool | None = None, clock: Clock | None = None
    ) -> None:
        self.session = session
        self.kind = kind
        self.reason = reason
        self.max_batch = 1 if kind != "rows" else UNMEASURED
        self.stream_batch = 0  # the fastest size of all: who streams waits for the last row, not for the first; 0: max_batch
        self.inputs = [_any_rows(each) for each in session.inputs] if kind == "ones" else list(session.inputs)
        self.outputs = list(session.outputs)
        self.pace = Pace()
        self.counts = Counts()
        self._names = frozenset(each.name for each in self.outputs)
        self._expected = [_expectation(each) for each in self.inputs]
        self._arrays = _Arrays(pool)
        self._lock = threading.Lock()
        self._now = (clock or SystemClock()).monotonic

    @property
    def pool(self) -> MemoryPool | None:
        """Where stacked batches live, if that is a pool."""
        return self._arrays.pool

    def check(self, feed: Feed) -> tuple[Part, Hashable]:
        """The feed with its rows, and the group of requests that it may share a run with (None: it runs alone).

        Raises `RejectedError` naming input, expected and got.
        """
        arrays: Feed = feed
        rows = -1
        key: Hashable = ()
        even = True
        if len(feed) != len(self._expected):
            arrays = check_feed(self.inputs, feed)
        for name, dtype, dimensions, tail in self._expected:
            array = arrays.get(name)
            if type(array) is not np.ndarray or array.dtype != dtype or array.ndim != dimensions or array.shape[1:] != tail:
                arrays = check_feed(self.inputs, arrays)
                array = arrays[name]
                if type(array) is not np.ndarray:  # a sequence or a map; such a model runs each request whole
                    continue
                key = (key, array.shape[1:], array.dtype)
            count = array.shape[0] if dimensions else -1
            even = even and rows in (-1, count)
            rows = count
        shared = self.kind == "rows" and even and rows > 0
        return (rows if shared or self.kind == "ones" else 1, arrays), key if shared else None

    def wanted(self, outputs: Sequence[str] | None) -> tuple[str, ...] | None:
        """The outputs that a caller asks for. Raises `RejectedError` for a name that the model does not have."""
        if outputs is None:
            return None
        for name in outputs:
            if name not in self._names:
                known = ", ".join(each.name for each in self.outputs)
                raise RejectedError(f"there is no output {name!r}", mend=f"outputs: {known}")
        return tuple(outputs)

    def run(self, tickets: Sequence[Ticket]) -> None:
        """Answer requests of one group, all in one run: `results` of each gets a dict or the error of each part. Never raises."""
        parts = tickets[0].parts if len(tickets) == 1 else [part for ticket in tickets for part in ticket.parts]
        try:
            results = self._together(parts, tickets[0].wanted)
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody may wait for ever
            results = [error] * len(parts)
        at = 0
        for ticket in tickets:
            count = len(ticket.parts)
            ticket.results = results[at : at + count]
            at += count

    def _together(self, parts: Sequence[Part], wanted: Sequence[str] | None) -> list[Any]:
        if len(parts) == 1:
            return [self._answer(*parts[0], wanted)]
        total = sum(rows for rows, _ in parts)
        held: list[Block] = []
        started = self._now()
        try:
            outputs = self.session.run(self._stack([feed for _, feed in parts], total, held), wanted)
            found = _cut(outputs, [rows for rows, _ in parts], total)
        except Exception:  # noqa: BLE001 - whose fault it is shows when each runs alone
            self.counts.failed += 1
            found = None
        finally:
            for block in held:
                self._arrays.give(block)
        if found is not None:
            self._count(total, self._now() - started)
            return found
        self.counts.split += 1
        return [self._answer(rows, feed, wanted) for rows, feed in parts]

    def _stack(self, feeds: Sequence[Feed], total: int, held: list[Block]) -> dict[str, NDArray[Any]]:
        stacked = {}
        for name, *_ in self._expected:
            arrays = [feed[name] for feed in feeds]
            first = arrays[0]
            if first.dtype.kind in "US":  # words of different lengths have different dtypes
                stacked[name] = np.concatenate(arrays)
                continue
            target, block = self._arrays.take((total, *first.shape[1:]), first.dtype)
            if block is not None:
                held.append(block)
            else:
                self.counts.allocated += 1
            stacked[name] = np.concatenate(arrays, out=target)
        return stacked

    def _answer(self, rows: int, feed: Feed, wanted: Sequence[str] | None) -> Any:
        """The outputs of one request, or its error."""
        started = self._now()
        try:
            answer = self._one_by_one(rows, feed, wanted) if self.kind == "ones" and rows != 1 else self.session.run(feed, wanted)
        except SkerryError as error:
            self.counts.failed += 1
            return error
        except Exception as error:  # noqa: BLE001 - the engine's errors have no common base; the caller gets it
            self.counts.failed += 1
            reason = (str(error).splitlines() or [type(error).__name__])[0].split(" : ")[-1]
            return RejectedError(f"the model did not run on this input: {reason}")
        self._count(rows, self._now() - started)
        return answer

    def _one_by_one(self, rows: int, feed: Feed, wanted: Sequence[str] | None) -> dict[str, Any]:
        if rows == 0:
            raise RejectedError("0 rows: this model's batch is fixed at 1")
        each = [self.session.run({name: array[at : at + 1] for name, array in feed.items()}, wanted) for at in range(rows)]
        return {name: join([outputs[name] for outputs in each]) for name in each[0]}

    def _count(self, rows: int, seconds: float) -> None:
        with self._lock:
            self.counts.runs += 1
            self.counts.rows += rows
            self.counts.seconds += seconds
            self.pace.observe(rows, seconds)

    def sample(self) -> dict[str, NDArray[Any]] | None:
        """A made-up feed of one row that the model runs with; None when none of those tried does."""
        for size in OPEN_SIZES:
            try:
                feed = sample_feed(self.inputs, 1, size)
                self.session.run(feed)
            except _DOES_NOT_RUN:
                continue
            return feed
        return None

    def measure(self, feed: Feed, sizes: Sequence[int], budget: float) -> dict[int, float]:
        """Seconds of a run for each batch size, as far as `budget` seconds allow. Rows are those of `feed`, repeated."""
        row_bytes = max(1, sum(array.nbytes // max(1, len(array) if array.ndim else 1) for array in feed.values()))
        ends = self._now() + budget
        measured: dict[int, float] = {}
        for size in sizes:
            if measured and (self._now() + 2 * max(measured.values()) * 4 > ends or size * row_bytes > _MOST_BYTES):
                break
            rows = first_rows(feed, size) if self.kind == "rows" else feed
            try:
                self.session.run(rows)  # warm: buffers of this size are made once
                measured[size] = self._fastest(rows, min(ends, self._now() + _EACH_S))
            except _DOES_NOT_RUN:
                break
            self.pace.observe(size, measured[size])
        return measured

    def _fastest(self, rows: Feed, ends: float) -> float:
        fastest = float("inf")
        runs = 0
        while runs < 2 or (runs < _EACH and self._now() < ends):
            time.sleep(_PAUSE_S)
            started = self._now()
            self.session.run(rows)
            fastest = min(fastest, self._now() - started)
            runs += 1
        return fastest

    def tune(self, feed: Feed | None, sizes: Sequence[int], budget: float) -> dict[int, float]:
        """Measure and set `max_batch` to the best size; answers what was measured."""
        if feed is None:
            return {}
        measured = self.measure(feed, sizes if self.kind == "rows" else (1,), budget)
        if measured and self.kind == "rows":
            best = best_batch({rows: seconds + _AROUND_S for rows, seconds in measured.items()})
            # a longer run gains nothing more and leaves the callers of the one before it without work meanwhile
            self.max_batch = min([best, *(rows for rows, seconds in measured.items() if seconds >= _LONG_ENOUGH_S)])
            self.stream_batch = max(self.max_batch, min(measured, key=lambda rows: measured[rows] / rows))
        return measured


def independent(session: Session, feed: Feed) -> str:
    """Why the rows of a model cannot share a run, empty when they can: three rows, together and one after the other.

    `feed` has three rows that differ. Raises what the engine raises.
    """
    together = session.run(feed)
    each = [session.run({name: array[at : at + 1] for name, array in feed.items()}) for at in range(3)]
    for name, value in together.items():
        if rows_of(value) != 3 or any(rows_of(outputs[name]) != 1 for outputs in each):
            return f"output {name!r} has not one row for each row of the input"
        if not agree(value, join([outputs[name] for outputs in each])):
            return f"output {name!r} of a row depends on the rows beside it"
    return ""


def how_to_run(session: Session, batch: str, reason: str, sample: Feed | None = None) -> tuple[Kind, str]:
    """How a model is run, and why.

    Args:
        batch, reason: what `prepare` found: `symbolic`, `freed`, `fixed` or `none`.
        sample: one row or more of real input; else rows are made up.
    """
    inputs, outputs = session.inputs, session.outputs
    if batch == "fixed":
        single = bool(inputs) and all(each.shape and each.shape[0] == 1 for each in [*inputs, *outputs])
        return ("ones" if single else "whole"), reason
    if batch == "none" or not inputs:
        return "whole", reason or "no batch dimension"
    closed = [each.name for each in inputs if not each.shape or each.shape[0] is not None]
    if closed:
        return "whole", f"the first dimension of input {closed[0]!r} is not the batch"
    if batch == "freed":
        return "rows", reason
    found = "no made-up input runs, give a sample"
    for size in OPEN_SIZES:
        try:
            feed = sample_feed(inputs, 3, size) if sample is None else first_rows(sample, 3)
            found = independent(session, feed)
            break
        except _DOES_NOT_RUN:
            continue
    return ("whole", found) if found else ("rows", reason)


def _any_rows(signature: Signature) -> Signature:
    return msgspec.structs.replace(signature, shape=(None, *signature.shape[1:]))


def _expectation(signature: Signature) -> tuple[str, Any, int, tuple[int | None, ...]]:
    """Name, dtype, dimensions and row shape; a dtype of None never matches, so that the slow, complete check is made."""
    dtype = numpy_dtype(signature.dtype) if signature.tensor and signature.dtype != "string" else None
    return signature.name, dtype, len(signature.shape), tuple(signature.shape[1:])


def _cut(outputs: Mapping[str, Any], counts: Sequence[int], total: int) -> list[dict[str, Any]] | None:
    """The outputs of each request; None when an output has not one row for each row. Copies: an answer must not hold the batch."""
    if any(rows_of(value) != total for value in outputs.values()):
        return None
    answers = []
    at = 0
    for count in counts:
        end = at + count
        answers.append({n: v[at:end] if isinstance(v, list) else v[at:end].copy() for n, v in outputs.items()})
        at = end
    return answers
