"""Windows by their definition: all samples sorted, each window looked for among them; slow, and written unlike the real ones."""

from fractions import Fraction
from typing import NamedTuple


class Sample(NamedTuple):
    """One sample of one message: event time in microseconds, its value, and whether it stands for its message."""

    time: int
    value: float
    first: bool = True


class Window(NamedTuple):
    """What a closed window must be: bounds, rows in order of time (ties in order of arrival), messages that leave with it."""

    start: int
    end: int
    rows: list[tuple[int, float]]


def aligned_windows(time: int, size: int, every: int) -> list[tuple[int, int]]:
    """All `[start, end)` with start a multiple of `every` that hold a time, earliest first."""
    latest = int(Fraction(time, every).__floor__()) * every
    starts = range(latest, latest - size - every, -every)
    return sorted((start, start + size) for start in starts if start <= time < start + size)


def by_time(samples: list[Sample]) -> list[tuple[int, float]]:
    return [(sample.time, sample.value) for sample in sorted(samples, key=lambda sample: sample.time)]


def cut_time(samples: list[Sample], size: int, every: int) -> list[Window]:
    """All tumbling or sliding windows that hold a sample, in order of time."""
    bounds = sorted({window for sample in samples for window in aligned_windows(sample.time, size, every)})
    return [Window(a, b, by_time([sample for sample in samples if a <= sample.time < b])) for a, b in bounds]


def cut_sessions(samples: list[Sample], gap: int) -> list[Window]:
    """Runs of samples less than `gap` apart."""
    runs: list[list[Sample]] = []
    for sample in sorted(samples, key=lambda sample: sample.time):
        if runs and sample.time - runs[-1][-1].time < gap:
            runs[-1].append(sample)
        else:
            runs.append([sample])
    return [Window(run[0].time, run[-1].time + gap, by_time(run)) for run in runs]


def cut_counts(samples: list[Sample], size: int, step: int) -> list[Window]:
    """Every `step`-th run of `size` samples in order of arrival; bounded by its first and last time."""
    found = []
    for begin in range(0, len(samples) - size + 1, step):
        part = samples[begin : begin + size]
        times = [sample.time for sample in part]
        found.append(Window(min(times), max(times), [(sample.time, sample.value) for sample in part]))
    return found
