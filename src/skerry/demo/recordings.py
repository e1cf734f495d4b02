"""Recordings of a pump rig on disk, replayed as if they were live, with the truth from their labels.

The layout is that of the Skoltech Anomaly Benchmark (SKAB): folders `valve1`, `valve2`, `other`, `anomaly-free` with
CSV files, columns between semicolons: `datetime`, eight sensors, `anomaly` (0/1), `changepoint` (0/1). Files in
`anomaly-free` have no labels.
"""

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from skerry.core.clock import from_rfc3339
from skerry.core.errors import ConfigError
from skerry.demo.faults import NORMAL, Episode
from skerry.demo.pump import Reading

RIG_VALUES: tuple[str, ...] = (
    "Accelerometer1RMS", "Accelerometer2RMS", "Current", "Pressure", "Temperature", "Thermocouple", "Voltage",
    "Volume Flow RateRMS",
)  # fmt: skip
FAULT_FREE = "anomaly-free"
MAX_ROWS = 1_000_000
_MEND = "give the directory that holds valve1/, valve2/, other/ and anomaly-free/ with the CSV files of SKAB"


class Row(msgspec.Struct, frozen=True):
    """One line of a recording: its time, the values of `RIG_VALUES`, and whether a fault was there."""

    ts_us: int
    values: tuple[float, ...]
    anomaly: bool


class Run(msgspec.Struct, frozen=True):
    """One file: `name` is its folder and file name without ending, such as `valve1/0`; rows are in order of time."""

    name: str
    rows: tuple[Row, ...]

    @property
    def device(self) -> str:
        """Its name as a device: `valve1-0`."""
        return self.name.replace("/", "-").replace(" ", "-")

    @property
    def fault(self) -> str:
        """What its anomalies are called: the folder's name."""
        return self.name.partition("/")[0]


def read_runs(directory: str | Path) -> list[Run]:
    """All runs of a directory, folder by folder and in the order of their numbers.

    Raises `ConfigError` with file and line where something is missing or is not what the layout says.
    """
    root = Path(directory)
    if not root.is_dir():
        raise ConfigError("is not a directory" if root.exists() else "does not exist", where=str(root), mend=_MEND)
    files = sorted(root.glob("*/*.csv"), key=_order)
    if not files:
        raise ConfigError("holds no recordings (no */*.csv)", where=str(root), mend=_MEND)
    return [read_run(file) for file in files]


def read_run(path: Path) -> Run:
    """One CSV file. Raises `ConfigError` with file and line."""
    rows: list[Row] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.DictReader(file, delimiter=";")
            _check_columns(path, lines.fieldnames or ())
            for line in lines:
                rows.append(_row(path, lines.line_num, line))
                if len(rows) > 1 and rows[-1].ts_us < rows[-2].ts_us:
                    raise ConfigError("time goes back", where=f"{path}:{lines.line_num}", mend="sort the file by datetime")
                if len(rows) > MAX_ROWS:
                    raise ConfigError(f"has more than {MAX_ROWS:,} rows", where=str(path), mend="split it")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"cannot be read: {error}", where=str(path), mend=_MEND) from error
    if not rows:
        raise ConfigError("holds no rows", where=str(path), mend="remove the file or fetch it again")
    return Run(f"{path.parent.name}/{path.stem}", tuple(rows))


def replay(run: Run, start_us: int, speed: float = 1.0) -> Iterator[Reading]:
    """The readings of a run as if it began at `start_us` and went on `speed` times as fast.

    A reading's `ts_us` is when it is due; a gap of the recording stays a gap (shorter by `speed`). Raises `ConfigError`
    for a speed that is not more than 0.
    """
    if not (speed > 0 and math.isfinite(speed)):
        raise ConfigError(f"a speed of {speed} is not possible", where="--speed", allowed="more than 0, such as 10")
    first = run.rows[0].ts_us
    for row in run.rows:
        yield Reading(
            run.device,
            start_us + round((row.ts_us - first) / speed),
            dict(zip(RIG_VALUES, row.values, strict=True)),
            run.fault if row.anomaly else NORMAL,
        )


def labelled_episodes(readings: Sequence[Reading]) -> list[Episode]:
    """The faults of one device's readings: each from its first faulty reading up to the next normal one.

    A fault that lasts to the last reading ends just after it.
    """
    episodes: list[Episode] = []
    begun: Reading | None = None
    for reading in readings:
        if begun is not None and reading.fault != begun.fault:
            episodes.append(Episode(begun.device, begun.fault, begun.ts_us, reading.ts_us))
            begun = None
        if begun is None and reading.fault != NORMAL:
            begun = reading
    if begun is not None:
        episodes.append(Episode(begun.device, begun.fault, begun.ts_us, readings[-1].ts_us + 1))
    return episodes


def _order(path: Path) -> tuple[str, int, str]:
    return (path.parent.name, int(path.stem) if path.stem.isdecimal() else 0, path.stem)


def _check_columns(path: Path, found: Sequence[str]) -> None:
    wanted = ["datetime", *RIG_VALUES]
    if path.parent.name != FAULT_FREE:
        wanted.append("anomaly")
    missing = [name for name in wanted if name not in found]
    if missing:
        raise ConfigError(
            f"lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}",
            where=str(path),
            mend=f"its first line must name {';'.join(wanted)}",
        )


def _row(path: Path, line_number: int, line: Mapping[str, str | None]) -> Row:
    def number(column: str) -> float:
        text = line.get(column)
        try:
            value = float(text or "")
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise ConfigError(f"{column} is {text!r}, not a number", where=f"{path}:{line_number}", mend="mend the line")
        return value

    text = line.get("datetime") or ""
    try:
        ts_us = from_rfc3339(text)
    except ValueError as error:
        raise ConfigError(f"datetime is {text!r}", where=f"{path}:{line_number}", allowed="such as 2020-03-09 10:14:33") from error
    values = tuple(number(name) for name in RIG_VALUES)
    return Row(ts_us, values, "anomaly" in line and number("anomaly") >= 0.5)
