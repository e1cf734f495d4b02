"""Whether a version that has just been activated may stay: pure, on counts that workers report."""

import msgspec

NOISE_S = 0.0005
"""Runs shorter than this are never too slow: on a shared box their ratio is noise."""
ENOUGH_RUNS = 20
"""Runs of a version before its speed is judged: the first ones are slower on any engine."""
PROBATION_S = 60.0
"""How long after its activation a version is watched."""
MOST_DEATHS = 2
"""Deaths of workers during probation that are put down to the version."""


class Counts(msgspec.Struct):
    """What one version did.

    Attributes:
        errors: runs that failed.
        nan: scores that were not a number although their row was.
        seconds: time in runs.
    """

    runs: int = 0
    rows: int = 0
    errors: int = 0
    nan: int = 0
    seconds: float = 0.0

    @property
    def per_row(self) -> float | None:
        """Mean seconds a row, None before there is one."""
        return self.seconds / self.rows if self.rows else None

    @property
    def rows_a_run(self) -> float:
        return self.rows / self.runs if self.runs else 0.0


class Verdict(msgspec.Struct, frozen=True):
    """`roll_back` with the sentence why; `settled` when the version needs no more watching."""

    roll_back: bool
    reason: str = ""
    settled: bool = False


def decide(
    now: Counts, before: Counts, *, max_slowdown: float = 3.0, elapsed: float = 0.0, deaths: int = 0, failure: str = ""
) -> Verdict:
    """Judge a version by what it did since its activation.

    Args:
        now, before: counts of the version since its activation, and of the one it replaced.
        max_slowdown: the version may take so many times the seconds a row of the one before.
        elapsed: seconds since the activation.
        deaths: workers that died since.
        failure: why a worker could not load or try it, where one said so.
    """
    if failure:
        return Verdict(True, f"it failed its trial: {failure}", True)
    if deaths >= MOST_DEATHS:
        return Verdict(True, f"workers died {deaths} times since it was activated", True)
    if now.errors and _share(now.errors, now.runs) > 2 * _share(before.errors, before.runs):
        return Verdict(True, f"{now.errors} of its {max(now.runs, now.errors)} runs failed", True)
    if now.nan and _share(now.nan, now.rows) > 2 * _share(before.nan, before.rows):
        return Verdict(True, f"{now.nan} of its {now.rows} scores are not a number", True)
    slow = too_slow(now, before, max_slowdown)
    if slow:
        return Verdict(True, slow, True)
    return Verdict(False, "", elapsed >= PROBATION_S)


def too_slow(now: Counts, before: Counts, max_slowdown: float) -> str:
    """The sentence why a version is too slow, or nothing.

    Compared only where both had about the same batches: a run costs something whatever its rows are.
    """
    if min(now.runs, before.runs) < ENOUGH_RUNS or not now.per_row or not before.per_row:
        return ""
    if now.seconds / now.runs < NOISE_S or not 0.5 <= now.rows_a_run / before.rows_a_run <= 2:
        return ""
    ratio = now.per_row / before.per_row
    if ratio <= max_slowdown:
        return ""
    return slowness(now.per_row, before.per_row, max_slowdown)


def slowness(now: float, before: float, max_slowdown: float) -> str:
    """The sentence about two times a row, in seconds."""
    return f"it takes {now * 1e6:.0f} µs a row, {now / before:.1f} times the version before, allowed are {max_slowdown:g} times"


def _share(part: int, whole: int) -> float:
    return part / max(whole, part) if part else 0.0
