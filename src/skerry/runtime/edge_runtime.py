"""EdgeRuntime: one event loop with a tree of tasks, bounded threads, child processes, and an end that comes in time."""

import asyncio
import contextlib
import signal
import tempfile
import threading
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

import msgspec

from skerry.core.clock import Clock, SystemClock
from skerry.core.errors import ConfigError, OverloadedError, UnavailableError
from skerry.core.units import at_key, parse_duration, parse_size
from skerry.runtime.blocking import BlockingPool, PoolFigures, check_stack
from skerry.runtime.children import Child, ChildSpec
from skerry.runtime.loop import run_loop
from skerry.runtime.stall import LoopWatch, Stall
from skerry.runtime.tasks import Failure, Tasks

T = TypeVar("T")
P = ParamSpec("P")


class RuntimeConfig(msgspec.Struct, frozen=True):
    """Bounds of a runtime.

    Attributes:
        worker_threads: threads for calls that compute (`spawn_compute`).
        max_blocking_threads: threads for calls that wait (`spawn_blocking`).
        thread_stack_size: of each of these threads, `"64KiB"` to `"1GiB"`.
        queue: calls that may be queued before each kind of threads; who comes then waits.
        max_tasks, max_processes: at once.
        stall: the event loop may do one thing for so long, then what it does is reported.
        deadline: how long the end may take, where `shutdown` is not told.
    """

    worker_threads: int = 1
    max_blocking_threads: int = 16
    thread_stack_size: str = "1MiB"
    queue: int = 1024
    max_tasks: int = 10_000
    max_processes: int = 64
    stall: str = "1s"
    deadline: str = "5s"

    def __post_init__(self) -> None:
        for where, most in (("worker_threads", 256), ("max_blocking_threads", 1024), ("queue", 1_000_000)):
            if not 1 <= getattr(self, where) <= most:
                raise ConfigError(f"{getattr(self, where)} is out of range", where=where, allowed=f"1 to {most}")
        for where in ("max_tasks", "max_processes"):
            if getattr(self, where) < 1:
                raise ConfigError(f"{getattr(self, where)} is out of range", where=where, allowed="1 or more")
        check_stack(at_key("thread_stack_size", parse_size, self.thread_stack_size))
        if at_key("stall", parse_duration, self.stall) < 10_000:
            raise ConfigError("must be 10ms or more", where="stall")
        at_key("deadline", parse_duration, self.deadline)


class RuntimeFigures(msgspec.Struct, frozen=True):
    """How a runtime stands.

    Attributes:
        tasks, processes: that live. failed: tasks that ended with an error.
        blocking, compute: the two kinds of threads and their queues.
        lag_s: how late the event loop was at most, lately. stalls: times it was held up for longer than `stall`.
    """

    tasks: int
    failed: int
    processes: int
    blocking: PoolFigures
    compute: PoolFigures
    lag_s: float
    stalls: int


class EdgeRuntime:
    """Tasks, threads and child processes that belong together, on uvloop.

    `run` is for programs: it makes the event loop, runs one coroutine on it and ends all that was spawned. In a program that has a
    loop, `async with EdgeRuntime() as runtime` does the same for the length of a block.
    """

    def __init__(self, config: RuntimeConfig = RuntimeConfig(), *, clock: Clock | None = None) -> None:  # noqa: B008 - it is frozen
        self.config = config
        self._clock = clock or SystemClock()
        self._deadline = parse_duration(config.deadline) / 1e6
        self._open = self._used = False
        self._children: list[Child] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        stack = parse_size(config.thread_stack_size)
        self._tasks = Tasks(config.max_tasks, self._clock)
        self._blocking = BlockingPool(config.max_blocking_threads, config.queue, stack, "blocking")
        self._compute = BlockingPool(config.worker_threads, config.queue, stack, "compute")
        self._watch = LoopWatch(parse_duration(config.stall) / 1e6, self._clock.monotonic)

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end on a new uvloop loop, then end all that was spawned; what it answers or raises.

        SIGINT and SIGTERM cancel it: then this raises KeyboardInterrupt and `asyncio.CancelledError`.
        """
        return run_loop(self._main(main))

    async def _main(self, main: Coroutine[Any, Any, T]) -> T:
        async with self:
            task = self.spawn(main, "main")
            if threading.current_thread() is threading.main_thread():
                asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
            return await task

    async def __aenter__(self) -> Self:
        if self._used:
            raise UnavailableError("a runtime runs once", where="EdgeRuntime", mend="make another one")
        self._watch.start()
        self._open = self._used = True
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.shutdown()

    def _check(self, name: str) -> None:
        if not self._open:
            raise UnavailableError(
                "the runtime is not running", where=name, mend="use it inside `async with`, or from what `run` runs"
            )

    def spawn(self, work: Coroutine[Any, Any, T], name: str) -> "asyncio.Task[T]":
        """Start a task. Spawned from a task of this runtime it is that one's child, and ends with it.

        A failure is logged, kept in `failures`, and raised to who awaits the task. Raises `OverloadedError` over `max_tasks`,
        `UnavailableError` when the runtime is shut down.
        """
        if not self._open:
            work.close()
        self._check(name)
        return self._tasks.spawn(work, name)

    def supervise(self, make: Callable[[], Coroutine[Any, Any, None]], name: str) -> "asyncio.Task[None]":
        """Start a task that runs for ever: when what `make` gives ends or fails, it is started again, with back-off."""
        self._check(name)
        return self._tasks.supervise(make, name)

    async def spawn_blocking(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What a call that waits (files, sockets, other programs) answers, run in one of `max_blocking_threads` threads.

        Waits for a place where `queue` calls are queued. Cancelled before it begins it never runs; later it runs on, unheard.
        """
        self._check("spawn_blocking")
        return await self._blocking.run(call, *args, **kwargs)

    async def try_spawn_blocking(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `spawn_blocking`, but raise `OverloadedError` at once where the queue is full."""
        self._check("spawn_blocking")
        return await self._blocking.try_run(call, *args, **kwargs)

    async def spawn_compute(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `spawn_blocking`, for calls that compute and let other threads run meanwhile, in one of `worker_threads` threads."""
        self._check("spawn_compute")
        return await self._compute.run(call, *args, **kwargs)

    async def spawn_process(self, argv: Sequence[str], name: str, *, pipes: bool = False, memory_limit: int = 0) -> Child:
        """Start a child process. It dies with this process, and at `shutdown` it is asked to end (SIGTERM), then made to.

        Args:
            pipes: give it a stdin to write lines to and a stdout to read lines from. memory_limit: as in `ChildSpec`.

        Call it on the main thread's loop: the kernel ends the child when the thread that started it ends. Raises
        `UnavailableError` when the program cannot be run, `OverloadedError` over `max_processes`.
        """
        self._check(name)
        self._children = [child for child in self._children if child.running]
        if len(self._children) >= self.config.max_processes:
            raise OverloadedError(f"{self.config.max_processes} processes run already", where=name, mend="wait for one to end")
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="skerry-runtime-")
        child = Child(ChildSpec(name, argv, Path(self._folder.name), pipes=pipes, memory_limit=memory_limit))
        try:
            await child.start()
        except OSError as error:
            reason = error.strerror or str(error)
            raise UnavailableError(f"{argv[0]} cannot be run: {reason}", where=name, mend="mend the path") from error
        self._children.append(child)
        return child

    @property
    def failures(self) -> list[Failure]:
        """The last tasks that ended with an error, at most 64."""
        return list(self._tasks.failures)

    @property
    def stalls(self) -> list[Stall]:
        """The last times that the event loop was held up, with the stack that did it, at most 16."""
        return list(self._watch.stalls)

    @property
    def figures(self) -> RuntimeFigures:
        """How it stands now."""
        return RuntimeFigures(
            tasks=len(self._tasks),
            failed=self._tasks.failed,
            processes=sum(child.running for child in self._children),
            blocking=self._blocking.figures,
            compute=self._compute.figures,
            lag_s=self._watch.lag_s,
            stalls=self._watch.count,
        )

    async def shutdown(self, deadline: float | None = None) -> list[str]:
        """End all: tasks are cancelled, processes asked to end, queued calls run; what is not over after `deadline` seconds is
        left, or killed if it is a process. The names of what did not end by itself. A second call does nothing.
        """
        if not self._open:
            return []
        self._open = False
        until = self._clock.monotonic() + (self._deadline if deadline is None else deadline)

        def left() -> float:
            return max(0.0, until - self._clock.monotonic())

        for child in self._children:
            child.send(signal.SIGTERM)
        names = await self._tasks.close(left())
        for pool, name in ((self._blocking, "blocking"), (self._compute, "compute")):
            if running := await pool.close(left()):
                names.append(f"{running} {name} calls")
        names += await self._end_children(left)
        self._watch.stop()
        if self._folder is not None:
            self._folder.cleanup()
        return names

    async def _end_children(self, left: Callable[[], float]) -> list[str]:
        """Wait for the children as long as there is time, and kill those that are left; their names."""
        names = []
        for child in self._children:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left()):
                    await child.wait()
            if child.running:
                names.append(f"process {child.spec.name}")
                await child.kill()
        return names
