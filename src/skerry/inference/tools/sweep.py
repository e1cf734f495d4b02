"""How fast a model is: latency and throughput over batch sizes and threads, and the setting that a small shared box should use.

`python -m skerry.inference.tools.sweep` loads and times one model in a process of its own: its memory is then the model's alone.
"""

import gc
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from skerry.core.clock import Clock, SystemClock
from skerry.core.errors import RejectedError
from skerry.inference.engine.opening import open_session
from skerry.inference.engine.seam import EngineOptions, Session
from skerry.inference.tools.recorded import Feed, random_rows, take_rows

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
MOST_RUNS = 20_000
FEWEST_RUNS = 5
ENOUGH = 0.9  # of the best throughput: more threads or rows for the last tenth are not worth their cost to others
CHILD_TIMEOUT_S = 300.0


class Timing(msgspec.Struct, frozen=True):
    """Latency of runs in milliseconds, and rows per second."""

    runs: int
    p50_ms: float
    p99_ms: float
    rows_per_second: float


class Point(msgspec.Struct, frozen=True):
    """One setting of a sweep and what it gave."""

    threads: int
    batch: int
    timing: Timing


class Sweep(msgspec.Struct, frozen=True):
    """All settings that were tried, and the one to use.

    Attributes:
        inputs: where the rows came from: `recorded` or `random`.
        batching: empty, or why only one batch size was tried.
    """

    points: list[Point]
    recommended: Point
    inputs: str
    batching: str


class Cost(msgspec.Struct, frozen=True):
    """What a model costs in a process of its own: milliseconds to load, bytes of memory it adds, and its latency."""

    load_ms: float
    memory: int
    timing: Timing


def time_runs(session: Session, feed: Feed, seconds: float, clock: Clock | None = None) -> Timing:
    """Time runs of one feed for so many seconds, at least `FEWEST_RUNS`, at most `MOST_RUNS`; the first is not counted."""
    clock = clock or SystemClock()
    session.run(feed)
    took: list[float] = []
    started = before = clock.monotonic()
    while len(took) < FEWEST_RUNS or (before - started < seconds and len(took) < MOST_RUNS):
        session.run(feed)
        after = clock.monotonic()
        took.append(after - before)
        before = after
    return timing_of(took, rows_in(feed))


def timing_of(took: Sequence[float], rows: int) -> Timing:
    """The figures of runs of `rows` rows that took so many seconds each."""
    p50, p99 = np.percentile(np.array(took), [50, 99])
    total = sum(took)
    return Timing(len(took), float(p50) * 1e3, float(p99) * 1e3, rows * len(took) / total if total else 0.0)


def rows_in(feed: Mapping[str, NDArray[Any]]) -> int:
    """Rows of a feed; 1 where its inputs have none."""
    return next((len(array) for array in feed.values() if array.ndim), 1)


def fixed_batch(session: Session) -> int | None:
    """The batch that the model's inputs are fixed to; None where it is open; 1 where an input has no dimensions."""
    sizes = {each.shape[0] if each.shape else 1 for each in session.inputs}
    return next((size for size in sizes if size is not None), None) if sizes else 1


def recommend(points: Sequence[Point], max_latency_ms: float | None = None) -> Point:
    """The setting to use: of those whose p99 is within the bound and whose throughput is at least `ENOUGH` of the best of these,
    the one with the fewest threads, then the smallest batch. With no setting within the bound, the one of least latency."""
    within = [point for point in points if max_latency_ms is None or point.timing.p99_ms <= max_latency_ms]
    if not within:
        return min(points, key=lambda point: point.timing.p99_ms)
    best = max(point.timing.rows_per_second for point in within)
    good = [point for point in within if point.timing.rows_per_second >= ENOUGH * best]
    return min(good, key=lambda point: (point.threads, point.batch))


def default_threads() -> tuple[int, ...]:
    """1, 2, 4 … up to the cores that this process may use."""
    cores = len(os.sched_getaffinity(0))
    return tuple(dict.fromkeys([each for each in (1, 2, 4, 8, 16) if each < cores] + [min(cores, 256)]))


def bench_model(
    path: Path,
    *,
    batches: Sequence[int] = BATCHES,
    threads: Sequence[int] = (),
    seconds: float = 10.0,
    data: Feed | None = None,
    options: EngineOptions = EngineOptions(),  # noqa: B008 - the struct is frozen
    max_latency_ms: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Sweep:
    """Measure a model file over batch sizes and threads.

    Args:
        seconds: of measuring, shared by all settings.
        data: recorded rows; else made-up ones.
        progress: called with settings done and in all.

    Raises `RejectedError` when it does not load or run.
    """
    counts = list(dict.fromkeys(threads or default_threads()))
    points: list[Point] = []
    batching = ""
    for at, count in enumerate(counts):
        session = open_session(path, msgspec.structs.replace(options, threads=count))
        try:
            fixed = fixed_batch(session)
            sizes = [fixed] if fixed is not None else list(dict.fromkeys(batches))
            batching = f"the model's batch is fixed at {fixed}" if fixed is not None else ""
            rows = data if data is not None else random_rows(session, max(sizes) if fixed is None else fixed)
            for number, size in enumerate(sizes):
                feed = take_rows(rows, 0, size) if rows and all(array.ndim for array in rows.values()) else rows
                timing = time_runs(session, feed, seconds / (len(counts) * len(sizes)))
                points.append(Point(count, size, timing))
                if progress:
                    progress(at * len(sizes) + number + 1, len(counts) * len(sizes))
        finally:
            session.close()
    return Sweep(points, recommend(points, max_latency_ms), "random" if data is None else "recorded", batching)


def plot_sweep(found: Sweep, title: str, to: Path) -> None:
    """Draw latency and throughput over the batch size, a line per number of threads. Raises `RejectedError` without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise RejectedError("a plot needs matplotlib", where=str(to), mend="pip install matplotlib") from error
    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for count in dict.fromkeys(point.threads for point in found.points):
        line = [point for point in found.points if point.threads == count]
        sizes = [point.batch for point in line]
        named = f"{count} thread{'s' if count > 1 else ''}"
        drawn = left.plot(sizes, [point.timing.p50_ms for point in line], marker="o", label=f"{named}, p50")
        left.plot(sizes, [point.timing.p99_ms for point in line], linestyle=":", color=drawn[0].get_color(), label=f"{named}, p99")
        right.plot(sizes, [point.timing.rows_per_second for point in line], marker="o", label=named)
    chosen = found.recommended
    right.plot(
        [chosen.batch], [chosen.timing.rows_per_second], "s", markersize=12, fillstyle="none", color="black", label="recommended"
    )
    for axes, name in ((left, "latency of a run, ms"), (right, "rows per second")):
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xlabel("batch size, rows")
        axes.set_ylabel(name)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(title)
    try:
        figure.savefig(to, dpi=120)
    except (OSError, ValueError) as error:
        raise RejectedError(
            f"the plot cannot be written: {error}", where=str(to), mend="name a .png, .svg or .pdf in a directory that exists"
        ) from error


class Question(msgspec.Struct):
    """What the child is to load and time."""

    path: str
    options: EngineOptions
    batch: int
    seconds: float


def cost_of(path: Path, options: EngineOptions, batch: int = 1, seconds: float = 1.0) -> Cost:
    """Load and time a model in a child process. Raises `RejectedError` when it does not load, run or end, or ends the child."""
    question = msgspec.json.encode(Question(str(path.resolve()), options, batch, seconds))
    try:
        child = subprocess.run(
            [sys.executable, "-m", "skerry.inference.tools.sweep"],
            input=question,
            capture_output=True,
            timeout=CHILD_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise RejectedError(f"the model did not load and run within {CHILD_TIMEOUT_S:.0f} s", where=str(path)) from error
    if child.returncode == 1 and child.stdout:
        raise RejectedError(child.stdout.decode())
    if child.returncode:
        ended = f"signal {-child.returncode}" if child.returncode < 0 else f"code {child.returncode}"
        raise RejectedError(f"the model ended the process that loaded it ({ended})", where=str(path), mend="do not use it")
    return msgspec.json.decode(child.stdout, type=Cost)


def _resident() -> int:
    """Resident bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _answer(question: Question) -> Cost:
    """Load and time the model here."""
    import onnxruntime  # the engine's own weight and start are not the model's

    onnxruntime.get_available_providers()
    clock = SystemClock()
    gc.collect()
    before, started = _resident(), clock.monotonic()
    session = open_session(Path(question.path), question.options)
    load_ms = (clock.monotonic() - started) * 1e3
    fixed = fixed_batch(session)
    feed = random_rows(session, question.batch if fixed is None else fixed)
    timing = time_runs(session, feed, question.seconds, clock)
    return Cost(load_ms, max(0, _resident() - before), timing)


def main() -> int:
    """A `Question` in JSON on stdin; a `Cost` in JSON on stdout, or a sentence and exit code 1."""
    try:
        answer = _answer(msgspec.json.decode(sys.stdin.buffer.read(), type=Question))
    except RejectedError as error:
        sys.stdout.write(str(error))
        return 1
    sys.stdout.buffer.write(msgspec.json.encode(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
