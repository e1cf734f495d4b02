"""The event loop of every process of the node: uvloop, and what keeps threads and the garbage collector from holding it up."""

import gc
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

import uvloop

SWITCH_S = 0.0002  # a thread beside the loop lets it go on after so long; by default it is 5 ms, and each turn may wait for that
T = TypeVar("T")


def run_loop(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on a new uvloop loop, as `asyncio.run` does."""
    sys.setswitchinterval(SWITCH_S)
    return uvloop.run(main)


def settle() -> None:
    """What is loaded by now stays for good: the garbage collector need not look through it again.

    A full collection over the modules of an agent takes some 40 ms, in which nothing is answered. Call it once, when a process is
    ready; what is let go later is freed all the same, unless it lies in a cycle.
    """
    gc.collect()
    gc.freeze()
