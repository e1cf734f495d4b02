"""The demo's scenarios for the soak: all of them, again and again; each promise has to be kept each time."""

import asyncio
import time
from collections import Counter

from skerry.demo import SCENARIOS, play


def scenarios(minutes: float) -> str:
    """Play them in turn until the time is over; how often each was kept. Raises `AssertionError` at the first that was not."""
    end, kept = time.monotonic() + minutes * 60, Counter[str]()
    while not kept or time.monotonic() < end:
        for name, scenario in SCENARIOS.items():
            outcome = asyncio.run(play(name, scenario, lambda line: None))
            assert outcome.kept, (name, outcome.broken, [line.text for line in outcome.told])
            kept[name] += 1
    return "\n".join(f"{name:>42} {count:>10}" for name, count in kept.items())
