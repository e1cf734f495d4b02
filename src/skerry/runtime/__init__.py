"""Processes, their event loop, and the readings of this computer."""

from skerry.runtime.children import Child, ChildSpec, Exit, cpu_seconds_of, end_left_over, left_over, memory_of
from skerry.runtime.lock import DirectoryLock
from skerry.runtime.loop import run_loop
from skerry.runtime.readings import ComputerReadings

__all__ = [
    "Child", "ChildSpec", "ComputerReadings", "DirectoryLock", "Exit", "cpu_seconds_of", "end_left_over", "left_over",
    "memory_of", "run_loop",
]  # fmt: skip
