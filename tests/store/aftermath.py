"""What must be true of a store, and of a history, whose writer met its end: `writer.py`, `history_writer.py`."""

import os
import random
import select
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from skerry.store import StorageConfig, SyncKeyValueStore
from skerry.store.history import HOUR, MINUTE
from tests.store import history_writer
from tests.store.disk import Disk, environment, records

HERE = Path(__file__).parent
WRITER, HISTORY_WRITER = HERE / "writer.py", HERE / "history_writer.py"


def acknowledged(said: bytes) -> Counter[str]:
    """The last number that a writer said of each thing it does, and how often it did those without one."""
    found: Counter[str] = Counter()
    for line in said.decode().splitlines():
        kind, _, number = line.rpartition(" ")
        if number.isdigit():
            found[kind] = max(found[kind], int(number))
        else:
            found[line] += 1
    return found


def kill_a_writer(
    directory: Path,
    seconds: float,
    writer: Path = WRITER,
    environment: Mapping[str, str] | None = None,
    enough: Callable[[Counter[str]], bool] = lambda _: True,
) -> bytes:
    """Let it write until it has said enough (60 s at most) and then for so long, kill -9; what it had said."""
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}  # what the store logs is part of what it said
    with subprocess.Popen([sys.executable, writer, directory], env=environment, **both) as process:
        assert process.stdout is not None
        try:
            said = process.stdout.readline()
            assert said == b"open\n"
            give_up = time.monotonic() + 60
            while not enough(acknowledged(said)):
                select.select([process.stdout], [], [], 60)
                said += (more := os.read(process.stdout.fileno(), 1 << 20))
                assert more, f"it ended: {said.decode()[-400:]}"
                assert time.monotonic() < give_up, said.decode()[-400:]
            time.sleep(seconds)
        finally:
            process.kill()
        return said + process.stdout.read()


def check_store(directory: Path, said: bytes) -> int:
    """Everything acknowledged is there and nothing is torn; the last batch that is there."""
    told = acknowledged(said)
    with SyncKeyValueStore(StorageConfig(path=directory, max_size="64MiB", compression="none", evictable=("raw",))) as kv:
        there = [int(key[7:]) for key, _ in kv.scan(b"single/")]
        assert there == list(range(1, len(there) + 1))
        assert len(there) >= told["single"], f"{told['single']} was acknowledged, {len(there)} are there"
        last = int(kv.get(b"left") or 0)
        assert last >= told["batch"], f"batch {told['batch']} was acknowledged, {last} is the last"
        assert int(kv.get(b"right", table="other") or 0) == last
        assert len(there) - last in (0, 1)
        rows = [int(key[4:12]) for key, _ in kv.scan(b"row/")]
        assert rows == [number for number in range(1, last + 1) for _ in range(10)]
        return last


def check_history(directory: Path, said: bytes) -> int:
    """Every round up to the cursor is there, whole, on each level that keeps it; the cursor."""
    told = acknowledged(said)
    store, archive, _ = history_writer.opened(directory)
    with store:
        cursor = archive.cursor("log") or 0
        assert cursor >= told["batch"], f"round {told['batch']} was acknowledged, {cursor} is the last"
        begin, end = history_writer.BEGIN + HOUR, history_writer.BEGIN + (cursor + 1) * HOUR
        fresh = max(1, cursor - history_writer.KEEP.raw // HOUR + 2)
        for series in range(history_writer.SERIES if cursor else 0):
            rounds = [history_writer.columns(series, number) for number in range(1, cursor + 1)]
            times, values = (np.concatenate([each[column] for each in rounds]) for column in (0, 1))
            raw = archive.query(f"s{series}", history_writer.BEGIN + fresh * HOUR, end)
            kept = times >= history_writer.BEGIN + fresh * HOUR
            assert raw[0].tolist() == times[kept].tolist()
            assert raw[1].tolist() == values[kept].tolist()
            for width in (MINUTE, HOUR):
                starts, sums = archive.query(f"s{series}", begin, end, width, "sum")
                wanted, first = np.unique(times // width * width, return_index=True)
                assert starts.tolist() == wanted.tolist()
                assert np.allclose(sums, np.add.reduceat(values, first))
        return cursor


CHECKS = {WRITER: check_store, HISTORY_WRITER: check_history}


def check_cuts(root: Path, journal: Path, writer: Path, cuts: int, chance: random.Random, place: Path) -> Counter[str]:
    """Cut the power at random moments of what a writer did under `root`; what was done by then, counted.

    Every third moment is the one after something was acknowledged, every fourth is before the store was open."""
    done = list(records(journal))
    told = [at + 1 for at, record in enumerate(done) if record.what == "A"]
    moments = [
        chance.choice(told) if cut % 3 == 0 else chance.randrange(told[0] if cut % 4 == 1 else len(done)) for cut in range(cuts)
    ]
    disk, counts = Disk(root), Counter[str]()
    played = 0
    for number, moment in enumerate(sorted(moments)):
        for record in done[played:moment]:
            disk.play(record)
        played = moment
        left = place / f"cut-{number}"
        try:
            disk.after_cut(None if chance.random() < 0.4 else chance, left)
            CHECKS[writer](left / "kv", disk.said)
        except Exception as error:
            error.add_note(f"the power was cut after {moment} of {len(done)} calls, see {left}")
            raise
        counts["cuts"] += 1
        counts["unsynced changes at a cut"] += disk.unsynced
        counts["acknowledged"] = acknowledged(disk.said)["batch"]
    return counts


def check_fault(library: Path, folder: Path, fault: str) -> Counter[str]:
    """Let calls of a writer fail as `fault` says, kill it when it goes on or has given up, then cut the power; what it had said."""
    root, journal = folder / "disk", folder / "journal"
    root.mkdir()

    def enough(told: Counter[str]) -> bool:
        # the engine tries again some seconds after the disk was full
        return told["refused"] >= 3 or told["refused for want of room"] >= 150 or told["batch"] > 60

    said = kill_a_writer(root / "kv", 0, WRITER, environment(library, root, journal, fault), enough)
    check_store(root / "kv", said)
    told = acknowledged(said)
    disk = Disk(root)
    for record in records(journal):
        disk.play(record)
        told["calls that failed"] += record.what in "FX"
    disk.after_cut(None, folder / "left")
    check_store(folder / "left/kv", disk.said)
    return told
