"""A model for asyncio: requests of any number of tasks, batched together when they come together.

The first request of an idle model gives the loop one turn, in which whoever else is ready joins it, and then runs: at once on the
loop when a run is short, else in a thread of the model's own, so that the loop goes on. What comes while a run is under way is
the next batch.
"""

import asyncio
import contextlib
import queue
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Generator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from numpy.typing import NDArray

from skerry.core.clock import SystemClock
from skerry.core.errors import OverloadedError, UnavailableError
from skerry.core.units import at_key, parse_duration
from skerry.inference.batching.batcher import Batcher, Ticket, ranges
from skerry.inference.batching.loading import Described, Loaded, Optimized, Stats, load
from skerry.inference.batching.packing import Answer, cut_rows, join_answers, pack, raise_first
from skerry.inference.batching.runs import Feed, Part, Runner
from skerry.inference.engine.seam import EngineOptions
from skerry.runtime import MemoryPool

Tickets = list[Ticket]
Jobs = queue.SimpleQueue[tuple[Tickets, Callable[[Tickets], None]] | None]

INLINE_S = 0.0005  # runs that take longer go to a thread: handing one over costs 50–200 µs


class _Turn:
    """One turn of the event loop: everybody who is ready runs once."""

    def __await__(self) -> Generator[None]:
        yield


class EdgeInference(Described):
    """A loaded model whose concurrent requests share runs. Made by `load`; for the tasks of one event loop.

    Attributes:
        name, version: as given at load.
        load_seconds: what loading took, measuring included.
    """

    def __init__(self, loaded: Loaded, *, max_delay: float = 0.0, queue: int = 4096) -> None:
        super().__init__(loaded)
        self._batcher = Batcher(loaded.runner.max_batch, max_delay, queue, depth=2)
        self._now = SystemClock().monotonic
        self._loop = asyncio.get_running_loop()
        self._leading = False
        self._lone: Ticket | None = None  # the leader's, kept out of the queue until somebody joins it
        self._timer: asyncio.Handle | None = None
        self._closing = False
        self._idle: asyncio.Future[None] | None = None
        self._jobs: Jobs | None = None
        self._thread: threading.Thread | None = None
        self._requests = self._inline = self._threaded = self._refused = self._cancelled = 0

    @classmethod
    async def load(
        cls,
        source: Path | str | bytes,
        *,
        name: str = "",
        version: str = "",
        options: EngineOptions = EngineOptions(),  # noqa: B008 - frozen, so it can be shared
        max_batch: int | str = "auto",
        max_delay: str = "0ms",
        queue: int = 4096,
        pool: MemoryPool | None = None,
        cache: Path | None = None,
        sample: Feed | None = None,
    ) -> Self:
        """Load a model, warm it up and measure it, in a thread.

        Args:
            source: an ONNX file, or its bytes.
            max_batch: most rows of a run; `auto` measures what is best, for about 50 ms.
            max_delay: how long a batch that is not full waits for more. At `0ms` an idle model answers at once.
            queue: most requests that wait; one more is refused with `OverloadedError`.
            pool: where batches are assembled, so that the steady state allocates none (see `stats`); by default in new
                arrays, which is no slower.
            cache: directory for optimized graphs.
            sample: a feed of real input; without it one is made up from the signature, to warm up, measure and batch with.

        Raises `RejectedError` when the file is missing or cannot be loaded, `ConfigError`.
        """
        seconds = at_key("max_delay", parse_duration, max_delay) / 1e6
        loaded = await asyncio.to_thread(
            load, source, name=name, version=version, options=options, max_batch=max_batch, pool=pool, cache=cache, sample=sample
        )
        return cls(loaded, max_delay=seconds, queue=queue)

    @property
    def stats(self) -> Stats:
        """Counts since load."""
        return self._loaded.stats(
            self._requests, self._batcher.waiting, inline=self._inline, threaded=self._threaded, refused=self._refused,
            cancelled=self._cancelled,
        )  # fmt: skip

    async def infer(self, feed: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None) -> Answer:
        """Run the model on one feed, together with what else is waiting.

        Args:
            feed: an array for each input, of the model's full rank, batch dimension included, any number of rows.
            outputs: names of the outputs wanted; all by default.

        Returns the outputs by name, a row for each row. Raises `RejectedError` (name, dtype, rank or shape does not fit, or the
        model cannot run on this input), `OverloadedError` (the queue is full), `UnavailableError` (unloaded).
        """
        part, group = self._runner.check(feed)
        wanted = None if outputs is None else self._runner.wanted(outputs)
        if group is not None:
            if part[0] > self._batcher.max_batch:
                return join_answers([answer async for _, _, answer in self.stream(feed, outputs)])
            group = (group, wanted)
        ticket = Ticket(part[0], group, (part,), wanted)
        if self._leading or self._batcher.in_flight or self._timer is not None:
            if self._add(ticket):
                self._hurry()
            return _only(await self._follow(ticket))
        return _only(await self._lead(ticket))

    async def batch_infer(self, feeds: Sequence[Mapping[str, NDArray[Any]]], outputs: Sequence[str] | None = None) -> list[Answer]:
        """Run the model on several feeds, in one run where they fit; answers in their order.

        Feeds whose rows differ in shape, and rows over `max_batch`, make further runs. Raises as `infer`; a feed that does not
        fit is named by its index before anything runs.
        """
        tickets, places = pack(self._runner, feeds, outputs)
        answers: list[Any] = [None] * len(feeds)
        for found, place in zip(await self._together(tickets), places, strict=True):
            for at, answer in zip(place, found, strict=True):
                answers[at] = answer
        raise_first(answers)
        return answers

    async def stream(
        self, feed: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None, chunk: int = 0
    ) -> AsyncIterator[tuple[int, int, Answer]]:
        """Run the model on the rows of arrays of any length, range by range, in order, without copying them.

        Args:
            chunk: rows of a range; by default those of the fastest run that was measured.

        Yields `(first, end, outputs)`. One range is ahead of the one that is read. The model must take any number of rows.
        """
        part, group = self._runner.check(feed)
        wanted = None if outputs is None else self._runner.wanted(outputs)
        rows, arrays = part
        if group is None:
            yield 0, rows, await self.infer(feed, outputs)
            return
        size = chunk or self._runner.stream_batch or self._batcher.max_batch
        ahead: list[tuple[int, int, Ticket]] = []
        try:
            for first, end in ranges(rows, size):
                ahead.append((first, end, self._enter(cut_rows(arrays, first, end), (group, wanted), wanted)))
                if len(ahead) > 2:
                    first, end, ticket = ahead.pop(0)
                    yield first, end, _only(await self._follow(ticket))
            while ahead:
                first, end, ticket = ahead.pop(0)
                yield first, end, _only(await self._follow(ticket))
        finally:
            self._withdraw([ticket for _, _, ticket in ahead])

    async def optimize(self, sample: Mapping[str, NDArray[Any]] | None = None) -> Optimized:
        """Measure runs of 1 to 512 rows for up to 2 s, in a thread, and batch up to the best size from now on.

        Args:
            sample: real input to measure with; one row or more.
        """
        found = await asyncio.to_thread(self._loaded.optimize, sample)
        self._batcher.max_batch = self._runner.max_batch
        return found

    async def unload(self) -> None:
        """Take no more requests, answer those that wait, and free the model."""
        self._closing = True
        self._batcher.max_delay = 0.0  # nobody joins any more
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._later()
        while self._batcher.waiting or self._batcher.in_flight or self._leading:
            if self._idle is None or self._idle.done():
                self._idle = self._loop.create_future()
            await asyncio.shield(self._idle)
        if self._jobs is not None:
            self._jobs.put(None)
            self._jobs = None
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)
            self._thread = None
        self._runner.session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.unload()

    def _add(self, ticket: Ticket) -> bool:
        """Queue a request; whether there is a full batch now."""
        if self._closing:
            raise self._unloaded()
        lone, self._lone = self._lone, None
        if lone is not None:
            self._batcher.add(lone, self._now())
        try:
            full = self._batcher.add(ticket, self._now())
        except OverloadedError:
            self._refused += 1
            raise
        self._requests += len(ticket.parts)
        return full

    async def _lead(self, ticket: Ticket) -> Sequence[Any]:
        """Wait one turn for others, then run the batch with theirs; alone it needs neither queue nor future."""
        if self._closing:
            raise self._unloaded()
        if self._batcher.waiting or self._batcher.max_delay:
            self._add(ticket)
        else:
            self._lone = ticket
            self._requests += 1
        self._leading = True
        try:
            await _Turn()
        except BaseException:
            self._leading = False
            self._drop(ticket)
            self._later()
            raise
        self._leading = False
        if self._lone is ticket:
            self._lone = None
            if self._runner.pace.predict(ticket.rows) <= INLINE_S:
                self._inline += 1
                self._runner.run((ticket,))
                self._tell_idle()
                return ticket.results  # type: ignore[no-any-return]  # what the engine gave
            self._batcher.add(ticket, self._now())
        self._flush()
        if ticket.results is not None:
            return ticket.results  # type: ignore[no-any-return]  # what the engine gave
        return await self._follow(ticket)

    async def _follow(self, ticket: Ticket) -> Sequence[Any]:
        """The results of a request that somebody else runs."""
        if ticket.waiter is None:
            ticket.waiter = self._loop.create_future()
        try:
            await ticket.waiter
        except asyncio.CancelledError:
            self._drop(ticket)
            raise
        return ticket.results  # type: ignore[no-any-return]  # what the engine gave

    def _hurry(self) -> None:
        """There is a full batch: it waits for nothing but the run that is under way, and is handed over behind it."""
        if self._batcher.in_flight:
            self._flush()
        elif self._timer is not None:
            self._timer.cancel()
            self._timer = self._loop.call_soon(self._on_time)

    def _enter(self, part: Part, group: Any, wanted: Any) -> Ticket:
        """Queue one request of several whose answers are awaited later."""
        ticket = Ticket(part[0], group, (part,), wanted)
        full = self._add(ticket)
        ticket.waiter = self._loop.create_future()
        if full:
            self._hurry()
        self._later()
        return ticket

    async def _together(self, tickets: Tickets) -> list[Any]:
        """The results of several requests, all queued at once or none."""
        entered: Tickets = []
        try:
            for ticket in tickets:
                self._add(ticket)
                ticket.waiter = self._loop.create_future()
                entered.append(ticket)
            if self._leading or self._batcher.in_flight:
                self._hurry()
            else:
                await _Turn()
                self._flush()
            for ticket in tickets:
                await ticket.waiter
        except BaseException:
            self._withdraw(entered)
            self._later()
            raise
        return [ticket.results for ticket in tickets]

    def _withdraw(self, tickets: Tickets) -> None:
        for ticket in tickets:
            self._drop(ticket)
            ticket.waiter.cancel()

    def _drop(self, ticket: Ticket) -> None:
        if self._lone is ticket:
            self._lone = None
            self._cancelled += 1
        elif self._batcher.cancel(ticket):
            self._cancelled += 1
        self._tell_idle()

    def _later(self) -> None:
        """Look at the queue in the next turn of the loop, unless somebody will anyway."""
        if self._timer is None and not self._leading and not self._batcher.in_flight and self._batcher.waiting:
            self._timer = self._loop.call_soon(self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        self._flush()

    def _flush(self) -> None:
        """Run or hand over what is ready. One batch at most runs here, so that the loop gets its turn."""
        batcher = self._batcher
        while batch := batcher.take(self._now()):
            rows = sum(ticket.rows for ticket in batch)
            if batcher.in_flight > 1 or self._runner.pace.predict(rows) > INLINE_S:
                self._threaded += 1
                self._hand_over(batch)
                continue
            self._inline += 1
            self._runner.run(batch)
            batcher.done()
            _wake(batch)
            self._later()
            break
        self._wait_for_more()
        self._tell_idle()

    def _wait_for_more(self) -> None:
        due = self._batcher.due()
        if due is not None and self._timer is None and not self._leading:
            self._timer = self._loop.call_later(max(0.0, due - self._now()), self._on_time)

    def _hand_over(self, batch: Tickets) -> None:
        if self._jobs is None:
            self._jobs = queue.SimpleQueue()
            self._thread = threading.Thread(
                target=_work, args=(self._jobs, self._runner, self._loop), name=f"model {self.name}", daemon=True
            )
            self._thread.start()
            weakref.finalize(self, self._jobs.put, None)  # a model that nobody unloaded must not keep its thread
        self._jobs.put((batch, self._finished))

    def _finished(self, batch: Tickets) -> None:
        self._batcher.done()
        # the next run starts before anybody reads the answers of the last: both go on at once
        self._flush()
        _wake(batch)

    def _unloaded(self) -> UnavailableError:
        return UnavailableError(f"model {self.name} is unloaded", mend="load it again")

    def _tell_idle(self) -> None:
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)


def _work(jobs: Jobs, runner: Runner, loop: asyncio.AbstractEventLoop) -> None:
    """The thread of a model: one batch after the other, until it is told to end or its loop is gone."""
    while (job := jobs.get()) is not None:
        batch, finished = job
        runner.run(batch)
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(finished, batch)
        del job, batch, finished


def _only(results: Sequence[Any]) -> Answer:
    """The answer of a request of one feed. Raises its error."""
    answer = results[0]
    if isinstance(answer, Exception):
        raise answer
    return answer  # type: ignore[no-any-return]  # what the engine gave


def _wake(batch: Tickets) -> None:
    for ticket in batch:
        if ticket.waiter is not None and not ticket.waiter.done():
            ticket.waiter.set_result(None)
