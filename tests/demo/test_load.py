"""Load on the cores: it is there, it ends, and it does not outlive the one who asked for it."""

import os
import subprocess
import sys
import time

import psutil
import pytest

from skerry.demo.load import Load, usable_cores


def gone(pids: list[int], within: float = 5.0) -> bool:
    patience = time.monotonic() + within
    while time.monotonic() < patience:
        if not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids):
            return True
        time.sleep(0.02)
    return False


def test_a_process_for_each_core_is_busy_until_stopped() -> None:
    with Load(cores=1) as load:
        load.start(30)
        (pid,) = load.pids
        patience = time.monotonic() + 10
        while sum(psutil.Process(pid).cpu_times()[:2]) < 0.2 and time.monotonic() < patience:
            time.sleep(0.02)
        assert sum(psutil.Process(pid).cpu_times()[:2]) >= 0.2
        assert psutil.Process(pid).nice() > psutil.Process().nice()
        load.stop()
        assert not load.running
        assert not psutil.pid_exists(pid)


def test_load_ends_by_itself_after_its_seconds() -> None:
    load = Load(cores=2)
    load.start(0.3)
    pids = load.pids
    assert len(pids) == 2
    assert gone(pids)
    assert not load.running
    assert load.pids == []


def test_a_second_start_replaces_the_first() -> None:
    with Load(cores=1) as load:
        load.start(30)
        first = load.pids
        load.start(30)
        assert gone(first)
        assert len(load.pids) == 1
    assert not load.running


def test_load_ends_with_its_parent_even_when_that_is_killed() -> None:
    script = "import time\nfrom skerry.demo.load import Load\nload = Load(2)\nload.start(60)\n"
    script += "print(*load.pids, flush=True)\ntime.sleep(60)\n"
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environ) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        parent.kill()
    assert len(pids) == 2
    assert gone(pids)


def test_the_default_is_every_core_that_may_be_used() -> None:
    assert Load().cores == usable_cores() >= 1


@pytest.mark.parametrize("seconds", [0, -1])
def test_no_load_for_no_time(seconds: float) -> None:
    with pytest.raises(ValueError, match="of load"):
        Load(cores=1).start(seconds)
