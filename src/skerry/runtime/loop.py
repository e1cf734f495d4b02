"""The event loop of every process of the node: uvloop."""

from collections.abc import Coroutine
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")


def run_loop(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on a new uvloop loop, as `asyncio.run` does."""
    return uvloop.run(main)
