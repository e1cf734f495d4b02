"""Network bandwidth that is shared: a token bucket with priorities, in which alarms overtake bulk."""

import asyncio
import heapq
import itertools

from skerry.core.clock import Clock, SystemClock
from skerry.core.errors import OverloadedError, RejectedError

BULK, ALARM = 0, 1
MOST_WAITING = 4096
BURST_S = 1.0
_LEAST_BURST = 4096.0


class TokenBucket:
    """So many bytes a second, and `burst` at once. Pure: the time comes in.

    A piece larger than the burst goes when the bucket is full, and what follows waits until that is paid. An alarm may go while up
    to one burst is owed: no piece of bulk before it makes it wait for longer than that piece lacks.
    """

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self.rate = rate
        self.burst = burst
        self._level = burst
        self._at = now

    def wait(self, amount: float, now: float, priority: int = BULK) -> float:
        """Seconds until so much may go; 0: now."""
        self._fill(now)
        needed = min(amount, self.burst) - (self.burst if priority >= ALARM else 0.0)
        return max(0.0, (needed - self._level) / self.rate)

    def spend(self, amount: float, now: float) -> None:
        """Note that so much goes now, whether it might or not."""
        self._fill(now)
        self._level -= amount

    def _fill(self, now: float) -> None:
        self._level = min(self.burst, self._level + max(0.0, now - self._at) * self.rate)
        self._at = now


class Throttle:
    """Makes who sends wait for bandwidth: the highest priority first, of one priority who came first. For one event loop.

    Args:
        rate: bytes a second; 0: no limit, then it only counts.
        burst: bytes that may go at once after a pause; by default what one second brings.
        parent: another one that what goes here has to pass too, such as that of the whole node.

    Attributes:
        sent: bytes so far. held_s: seconds that were waited here, all together.
    """

    def __init__(self, rate: float = 0, clock: Clock | None = None, *, burst: float = 0, parent: "Throttle | None" = None) -> None:
        if not 0 <= rate < float("inf") or not 0 <= burst < float("inf"):
            raise RejectedError(f"{rate!r} with a burst of {burst!r} is no rate", mend="give numbers, 0 or more")
        self._clock = clock or SystemClock()
        self._bucket = TokenBucket(rate, burst or max(rate * BURST_S, _LEAST_BURST), self._clock.monotonic()) if rate else None
        self._parent = parent
        self._queue: list[tuple[int, int, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self.sent = 0
        self.held_s = 0.0

    @property
    def rate(self) -> float:
        """Bytes a second; 0: no limit."""
        return self._bucket.rate if self._bucket is not None else 0.0

    @property
    def waiting(self) -> int:
        """How many wait here."""
        return len(self._queue)

    async def take(self, amount: int, priority: int = BULK) -> None:
        """Return when so many bytes may be sent. Raises `OverloadedError` when 4,096 wait already."""
        if self._bucket is not None:
            await self._pass(self._bucket, amount, priority)
        if self._parent is not None:
            await self._parent.take(amount, priority)
        self.sent += amount

    def spend(self, amount: int) -> None:
        """Count bytes that go without waiting; those that wait wait for longer by it."""
        if self._bucket is not None:
            self._bucket.spend(amount, self._clock.monotonic())
        if self._parent is not None:
            self._parent.spend(amount)
        self.sent += amount

    async def _pass(self, bucket: TokenBucket, amount: int, priority: int) -> None:
        now = self._clock.monotonic()
        ahead = bool(self._queue) and -self._queue[0][0] >= priority
        if not ahead and bucket.wait(amount, now, priority) == 0:
            bucket.spend(amount, now)
            return
        if len(self._queue) >= MOST_WAITING:
            raise OverloadedError(f"{MOST_WAITING} wait for bandwidth already", mend="send less, or raise the limit of the network")
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (-priority, next(self._numbers), amount, future)
        heapq.heappush(self._queue, entry)
        self._serve(bucket)
        try:
            await future
        except asyncio.CancelledError:
            if entry in self._queue:
                self._queue.remove(entry)
                heapq.heapify(self._queue)
                self._serve(bucket)
            raise
        finally:
            self.held_s += self._clock.monotonic() - now

    def _serve(self, bucket: TokenBucket) -> None:
        """Let those go who may, and come back when the next one may."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._queue:
            priority, _, amount, future = self._queue[0]
            now = self._clock.monotonic()
            wait = bucket.wait(amount, now, -priority)
            if wait > 0:
                self._timer = asyncio.get_running_loop().call_later(wait, self._serve, bucket)
                return
            heapq.heappop(self._queue)
            if not future.done():
                bucket.spend(amount, now)
                future.set_result(None)


class Allowance:
    """What one of several senders may send, for a loop that keeps what must wait in a line of its own: so it holds up no other.

    Args:
        rate: bytes a second. burst_s: what comes after a pause may go at once: so many seconds' worth.

    Attributes:
        sent: bytes so far.
    """

    def __init__(self, rate: float, clock: Clock, burst_s: float = BURST_S) -> None:
        if not 0 < rate < float("inf"):
            raise RejectedError(f"{rate!r} is no rate", mend="give a number above 0")
        self.rate = rate
        self.sent = 0
        self._clock = clock
        self._bucket = TokenBucket(rate, max(rate * burst_s, _LEAST_BURST), clock.monotonic())

    def wait(self, amount: int) -> float:
        """Seconds until so many bytes may go; 0: now."""
        return self._bucket.wait(amount, self._clock.monotonic())

    def spend(self, amount: int) -> None:
        """Note that so many bytes go now, whether they might or not: what comes after them waits for longer."""
        self._bucket.spend(amount, self._clock.monotonic())
        self.sent += amount
