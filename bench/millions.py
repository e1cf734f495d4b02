"""The row "millions": ten million samples in the history, in SQLite and in plain rocksdict, each in a process of its own."""

import asyncio
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import rocksdict

from bench.rows import Options, Row, Say, median_row
from bench.storage import BEGIN, HOUR, SERIES, Samples, measure_archive, measure_sqlite, readings, timed, total

HOURS = 56
Found = dict[str, float]


def measure_rocksdict(path: Path, samples: Samples) -> Found:
    """A row a sample, series and time in the key, a batch an hour of a series; with rocksdict's own settings."""
    options = rocksdict.Options(raw_mode=True)
    options.create_if_missing(True)
    db = rocksdict.Rdict(str(path), options)
    prefixes = [b"%04d" % at for at in range(len(samples))]
    began = time.perf_counter()
    for begin in range(0, len(next(iter(samples.values()))[0]), 3600):
        for prefix, (times, values) in zip(prefixes, samples.values(), strict=True):
            batch = rocksdict.WriteBatch(raw_mode=True)
            keys = times[begin : begin + 3600].astype(">i8").tobytes()
            packed = values[begin : begin + 3600].tobytes()
            for at in range(0, len(keys), 8):
                batch.put(prefix + keys[at : at + 8], packed[at : at + 8])
            db.write(batch)
        db.flush_wal(True)
    write = total(samples) / (time.perf_counter() - began)
    db.flush()

    def read(prefix: bytes, begin: bytes, end: bytes) -> np.ndarray:
        at = db.iter()
        at.seek(prefix + begin)
        rows = []
        while at.valid() and (key := at.key()).startswith(prefix) and key[4:] < end:
            rows.append(at.value())
            at.next()
        return np.frombuffer(b"".join(rows), np.float64)

    began = time.perf_counter()
    count = sum(len(read(prefix, b"", b"\xff")) for prefix in prefixes)
    scan = count / (time.perf_counter() - began)
    assert count == total(samples)
    ends = [(BEGIN + hour * HOUR).to_bytes(8) for hour in (1, 2)]
    hour = [timed(partial(read, prefix, *ends)) for prefix in prefixes]
    db.close()
    size = sum(file.stat().st_size for file in path.iterdir()) / count
    return {"size": size, "write": write, "scan": scan, "hour": statistics.median(hour)}


SYSTEMS: dict[str, Callable[[Path, Samples], Found]] = {
    "skerry": measure_archive, "SQLite": measure_sqlite, "rocksdict": measure_rocksdict,
}  # fmt: skip


def _memory(field: str) -> float:
    """MB of this process, by a field of /proc/self/status."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def measure(name: str, folder: str, series: int, hours: int) -> Found:
    """One system, with how much memory it took at most beside the samples themselves."""
    samples = readings(True, series, hours)
    Path("/proc/self/clear_refs").write_text("5", "ascii")
    before = _memory("VmRSS")
    found = SYSTEMS[name](Path(folder) / name, samples)
    return {**found, "memory": _memory("VmHWM") - before}


async def millions(options: Options, say: Say) -> list[Row]:
    """Written, scanned, one hour of one series, bytes and memory, beside each peer."""
    found: dict[str, list[Found]] = {name: [] for name in SYSTEMS}
    for _ in range(options.rounds):
        for name, each in found.items():
            place = tempfile.TemporaryDirectory(prefix="skerry-bench-", dir=Path.cwd())
            with place as folder, ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                each.append(await asyncio.wrap_future(pool.submit(measure, name, folder, SERIES, HOURS)))
            told = each[-1]
            say(
                f"  {name}: {told['write'] / 1e6:.2f} M/s in, {told['scan'] / 1e6:.1f} M/s out, {told['hour']:.2f} ms an hour, "
                f"{told['size']:.2f} B a sample, {told['memory']:.0f} MB"
            )
    figures = [
        ("write", "written samples/s", "/s", "≥ 3,000,000"), ("scan", "scanned samples/s", "/s", "≥ 12,000,000"),
        ("hour", "one series, one hour, p50", "ms", "≤ 1"), ("size", "bytes/sample", "B", "≤ 1.25"),
        ("memory", "memory taken at most, reading a whole series at once", "MB", ""),
    ]  # fmt: skip
    rows = []
    for key, figure, unit, goal in figures:
        for peer in ("SQLite", "rocksdict"):
            mine, theirs = ([one[key] for one in found[name]] for name in ("skerry", peer))
            rows.append(median_row("millions", f"10 M samples: {figure} (peer: {peer})", unit, goal, mine, theirs))
    return rows
