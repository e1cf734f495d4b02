"""The recorded runs, and the windows that the pipeline makes of them."""

import csv
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from skab_features import SENSORS, Floats, Ints, features

SIZE_S = 600
"""Length of the sliding window, as in skerry.toml; it slides by one second."""
CHUNK = 200
"""Windows whose features are computed at once: bounds the memory."""


class Run(NamedTuple):
    """One recording.

    Attributes:
        name: folder and file, such as `valve1-0`: the device's name in the pipeline.
        times: `[n]`, Unix seconds (the recordings' local time is taken for UTC), strictly rising.
        rows: `[n, 8]`, columns as in `SENSORS`.
        faulty: `[n]`, the labels.
    """

    name: str
    times: Ints
    rows: Floats
    faulty: NDArray[np.bool_]

    def without_start(self, rows: int) -> "Run":
        """The same run as if the recording had begun so many rows later."""
        return Run(self.name, self.times[rows:], self.rows[rows:], self.faulty[rows:])


def read_runs(directory: Path) -> list[Run]:
    """Every labelled run below a directory, in the order of their names. Raises `SystemExit` when there is none."""
    runs = [run for path in sorted(directory.rglob("*.csv")) if (run := _read_run(path)) is not None]
    if not runs:
        raise SystemExit(f"no labelled runs below {directory}: the files are <group>/<run>.csv with a column `anomaly`")
    return runs


def _read_run(path: Path) -> Run | None:
    with path.open(newline="", encoding="utf-8") as file:
        table = csv.DictReader(file, delimiter=";")
        names = set(table.fieldnames or ())
        if "anomaly" not in names:
            return None
        missing = {"datetime", *SENSORS} - names
        if missing:
            raise SystemExit(f"{path}: no column {', '.join(sorted(missing))}")
        lines = list(table)
    times = [int(datetime.fromisoformat(line["datetime"]).replace(tzinfo=UTC).timestamp()) for line in lines]
    run = Run(
        f"{path.parent.name}-{path.stem}",
        np.array(times, np.int64),
        np.array([[float(line[sensor]) for sensor in SENSORS] for line in lines]),
        np.array([float(line["anomaly"]) > 0.5 for line in lines]),
    )
    if np.any(np.diff(run.times) <= 0):
        raise SystemExit(f"{path}: the times do not rise from row to row")
    return run


class Windows(NamedTuple):
    """The windows of a run up to its last row, in order.

    Attributes:
        rows: `[w, F]` float32, the features of each, as the model takes them.
        newest: `[n]`, for each row of the run the window that ends with its second: the one whose verdict is the row's.
    """

    rows: NDArray[np.float32]
    newest: Ints


def windows(run: Run) -> Windows:
    """Sliding windows `[end - 600 s, end)` for every whole second `end`, also for seconds in which no row came."""
    ends = np.arange(run.times[0] + 1, run.times[-1] + 2)
    first = np.searchsorted(run.times, ends - SIZE_S)
    last = np.searchsorted(run.times, ends)
    held = last > first
    parts = [
        _features(run.rows, first[held][at : at + CHUNK], last[held][at : at + CHUNK]) for at in range(0, int(held.sum()), CHUNK)
    ]
    place = np.cumsum(held) - 1
    return Windows(np.vstack(parts).astype(np.float32), place[run.times - run.times[0]])


def _features(rows: Floats, first: Ints, last: Ints) -> Floats:
    offsets = np.concatenate([[0], np.cumsum(last - first)]).astype(np.int64)
    return features(np.vstack([rows[a:b] for a, b in zip(first, last, strict=True)]), offsets)


def write_rows(runs: Iterable[Run], path: Path) -> int:
    """Write runs as `skerry pipeline test` reads them: device, time, values. Answers the number of rows."""
    count = 0
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(["device", "time", *SENSORS])
        for line in _lines(runs):
            out.writerow(line)
            count += 1
    return count


def _lines(runs: Iterable[Run]) -> Iterator[list[str]]:
    for run in runs:
        for time, row in zip(run.times.tolist(), run.rows.tolist(), strict=True):
            yield [run.name, datetime.fromtimestamp(time, UTC).isoformat(), *map(repr, row)]
