"""A tree of named tasks: a task ends after all that it spawned, what cancels it cancels them, and no failure is lost."""

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import msgspec

from skerry.core import log
from skerry.core.clock import Clock
from skerry.core.errors import OverloadedError, UnavailableError
from skerry.core.service import supervise

T = TypeVar("T")
Task = asyncio.Task[Any]
KEPT = 64
_log = log.get("runtime")


class Failure(msgspec.Struct, frozen=True):
    """A task that ended with an error: its name, and the error's kind and words."""

    name: str
    kind: str
    message: str


class Tasks:
    """The tasks of one runtime.

    A task that is spawned by a task of the tree is its child. A parent that returns is done when its children are; one that fails
    or is cancelled cancels them and waits for their ends. A child's failure is its own: it is logged, kept in `failures` and
    raised to who awaits the child.

    Args:
        most: tasks at once.
    """

    def __init__(self, most: int, clock: Clock) -> None:
        self.failures: deque[Failure] = deque(maxlen=KEPT)
        self.failed = 0
        self._most = most
        self._clock = clock
        self._children: dict[Task | None, set[Task]] = {None: set()}
        self._since: dict[Task, float] = {}
        self._closed = False
        self._parent: contextvars.ContextVar[Task | None] = contextvars.ContextVar("parent", default=None)

    def __len__(self) -> int:
        return len(self._since)

    def names(self) -> dict[str, float]:
        """The tasks that live, and for how many seconds."""
        now = self._clock.monotonic()
        return {task.get_name(): now - since for task, since in self._since.items()}

    def spawn(self, work: Coroutine[Any, Any, T], name: str) -> "asyncio.Task[T]":
        """Start a task, a child of the one that calls this. Its name has its parent's before it.

        Raises `OverloadedError` when there are too many, `UnavailableError` after `close`; the coroutine is closed then.
        """
        if self._closed or len(self._since) >= self._most:
            work.close()
            if self._closed:
                raise UnavailableError("the runtime is shut down", where=name)
            raise OverloadedError(f"{self._most} tasks run already", where=name, mend="wait for some to end")
        parent = self._parent.get()
        parent = parent if parent in self._children else None
        path = name if parent is None else f"{parent.get_name()}/{name}"
        task = asyncio.get_running_loop().create_task(self._live(work), name=path)
        self._children[task] = set()
        self._children[parent].add(task)
        self._since[task] = self._clock.monotonic()
        task.add_done_callback(lambda ended: self._ended(ended, work, parent))
        return task

    def supervise(self, make: Callable[[], Coroutine[Any, Any, None]], name: str) -> "asyncio.Task[None]":
        """Start a task that is to run for ever: when it ends or fails it is started again, with back-off, and why is logged."""
        return self.spawn(supervise(make, name, self._clock, _log), name)

    async def _live(self, work: Coroutine[Any, Any, T]) -> T:
        own = asyncio.current_task()
        assert own is not None
        self._parent.set(own)
        try:
            answer = await work
            while children := self._children[own]:
                await asyncio.wait(children)
        except BaseException:
            await self._end(self._children[own])
            raise
        return answer

    async def _end(self, tasks: set[Task]) -> None:
        """Cancel tasks and wait for their ends, also when cancelled again meanwhile."""
        while live := [task for task in tasks if not task.done()]:
            for task in live:
                task.cancel()
            try:
                await asyncio.wait(live)
            except asyncio.CancelledError:
                continue

    def _ended(self, task: Task, work: Coroutine[Any, Any, Any], parent: Task | None) -> None:
        work.close()  # it has not begun where it was cancelled at once
        self._since.pop(task, None)
        del self._children[task]
        if parent in self._children:
            self._children[parent].discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self.failed += 1
            self.failures.append(Failure(task.get_name(), type(error).__name__, str(error)))
            _log.error(f"task {task.get_name()} failed: {str(error) or type(error).__name__}", kind=type(error).__name__)

    async def close(self, seconds: float) -> list[str]:
        """Spawn no more, cancel all, and wait so long for their ends. The names of those that did not end."""
        self._closed = True
        roots = set(self._children[None])
        for task in roots:
            task.cancel()
        if roots:
            await asyncio.wait(roots, timeout=max(0.0, seconds))
        return sorted(task.get_name() for task in self._since if not task.done())
