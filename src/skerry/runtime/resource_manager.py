"""Limits, leases and live usage of a whole node: the books of `resources.py`, for threads and for tasks that wait."""

import asyncio
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Self

from skerry.core.clock import SystemClock
from skerry.runtime.resources import KINDS, Books, ResourceUsage

if TYPE_CHECKING:
    from skerry.runtime.throttle import Throttle
    from skerry.runtime.usage import UsageMeter


class Lease:
    """So much of the resources, held until `release` or the end of a `with`. Made by a `ResourceManager`.

    Attributes:
        name: who holds it, in the errors of others.
    """

    def __init__(self, manager: "ResourceManager", ticket: int, name: str, usage: ResourceUsage) -> None:
        self.name = name
        self._manager = manager
        self._ticket = ticket
        self._usage = usage

    @property
    def usage(self) -> ResourceUsage:
        """How much it holds."""
        return self._usage

    def release(self) -> None:
        """Give it back. Raises `RejectedError` the second time: what has been given back may be somebody else's."""
        self._manager._release(self._ticket)  # noqa: SLF001 - a lease is a face of its manager

    def resize(self, required: ResourceUsage) -> None:
        """Hold so much from now on. Raises `InsufficientResources`, and nothing changes, `RejectedError` after `release`."""
        self._manager._resize(self._ticket, required)  # noqa: SLF001 - a lease is a face of its manager
        self._usage = required

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()


class ResourceManager:
    """What a node may use, who holds how much of it, and what is in use. Safe to share between threads and event loops.

    Leases are kept by the books, not by the kernel: what a holder really takes is `used`, of this process and of all that it
    started.

    Args:
        limits: at most so much of each kind; 0 of a kind: no limit.
        meter: measures what is in use; by default one of this process and its children.
    """

    def __init__(self, limits: ResourceUsage, *, meter: "UsageMeter | None" = None) -> None:
        self._books = Books(limits)
        self._meter = meter
        self._lock = threading.Lock()
        self._network: Throttle | None = None
        self._futures: dict[int, asyncio.Future[None]] = {}

    @property
    def limits(self) -> ResourceUsage:
        """At most so much of each kind; 0 where there is no limit."""
        return self._books.limits

    @property
    def allocated(self) -> ResourceUsage:
        """What all leases hold together."""
        return self._books.allocated

    @property
    def available(self) -> ResourceUsage:
        """What is free of each kind; 0 too where there is no limit."""
        limits, held = self.limits, self.allocated
        return ResourceUsage(**{kind: max(0, getattr(limits, kind) - getattr(held, kind)) for kind in KINDS})

    @property
    def waiting(self) -> int:
        """How many tasks wait in `acquire`."""
        return self._books.waiting

    def holders(self) -> dict[str, ResourceUsage]:
        """What is held, by name; leases of one name together."""
        with self._lock:
            return self._books.holders()

    def used(self) -> ResourceUsage:
        """What this process and all that it started use now. Takes some milliseconds, once a second at most."""
        if self._meter is None:
            from skerry.runtime.usage import UsageMeter  # late: it brings psutil, and books need none

            self._meter = UsageMeter(SystemClock().monotonic)
        return self._meter.read()

    def throttle(self, rate: float = 0) -> "Throttle":
        """What who sends asks before it does: `rate` bytes a second at most, such as `lease.usage.network`, 0: no bound of its own.

        All throttles of this manager together give no more than the limit of the network. For one event loop."""
        from skerry.runtime.throttle import Throttle  # late: who sends nothing needs none

        if self._network is None:
            self._network = Throttle(self.limits.network)
        return Throttle(rate, parent=self._network)

    def check_availability(self, required: ResourceUsage, *, priority: int = 0) -> bool:
        """Whether `allocate` would succeed now. Who must have it calls `allocate`: another may come between."""
        with self._lock:
            return not self._books.short(required, priority)

    def allocate(self, required: ResourceUsage, name: str = "a lease", *, priority: int = 0) -> Lease:
        """Hold so much from now on, for the length of a `with` or until `release`.

        Raises `InsufficientResources` at once: which kind is short, by how much, and who holds it. Those who wait in `acquire`
        with this priority or a higher one are before it. Raises `RejectedError` for what is no amount, such as NaN.
        """
        with self._lock:
            return Lease(self, self._books.hold(name, required, priority), name, required)

    def charge(self, used: ResourceUsage, name: str) -> Lease:
        """Hold what is in use already, such as the measured memory of what has been loaded; never refused, also over a limit."""
        with self._lock:
            return Lease(self, self._books.charge(name, used), name, used)

    async def acquire(
        self, required: ResourceUsage, name: str = "a lease", *, priority: int = 0, timeout: float | None = None
    ) -> Lease:
        """As `allocate`, but wait until it can be had; the highest priority is served first, of one priority who came first.

        Raises `InsufficientResources` after `timeout` seconds, and at once for more than the limit; `OverloadedError` when 1,024
        wait already.
        """
        loop = asyncio.get_running_loop()
        with self._lock:
            ticket = self._books.wait(name, required, priority)
            if self._books.holds(ticket):
                return Lease(self, ticket, name, required)
            future = self._futures[ticket] = loop.create_future()
        try:
            async with asyncio.timeout(timeout):
                await future
        except TimeoutError:
            with self._lock:
                self._futures.pop(ticket, None)
                if not self._books.holds(ticket):  # else it came at the last moment
                    self._wake(self._books.leave(ticket))
                    raise self._books.why(required, name, priority) from None
        except BaseException:
            with self._lock:
                self._futures.pop(ticket, None)
                books = self._books
                self._wake(books.release(ticket) if books.holds(ticket) else books.leave(ticket))
            raise
        return Lease(self, ticket, name, required)

    def _release(self, ticket: int) -> None:
        with self._lock:
            self._wake(self._books.release(ticket))

    def _resize(self, ticket: int, required: ResourceUsage) -> None:
        with self._lock:
            self._wake(self._books.resize(ticket, required))

    def _wake(self, served: list[int]) -> None:
        """Tell those who waited. Call it under the lock."""
        while served:
            ticket = served.pop()
            future = self._futures.pop(ticket, None)
            try:
                if future is not None:
                    future.get_loop().call_soon_threadsafe(_resolve, future)
            except RuntimeError:  # its loop is closed: nobody will ever take it
                served += self._books.release(ticket)


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
