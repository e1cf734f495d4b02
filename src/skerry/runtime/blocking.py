"""Threads for calls that block: a bounded number with stacks of a set size, a bounded queue before them, and back-pressure."""

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

import msgspec

from skerry.core.errors import ConfigError, OverloadedError, UnavailableError

T = TypeVar("T")
P = ParamSpec("P")
LEAST_STACK = 64 * 1024
_PAGE = 4096
# `threading.stack_size` counts for the whole process: nobody else may start a thread while it is another one
_starting = threading.Lock()


def check_stack(size: int) -> int:
    """A stack size that every system takes: whole pages. Raises `ConfigError` under 64 KiB and over 1 GiB."""
    if not LEAST_STACK <= size <= 1 << 30:
        raise ConfigError(f"a stack of {size} bytes is too small or too large", where="thread_stack_size", allowed="64KiB to 1GiB")
    return -(-size // _PAGE) * _PAGE


def start_thread(run: Callable[[], None], name: str, stack_size: int) -> threading.Thread:
    """Start a daemon thread with a stack of so many bytes."""
    thread = threading.Thread(target=run, name=name, daemon=True)
    with _starting:
        before = threading.stack_size(stack_size)
        try:
            thread.start()
        finally:
            threading.stack_size(before)
    return thread


class StackedExecutor(ThreadPoolExecutor):
    """A `ThreadPoolExecutor` whose threads have stacks of a set size: what an event loop may have as its default executor."""

    def __init__(self, threads: int, stack_size: int, name: str = "blocking") -> None:
        super().__init__(threads, thread_name_prefix=name)
        self._stack_size = check_stack(stack_size)

    def submit(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """As `ThreadPoolExecutor.submit`, which starts a thread where none is idle."""
        with _starting:
            before = threading.stack_size(self._stack_size)
            try:
                return super().submit(call, *args, **kwargs)
            finally:
                threading.stack_size(before)


class Job(msgspec.Struct, eq=False):
    """One call: what to run, and who waits for the answer."""

    call: Callable[[], Any]
    answer: "asyncio.Future[Any]"
    begun: bool = False


class PoolFigures(msgspec.Struct, frozen=True):
    """How a pool stands: threads started, calls that run, are queued, and wait for a place in the queue; and counts.

    Attributes:
        done: calls that ended, also with an error. abandoned: calls that run on although nobody waits for them any more.
        refused: calls that found no place and would not wait.
    """

    threads: int
    running: int
    queued: int
    waiting: int
    done: int
    abandoned: int
    refused: int


class BlockingPool:
    """Threads for blocking calls of the tasks of one event loop. They are started when first needed, and are daemons: a call that
    never returns does not keep the process from ending.

    Args:
        threads: at most so many calls run at once. queue: at most so many more are taken; who comes then waits for a place.
        stack_size: bytes of each thread's stack.
    """

    def __init__(self, threads: int, queue: int = 1024, stack_size: int = 1 << 20, name: str = "blocking") -> None:
        for where, value in (("threads", threads), ("queue", queue)):
            if value < 1:
                raise ConfigError(f"{where} of a pool is {value}", where=where, allowed="1 or more")
        self._most, self._name = threads, name
        self._stack_size = check_stack(stack_size)
        self._places = asyncio.Semaphore(threads + queue)
        self._jobs: deque[Job] = deque()
        self._begun: SimpleQueue[Job | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._running = self._waiting = self._done = self._abandoned = self._refused = 0
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def figures(self) -> PoolFigures:
        """How it stands now."""
        queued = len(self._jobs)
        counts = (self._done, self._abandoned, self._refused)
        return PoolFigures(len(self._threads), self._running, queued, self._waiting, *counts)

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What a call answers or raises, run in a thread with the context variables of the caller.

        Waits for a place where the queue is full. Cancelled before it begins, the call never runs; later it runs to its end and
        nobody gets the answer. Raises `UnavailableError` after `close`.
        """
        self._waiting += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1
        return await self._run(lambda: call(*args, **kwargs))

    async def try_run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `run`, but raise `OverloadedError` where the queue is full."""
        if self._places.locked():
            self._refused += 1
            busy = f"all {self._most} threads are busy and the queue is full"
            raise OverloadedError(busy, where=self._name, mend="try again later")
        await self._places.acquire()
        return await self._run(lambda: call(*args, **kwargs))

    async def _run(self, call: Callable[[], T]) -> T:
        """Run it; a place is held, and given back when the call has ended."""
        if self._closed:
            self._places.release()
            raise UnavailableError("it is shut down", where=self._name)
        context = contextvars.copy_context()
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        job = Job(lambda: context.run(call), answer)
        self._jobs.append(job)
        self._idle.clear()
        self._hand_on()
        try:
            return await answer
        except asyncio.CancelledError:
            if not job.begun:
                self._jobs.remove(job)
                self._ended()
            elif answer.cancelled():
                self._abandoned += 1
            raise

    def _hand_on(self) -> None:
        """Give queued calls to threads, as many as may run."""
        while self._jobs and self._running < self._most:
            job = self._jobs.popleft()
            job.begun = True
            self._running += 1
            if self._running > len(self._threads):
                self._threads.append(start_thread(self._work, f"{self._name}-{len(self._threads)}", self._stack_size))
            self._begun.put(job)

    def _work(self) -> None:
        """A thread: one call after the other, until it is given None."""
        while (job := self._begun.get()) is not None:
            try:
                found, error = job.call(), None
            except BaseException as raised:  # noqa: BLE001 - whatever it is, it is the caller's
                found, error = None, raised
            try:
                job.answer.get_loop().call_soon_threadsafe(self._returned, job, found, error)
            except RuntimeError:  # the loop is closed
                return

    def _returned(self, job: Job, found: Any, error: BaseException | None) -> None:
        self._running -= 1
        self._done += 1
        if not job.answer.done():
            if error is None:
                job.answer.set_result(found)
            elif isinstance(error, StopIteration):  # a future cannot raise it
                job.answer.set_exception(RuntimeError(f"the call raised {error!r}"))
            else:
                job.answer.set_exception(error)
        self._ended()
        self._hand_on()

    def _ended(self) -> None:
        self._places.release()
        if not self._running and not self._jobs:
            self._idle.set()

    async def close(self, seconds: float) -> int:
        """Take no more; wait so long for what has been taken, then cancel what has not begun. How many calls still run.

        They go on in their threads; nobody waits for them any more."""
        self._closed = True
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            while self._jobs:
                job = self._jobs.popleft()
                job.begun = True
                if not job.answer.done():
                    job.answer.set_exception(UnavailableError("it was shut down before the call began", where=self._name))
                self._places.release()
        for _ in range(self._waiting):  # they find it closed
            self._places.release()
        for _ in self._threads:
            self._begun.put(None)
        return self._running
