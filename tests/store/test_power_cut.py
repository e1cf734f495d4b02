"""Power cuts and I/O errors: the writer runs on a disk whose every change is known, and that fails when it is told to."""

import errno
import random
from pathlib import Path

import pytest

from tests.store.aftermath import CHECKS, HISTORY_WRITER, WRITER, acknowledged, check_cuts, check_fault, check_store, kill_a_writer
from tests.store.disk import Disk, compiled, environment, records


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("disk"))


@pytest.mark.parametrize("writer", [WRITER, HISTORY_WRITER], ids=["store", "history"])
def test_a_power_cut_takes_nothing_that_was_acknowledged(tmp_path: Path, library: Path, writer: Path) -> None:
    root, journal = tmp_path / "disk", tmp_path / "journal"
    root.mkdir()
    said = kill_a_writer(root / "kv", 0.8, writer, environment(library, root, journal))
    CHECKS[writer](root / "kv", said)
    counts = check_cuts(root, journal, writer, 8, random.Random(6), tmp_path)
    assert counts["cuts"] == 8
    assert counts["unsynced changes at a cut"] > 8
    assert counts["acknowledged"] > 1


def test_the_cut_would_be_noticed_without_syncs(tmp_path: Path, library: Path) -> None:
    root, journal = tmp_path / "disk", tmp_path / "journal"
    root.mkdir()
    kill_a_writer(root / "kv", 0.5, WRITER, environment(library, root, journal))
    disk = Disk(root)
    for record in records(journal):
        if record.what != "S" or not disk.path(record.file).endswith(".log"):
            disk.play(record)
        if b"batch 3" in disk.said:
            break
    disk.after_cut(None, tmp_path / "left")
    assert acknowledged(disk.said)["single"] > 0
    with pytest.raises(AssertionError):
        check_store(tmp_path / "left/kv", disk.said)


@pytest.mark.parametrize(
    ("call", "nth", "number", "times"),
    [("sync", 30, errno.EIO, 1), ("write", 30, errno.EIO, 1), ("write", 30, errno.ENOSPC, 3)],
)
def test_a_failed_call_costs_nothing_that_was_acknowledged(
    tmp_path: Path, library: Path, call: str, nth: int, number: int, times: int
) -> None:
    fault = f"{call}:{nth}:{number}:{times}"
    told = check_fault(library, tmp_path, fault)
    assert told["calls that failed"] == times
    if number == errno.ENOSPC:
        assert any("ballast was given up" in line for line in told)
        assert told["batch"] > 60, "it goes on by itself when there is room"
    else:
        assert told["refused"] >= 3
