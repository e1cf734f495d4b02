"""Simulated load of computers with 1 to 64 cores, and the truth: what the computer's model learns from. Pure."""

from collections.abc import Iterator
from random import Random

import msgspec

from skerry.demo.computer import OVERLOAD
from skerry.demo.faults import NORMAL

CORES: tuple[int, ...] = (1, 2, 4, 6, 8, 12, 16, 32, 64)
PERIOD_S = 0.1
_TICK_S = 0.01
# mean and spread of the share of busy CPU time, %, and how often each comes
_STATES: dict[str, tuple[float, float, float]] = {
    "idle": (3.0, 6.0, 0.25),
    "light": (6.0, 30.0, 0.25),
    "moderate": (30.0, 62.0, 0.2),
    "busy": (62.0, 76.0, 0.1),
    "overload": (91.0, 100.0, 0.2),
}


class LoadSample(msgspec.Struct, frozen=True):
    """One reading of a simulated computer and whether it was overloaded at that time."""

    values: dict[str, float]
    label: str


def workload(seed: int, cores: int, samples: int) -> Iterator[LoadSample]:
    """Ten readings a second of a computer that changes between idle, light, moderate, busy and overloaded.

    CPU time is counted in ticks of 10 ms for each core, as kernels do, so that few cores give coarse readings; now and
    then a short burst fills the cores for one to three readings, which is no overload. Memory, disk and network go
    their own ways: they must not decide.
    """
    draw = Random(f"{seed}:{cores}")
    state, level, left, burst, cpu = "idle", 3.0, 0, 0, 3.0
    memory, disk_level, net_level = 50.0, 0.0, 0.0
    for _ in range(samples):
        if left == 0:
            state, level = _next_state(draw)
            left = draw.randint(15, 80)
            memory = draw.uniform(2.0, 99.0)
            disk_level, net_level = _flow(draw), _flow(draw)
        left -= 1
        if burst == 0 and state != "overload" and draw.random() < 0.01:
            burst = draw.randint(1, 3)
        wanted = 100.0 if burst else level
        burst -= burst > 0
        cpu += (min(100.0, max(0.0, wanted + draw.gauss(0.0, 3.0))) - cpu) * 0.9
        memory = min(99.9, max(1.0, memory + draw.gauss(0.0, 0.05)))
        values = {
            "cpu": _counted(draw, cpu, cores),
            "memory": memory,
            "disk": max(0.0, disk_level * draw.lognormvariate(0.0, 0.8)) if draw.random() < 0.7 else 0.0,
            "network": max(0.0, net_level * draw.lognormvariate(0.0, 0.6)) + draw.random() * 0.01,
        }
        yield LoadSample(values, OVERLOAD if state == "overload" else NORMAL)


def _next_state(draw: Random) -> tuple[str, float]:
    names = list(_STATES)
    state = draw.choices(names, [_STATES[name][2] for name in names])[0]
    low, high, _ = _STATES[state]
    return state, draw.uniform(low, high)


def _flow(draw: Random) -> float:
    """MiB/s of a disk or a network for a while: often none, else anything from a trickle to the fastest there is."""
    return 0.0 if draw.random() < 0.3 else 10.0 ** draw.uniform(-2.0, 3.5)


def _counted(draw: Random, cpu: float, cores: int) -> float:
    """The share as ticks show it: busy ticks over all ticks of the period."""
    ticks = cores * PERIOD_S / _TICK_S
    return min(100.0, 100.0 * int(cpu / 100.0 * ticks + draw.random()) / ticks)
