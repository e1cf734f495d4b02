"""The demonstration: devices that are real or simulated, a node that scores them, and how well it does."""

from skerry.demo.run import Demo, DemoOptions, DemoState
from skerry.demo.scenarios import SCENARIOS, Outcome, Told, play

__all__ = ["SCENARIOS", "Demo", "DemoOptions", "DemoState", "Outcome", "Told", "play"]
