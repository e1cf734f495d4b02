"""Which requests run when, and where: on the loop when a run is short, else in a thread of the model's own.

The first request of an idle model gives the loop one turn, in which whoever else is ready joins it, and then runs. What comes while
a run is under way is the next batch.
"""

import asyncio
import contextlib
import queue
import threading
import weakref
from collections.abc import Callable, Coroutine, Generator, Sequence
from typing import Any

from skerry.core.clock import SystemClock
from skerry.core.errors import OverloadedError, UnavailableError
from skerry.inference.batching.batcher import Batcher, Ticket
from skerry.inference.batching.runs import Part, Runner

Tickets = list[Ticket]
Jobs = queue.SimpleQueue[tuple[Tickets, Callable[[Tickets], None]] | None]

INLINE_S = 0.0005  # runs that take longer go to a thread: handing one over costs 50–200 µs


class _Turn:
    """One turn of the event loop: everybody who is ready runs once."""

    def __await__(self) -> Generator[None]:
        yield


class Dispatcher:
    """The requests of one model, for the tasks of one event loop.

    Args:
        max_delay: seconds that a batch that is not full waits for more.
        queue: most requests that wait.

    Attributes:
        requests, inline, threaded, refused, cancelled: counts, see `Stats`.
    """

    def __init__(self, runner: Runner, name: str, max_delay: float, queue: int) -> None:
        self.requests = self.inline = self.threaded = self.refused = self.cancelled = 0
        self._runner = runner
        self._name = name
        self._batcher = Batcher(runner.max_batch, max_delay, queue, depth=2)
        self._now = SystemClock().monotonic
        self._loop = asyncio.get_running_loop()
        self._leading = False
        self._lone: Ticket | None = None  # the leader's, kept out of the queue until somebody joins it
        self._timer: asyncio.Handle | None = None
        self._closing = False
        self._idle: asyncio.Future[None] | None = None
        self._jobs: Jobs | None = None
        self._thread: threading.Thread | None = None

    @property
    def waiting(self) -> int:
        """Requests that wait for a run."""
        return self._batcher.waiting

    @property
    def max_batch(self) -> int:
        """Most rows of a run."""
        return self._batcher.max_batch

    @max_batch.setter
    def max_batch(self, rows: int) -> None:
        self._batcher.max_batch = rows

    def results(self, ticket: Ticket) -> Coroutine[Any, Any, Sequence[Any]]:
        """Take a request in; to be awaited for its results."""
        if self._leading or self._batcher.in_flight or self._timer is not None:
            if self._add(ticket):
                self._hurry()
            return self.follow(ticket)
        return self._lead(ticket)

    async def close(self) -> None:
        """Take no more requests, and answer those that wait."""
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
            self.refused += 1
            raise
        self.requests += len(ticket.parts)
        return full

    async def _lead(self, ticket: Ticket) -> Sequence[Any]:
        """Wait one turn for others, then run the batch with theirs; alone it needs neither queue nor future."""
        if self._closing:
            raise self._unloaded()
        if self._batcher.waiting or self._batcher.max_delay:
            self._add(ticket)
        else:
            self._lone = ticket
            self.requests += 1
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
                self.inline += 1
                self._runner.run((ticket,))
                self._tell_idle()
                return ticket.results  # type: ignore[no-any-return]  # what the engine gave
            self._batcher.add(ticket, self._now())
        self._flush()
        if ticket.results is not None:
            return ticket.results  # type: ignore[no-any-return]  # what the engine gave
        return await self.follow(ticket)

    async def follow(self, ticket: Ticket) -> Sequence[Any]:
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

    def enter(self, part: Part, group: Any, wanted: Any) -> Ticket:
        """Queue one request of several whose answers are awaited later."""
        ticket = Ticket(part[0], group, (part,), wanted)
        full = self._add(ticket)
        ticket.waiter = self._loop.create_future()
        if full:
            self._hurry()
        self._later()
        return ticket

    async def together(self, tickets: Tickets) -> list[Any]:
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
            self.withdraw(entered)
            self._later()
            raise
        return [ticket.results for ticket in tickets]

    def withdraw(self, tickets: Tickets) -> None:
        for ticket in tickets:
            self._drop(ticket)
            ticket.waiter.cancel()

    def _drop(self, ticket: Ticket) -> None:
        if self._lone is ticket:
            self._lone = None
            self.cancelled += 1
        elif self._batcher.cancel(ticket):
            self.cancelled += 1
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
                self.threaded += 1
                self._hand_over(batch)
                continue
            self.inline += 1
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
                target=_work, args=(self._jobs, self._runner, self._loop), name=f"model {self._name}", daemon=True
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
        return UnavailableError(f"model {self._name} is unloaded", mend="load it again")

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


def _wake(batch: Tickets) -> None:
    for ticket in batch:
        if ticket.waiter is not None and not ticket.waiter.done():
            ticket.waiter.set_result(None)
