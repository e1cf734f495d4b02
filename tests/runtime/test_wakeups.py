"""Wake-ups of processes: what the kernel counts for each thread, also of those that have ended since."""

import os
import time
from pathlib import Path

import pytest

from skerry.runtime import WakeupMeter


def thread(root: Path, pid: int, tid: int, count: int) -> None:
    folder = root / str(pid) / "task" / str(tid)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "status").write_text(f"Name:\tx\nvoluntary_ctxt_switches:\t{count}\nnonvoluntary_ctxt_switches:\t9\n")


def test_all_threads_of_all_processes_count_from_when_they_were_first_seen(tmp_path: Path) -> None:
    meter = WakeupMeter(tmp_path)
    thread(tmp_path, 1, 1, 100)
    assert meter.read([1]) == 0
    thread(tmp_path, 1, 1, 130)
    thread(tmp_path, 1, 2, 1000)
    thread(tmp_path, 7, 7, 5)
    assert meter.read([1, 7]) == 30
    thread(tmp_path, 1, 2, 1001)
    thread(tmp_path, 7, 7, 9)
    assert meter.read([1, 7]) == 35
    assert meter.read([1]) == 35, "what has ended keeps what it counted"
    thread(tmp_path, 7, 7, 2)
    assert meter.read([1, 7]) == 35, "another process of the same number begins anew"


def test_what_cannot_be_read_counts_nothing(tmp_path: Path) -> None:
    (tmp_path / "3" / "task" / "3").mkdir(parents=True)
    assert WakeupMeter(tmp_path).read([3, 4]) == 0


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="optional: this kernel shows no processes")
def test_this_process_wakes_up() -> None:
    meter = WakeupMeter()
    before = meter.read([os.getpid()])
    for _ in range(20):
        time.sleep(0.001)
    assert meter.read([os.getpid()]) >= before + 20
