"""The one shape of a service, and a supervisor that restarts what may fail.

A service is constructed from a config struct, `run()` works until cancelled and owns what it started, and `ready` is set when
it serves. `status` is one sentence for people.
"""

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from typing import Any, Protocol

from skerry.core.clock import Clock
from skerry.core.ports import Log


class Service(Protocol):
    """What every service of the node looks like."""

    ready: asyncio.Event

    async def run(self) -> None:
        """Work until cancelled."""
        ...


async def beat(every: float) -> None:
    """Sleep until the loop's clock is at the next multiple of `every` seconds, or at the one after where that is too near.

    For who looks at something now and then: all that look in one process do so together, and wake it once and not each by itself.
    """
    past = asyncio.get_running_loop().time() % every
    await asyncio.sleep(every - past if past < every / 2 else 2 * every - past)


class Backoff:
    """Delays that double from `first` to `most` seconds, with jitter of a fifth either way; `reset` after good times.

    Pure but for the random source, which can be passed in.
    """

    def __init__(self, first: float = 0.2, most: float = 10.0, rng: random.Random | None = None) -> None:
        self._first = first
        self._most = most
        self._rng = rng or random.Random()
        self.attempts = 0

    def next(self) -> float:
        """Seconds to wait before the next attempt."""
        delay = min(self._most, self._first * 2.0 ** min(self.attempts, 30))
        self.attempts += 1
        return delay * self._rng.uniform(0.8, 1.2)

    def reset(self) -> None:
        self.attempts = 0


class Restarts:
    """Counts restarts within a sliding window of time: bounded, and asked before every restart."""

    def __init__(self, clock: Clock, limit: int = 20, window: float = 300.0) -> None:
        self._clock = clock
        self._limit = limit
        self._window = window
        self._times: deque[float] = deque(maxlen=limit)
        self.total = 0

    def note(self) -> None:
        self._times.append(self._clock.monotonic())
        self.total += 1

    @property
    def exhausted(self) -> bool:
        """True when `limit` restarts fell into the last `window` seconds."""
        return len(self._times) == self._limit and self._clock.monotonic() - self._times[0] < self._window


async def supervise(run: Callable[[], Awaitable[None]], name: str, clock: Clock, log: Log, steady: float = 30.0) -> None:
    """Run a coroutine function for ever: when it fails, log why and start it again with back-off.

    A run of more than `steady` seconds counts as good and resets the back-off.
    """
    backoff = Backoff()
    while True:
        began = clock.monotonic()
        try:
            await run()
        except Exception as error:  # noqa: BLE001 - a supervisor is where every failure ends
            why: object = error
        else:
            why = "it ended"
        if clock.monotonic() - began > steady:
            backoff.reset()
        delay = backoff.next()
        log.error(f"{name} stopped: {why}; starting it again in {delay:.1f} s", kind=type(why).__name__)
        await asyncio.sleep(delay)


async def until_one_ends(*works: Coroutine[Any, Any, None], signs: Iterable[asyncio.Future[Any]] = ()) -> None:
    """Run all until one ends or one of the signs is given; cancel the rest, and raise what any that ended has raised."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.wait([*tasks, *signs], return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()
    finally:
        await cancel_and_wait(*tasks)


async def cancel_and_wait(*tasks: "asyncio.Task[object] | asyncio.Task[None]") -> None:
    """Cancel tasks and wait until each has ended; their own errors are swallowed, since they are being ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def end_chunks(chunks: AsyncIterator[bytes], following: "asyncio.Future[bytes] | None") -> None:
    """Close a source of chunks, and give up on the following one where it is still waited for."""
    if following is not None and not following.done():
        following.cancel()
        await asyncio.wait((following,))
    close = getattr(chunks, "aclose", None)
    if close is not None:
        await close()


class Bell:
    """Wakes all who wait for the next event."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()

    def ring(self) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
        self._waiting.clear()

    async def wait(self, timeout: float) -> None:
        """Until the bell rings, or so many seconds."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            await asyncio.wait([future], timeout=timeout)
        finally:
            self._waiting.discard(future)
            future.cancel()
