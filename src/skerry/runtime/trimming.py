"""Memory that a flood took for a while goes back to the system: the C library keeps what was freed, and more with each flood."""

import asyncio

from skerry.runtime.own_memory import resident, trim

EVERY_S, SELDOM_S = 5.0, 300.0
MORE = 32 * 1024 * 1024


class Growth:
    """When a process should be trimmed: when it has grown, and again later, since what was in use then may be free now. Pure.

    Args:
        more: bytes above the least that it ever had.
        every: seconds until it is tried again; twice as many each time that there was no more and it was of no use, up to `seldom`.
    """

    def __init__(self, more: int, every: float, seldom: float) -> None:
        self._more = more
        self._every = self._wait = every
        self._seldom = seldom
        self._least: int | None = None
        self._left = 0
        self._again = 0.0

    def is_much(self, size: int, now: float) -> bool:
        """Told what the process has now (`now` in seconds); True: trim it, and say with `trimmed` what came of it."""
        self._least = size if self._least is None else min(self._least, size)
        if size <= self._least + self._more:
            return False
        return size > self._left + self._more or now >= self._again

    def trimmed(self, before: int, left: int, now: float) -> None:
        """The sizes before and after."""
        news = before > self._left + self._more or before - left > self._more // 2
        self._wait = self._every if news else min(self._seldom, 2 * self._wait)
        self._left, self._again = left, now + self._wait


async def keep_trimmed(every: float = EVERY_S, more: int = MORE, seldom: float = SELDOM_S) -> None:
    """Trim this process when it has grown, until cancelled; in a thread, since it takes some milliseconds."""
    growth, loop = Growth(more, every, seldom), asyncio.get_running_loop()
    while True:
        size = resident()
        if growth.is_much(size, loop.time()):
            await asyncio.to_thread(trim)
            growth.trimmed(size, resident(), loop.time())
        await asyncio.sleep(every)
