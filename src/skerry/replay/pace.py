"""Reading from a node that works: after each page as long a rest as the page took, so that at most half of a core is asked for."""

import time
from collections.abc import Iterator
from typing import TypeVar

from skerry.core.clock import Clock, SystemClock

T = TypeVar("T")
MOST_REST_S = 1.0


def gently(pages: Iterator[T], clock: Clock | None = None) -> Iterator[T]:
    """The same pages, with the rests."""
    clock = clock or SystemClock()
    while True:
        began = clock.monotonic()
        try:
            page = next(pages)
        except StopIteration:
            return
        time.sleep(min(MOST_REST_S, max(0.0, clock.monotonic() - began)))
        yield page
