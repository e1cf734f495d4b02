"""The demonstration: devices that are real or simulated, a node that scores them, and how well it does."""

from skerry.demo.run import Demo, DemoOptions, DemoState

__all__ = ["Demo", "DemoOptions", "DemoState"]
