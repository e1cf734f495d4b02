"""When a node is short of what it runs on, and who is degraded then, a step at a time, and comes back. Pure.

Hysteresis: a step is taken after pressure has lasted for a while, and taken back after calm has lasted for longer; between the two
nothing changes. A step that pressure follows within that time of its being taken back waits twice as long the next time.
"""

from collections.abc import Mapping, Sequence

import msgspec

MOST_PATIENCE = 16
"""Times as long as configured that a step stays at most."""


class Bounds(msgspec.Struct, frozen=True):
    """From where on there is pressure, and under what there is calm; memory and CPU as shares of their limits.

    Attributes:
        lag: messages that have waited for one pipeline for a while and do not become fewer; under half of it there is calm.
        shed_after, recover_after: seconds that pressure, or calm, lasts before a step is taken, or taken back.
    """

    memory: float = 0.90
    memory_calm: float = 0.80
    cpu: float = 0.95
    cpu_calm: float = 0.75
    lag: int = 10_000
    shed_after: float = 10.0
    recover_after: float = 60.0


class Reading(msgspec.Struct, frozen=True):
    """How it stands at one moment: shares of the limits (0 where there is none), and what waits for each pipeline that runs."""

    memory: float = 0.0
    cpu: float = 0.0
    lags: Mapping[str, int] = {}


class Verdict(msgspec.Struct, frozen=True):
    """Why there is pressure, empty where there is none; and whether there is calm."""

    because: str = ""
    calm: bool = False


def judge(bounds: Bounds, before: Reading, now: Reading) -> Verdict:
    """What a reading means after the one before it: a backlog that became smaller by a twentieth is neither pressure nor calm."""
    if now.memory >= bounds.memory:
        return Verdict(f"memory is at {now.memory:.0%} of its limit")
    for name, lag in now.lags.items():
        if lag > bounds.lag and lag > 0.95 * before.lags.get(name, 0):
            return Verdict(f"{lag:,} messages wait for {name}")
    if now.cpu >= bounds.cpu:
        return Verdict(f"CPU is at {now.cpu:.0%} of its limit")
    quiet = all(lag <= bounds.lag / 2 for lag in now.lags.values())
    return Verdict(calm=quiet and now.memory < bounds.memory_calm and now.cpu < bounds.cpu_calm)


class Candidate(msgspec.Struct, frozen=True):
    """One that can be degraded by so many steps."""

    name: str
    priority: int
    steps: int


class Move(msgspec.Struct, frozen=True):
    """One step: from now on `name` goes without its first `level` steps. `because` is empty where one is taken back."""

    name: str
    level: int
    because: str = ""


class Shedding(msgspec.Struct):
    """Who is degraded by how many steps, and since when there is pressure or calm; times in seconds."""

    levels: dict[str, int] = {}
    hot_since: float | None = None
    calm_since: float | None = None
    recovered_at: float | None = None
    patience: int = 1

    def step(self, bounds: Bounds, verdict: Verdict, candidates: Sequence[Candidate], now: float) -> Move | None:
        """Take the time on, and at most one step: down the lowest priority (of one the last) that has one left, back up the
        highest that is degraded."""
        steps = {each.name: each.steps for each in candidates}
        self.levels = {name: min(level, steps[name]) for name, level in self.levels.items() if steps.get(name)}
        self.hot_since = (now if self.hot_since is None else self.hot_since) if verdict.because else None
        self.calm_since = (now if self.calm_since is None else self.calm_since) if verdict.calm else None
        order = sorted(candidates, key=lambda each: -each.priority)
        if self.hot_since is not None and now - self.hot_since >= bounds.shed_after:
            return self._down(bounds, order, verdict.because, now)
        if self.calm_since is not None and now - self.calm_since >= self.patience * bounds.recover_after:
            return self._up(order, now)
        return None

    def _down(self, bounds: Bounds, order: Sequence[Candidate], because: str, now: float) -> Move | None:
        for each in reversed(order):
            level = self.levels.get(each.name, 0)
            if level < each.steps:
                early = self.recovered_at is not None and now - self.recovered_at < self.patience * bounds.recover_after
                self.patience = min(MOST_PATIENCE, 2 * self.patience) if early else self.patience
                self.hot_since, self.recovered_at, self.levels[each.name] = now, None, level + 1
                return Move(each.name, level + 1, because)
        return None

    def _up(self, order: Sequence[Candidate], now: float) -> Move | None:
        for each in order:
            level = self.levels.pop(each.name, 0)
            if level:
                self.calm_since = self.recovered_at = now
                if level > 1:
                    self.levels[each.name] = level - 1
                return Move(each.name, level - 1)
        self.patience = 1  # calm for that long, and nobody is degraded
        return None
