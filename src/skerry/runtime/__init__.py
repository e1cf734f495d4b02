"""Processes, their event loop, and the readings of this computer."""

from typing import TYPE_CHECKING

from skerry.core.lazy import lazy

if TYPE_CHECKING:
    from skerry.runtime.children import Child, ChildSpec, Exit, cpu_seconds_of, end_left_over, left_over, memory_of
    from skerry.runtime.lock import DirectoryLock
    from skerry.runtime.loop import run_loop
    from skerry.runtime.ports import can_listen, free_ports, listener_of
    from skerry.runtime.readings import ComputerReadings

__getattr__ = lazy(
    __name__,
    {
        "Child": "children",
        "ChildSpec": "children",
        "ComputerReadings": "readings",
        "DirectoryLock": "lock",
        "Exit": "children",
        "can_listen": "ports",
        "cpu_seconds_of": "children",
        "end_left_over": "children",
        "free_ports": "ports",
        "left_over": "children",
        "listener_of": "ports",
        "memory_of": "children",
        "run_loop": "loop",
    },
)

__all__ = [
    "Child", "ChildSpec", "ComputerReadings", "DirectoryLock", "Exit", "can_listen", "cpu_seconds_of", "end_left_over",
    "free_ports", "left_over", "listener_of", "memory_of", "run_loop",
]  # fmt: skip
