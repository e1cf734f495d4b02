"""Whether a bundle that was switched to may stay: what the node was before, what it is now, and how long ago. Pure."""

from typing import Literal

import msgspec

UP = ("running", "paused", "degraded", "elsewhere")
"""`elsewhere`: other nodes of the cluster run all of it, and theirs is the word on it."""
DOWN = ("failed", "quarantined", "stopped")
Phase = Literal["coming up", "on probation"]


class Marks(msgspec.Struct, frozen=True):
    """What a node shows of itself that a bundle may make worse.

    Attributes:
        states: of the bundle's pipelines: state, and why it is not running.
        dead: dead letters of each pipeline since ever, without those that were only late.
        faults: runs of the bundle's models that failed, and answers that are not numbers, since the workers started.
        deaths: of workers. restarts: of the process of the connectors.
        room: how many further dead letters are let pass.
    """

    states: dict[str, tuple[str, str]] = {}
    dead: dict[str, int] = {}
    faults: dict[str, int] = {}
    deaths: int = 0
    restarts: int = 0
    room: int = 0


class Verdict(msgspec.Struct, frozen=True):
    """`wait`, `up` (all pipelines run), `keep`, or `back` with the reason."""

    what: Literal["wait", "up", "keep", "back"]
    reason: str = ""


def judge(before: Marks, now: Marks, phase: Phase, elapsed: int, bound: int) -> Verdict:
    """What to do next.

    Args:
        before: what the node showed before the switch; a pipeline that it did not have had no dead letters.
        elapsed, bound: microseconds in this phase, and how many it may take or has to last.
    """
    worse = _worse(before, now)
    if worse:
        return Verdict("back", worse)
    waiting = {name: why or state for name, (state, why) in now.states.items() if state not in UP}
    if phase == "coming up":
        if not waiting:
            return Verdict("up")
        if elapsed >= bound:
            name, why = next(iter(sorted(waiting.items())))
            return Verdict("back", f"pipeline {name} did not come up within {bound / 1e6:g} s: {why}")
        return Verdict("wait")
    return Verdict("keep") if elapsed >= bound and not waiting else Verdict("wait")


def _worse(before: Marks, now: Marks) -> str:
    for name, (state, why) in sorted(now.states.items()):
        if state in DOWN:
            return f"pipeline {name}: {why or state}"
    if now.deaths > before.deaths:
        return f"{now.deaths - before.deaths} workers were started again"
    if now.restarts > before.restarts:
        return "the process of the connectors was started again"
    for name, faults in sorted(now.faults.items()):
        if faults > before.faults.get(name, 0):
            return f"model {name} failed, or answered what is no number, {faults - before.faults.get(name, 0)} times"
    fresh = {name: count - before.dead.get(name, 0) for name, count in now.dead.items() if count > before.dead.get(name, 0)}
    if sum(fresh.values()) > before.room:
        return f"new dead letters: {', '.join(f'{count} of pipeline {name}' for name, count in sorted(fresh.items()))}"
    return ""
