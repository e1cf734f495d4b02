"""Live usage: of processes as psutil sees them, and of a cgroup as the kernel writes its files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from skerry.core.clock import ManualClock, SystemClock
from skerry.runtime.resources import ResourceUsage
from skerry.runtime.usage import (
    Tally,
    UsageMeter,
    cgroup_cpu_seconds,
    cgroup_memory,
    family,
    kernel_limits,
    own_cgroup,
    usage_between,
)

MIB = 1 << 20


def test_usage_is_the_difference_of_two_tallies() -> None:
    before = Tally(10.0, 5 * MIB, {1: 2.0, 2: 7.0, 3: 1.0}, network=1000)
    now = Tally(12.0, 6 * MIB, {1: 3.0, 2: 7.0, 4: 0.5}, network=5000)
    assert usage_between(before, now, disk=9) == ResourceUsage(memory=6 * MIB, cpu=0.75, network=2000.0, disk=9)
    assert usage_between(now, now) == ResourceUsage(memory=6 * MIB)
    back = Tally(13.0, 1, {1: 0.0}, network=0)
    assert usage_between(now, back) == ResourceUsage(memory=1), "a pid that is another's now counts nothing below zero"


def test_memory_and_time_of_children_count() -> None:
    clock = SystemClock()
    work = (
        "import sys, time; x = bytearray(64 << 20); e = time.process_time() + 0.3\n"
        "while time.process_time() < e: pass\nprint(flush=True); sys.stdin.read()"
    )
    meter = UsageMeter(clock.monotonic)
    alone = meter.read()
    child = subprocess.Popen([sys.executable, "-c", work], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        assert child.pid in [process.pid for process in family()]
        manual = ManualClock()
        both = UsageMeter(manual.monotonic)
        manual.advance(2_000_000)
        both._before = Tally(0.0, 0, {}, 0)
        found = both.read()
        manual.advance(900_000)
        assert both.read() is found, "within a second the last reading is answered again"
    finally:
        child.communicate()
    assert found.memory > alone.memory + 60 * MIB
    assert found.cpu > 0.1
    manual.advance(2_000_000)
    assert both.read().memory < found.memory - 60 * MIB


def write_cgroup(folder: Path, pids: list[int], memory: int = 300 * MIB, cache: int = 100 * MIB, cpu_us: int = 2_500_000) -> Path:
    folder.mkdir(parents=True)
    (folder / "memory.current").write_text(f"{memory}\n")
    (folder / "memory.stat").write_text(f"anon 1\nfile 2\ninactive_file {cache}\nslab 3\n")
    (folder / "cpu.stat").write_text(f"usage_usec {cpu_us}\nuser_usec 1\nsystem_usec 1\n")
    (folder / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))
    return folder


@pytest.fixture
def told(tmp_path: Path) -> Path:
    file = tmp_path / "cgroup"
    file.write_text("4:memory:/old\n0::/system.slice/skerry.service\n")
    return file


def test_a_cgroup_of_its_own_is_found_and_read(tmp_path: Path, told: Path) -> None:
    folder = write_cgroup(tmp_path / "fs" / "system.slice" / "skerry.service", [os.getpid()])
    assert own_cgroup(tmp_path / "fs", told) == folder
    assert cgroup_memory(folder) == 200 * MIB
    assert cgroup_cpu_seconds(folder) == 2.5
    clock = ManualClock()
    meter = UsageMeter(clock.monotonic, cgroup=folder)
    assert (meter.source, meter.read().memory) == ("cgroup", 200 * MIB)
    (folder / "cpu.stat").write_text("usage_usec 5500000\n")
    clock.advance(2_000_000)
    assert meter.read().cpu == 1.5
    assert meter.cpu_seconds == 3.0
    (folder / "cpu.stat").write_text("usage_usec 6000000\n")
    clock.advance(1_000_000)
    meter.read()
    assert meter.cpu_seconds == 3.5


def test_a_cgroup_that_goes_leaves_the_processes(tmp_path: Path) -> None:
    folder = write_cgroup(tmp_path / "fs", [os.getpid()], memory=10**15)
    clock = ManualClock()
    meter = UsageMeter(clock.monotonic, cgroup=folder)
    assert meter.read().memory > 10**14
    (folder / "memory.current").unlink()
    clock.advance(2_000_000)
    assert 10 * MIB < meter.read().memory < 10**14
    assert meter.source == "processes"


def test_a_cgroup_with_others_in_it_or_without_counters_is_not_its_own(tmp_path: Path, told: Path) -> None:
    place = "system.slice/skerry.service"
    write_cgroup(tmp_path / "shared" / place, [os.getpid(), os.getppid()])
    assert own_cgroup(tmp_path / "shared", told) is None
    child = write_cgroup(tmp_path / "below" / place, [os.getpid()])
    (child / "sub").mkdir()
    (child / "sub" / "cgroup.procs").write_text("1\n")
    assert own_cgroup(tmp_path / "below", told) is None, "somebody else is in a cgroup below it"
    empty = tmp_path / "empty" / place
    empty.mkdir(parents=True)
    (empty / "cgroup.procs").write_text(f"{os.getpid()}\n")
    assert own_cgroup(tmp_path / "empty", told) is None, "memory is not counted there"
    (tmp_path / "v1").write_text("4:memory:/old\n")
    assert own_cgroup(tmp_path, tmp_path / "v1") is None
    assert own_cgroup(tmp_path, tmp_path / "none") is None


def limited(folder: Path, memory: str = "max", cpu: str = "max 100000") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{memory}\n")
    (folder / "cpu.max").write_text(f"{cpu}\n")


def test_the_kernel_s_limits_are_the_least_of_all_cgroups_above(tmp_path: Path, told: Path) -> None:
    root = tmp_path / "fs"
    own = root / "system.slice" / "skerry.service"
    assert kernel_limits(root, told) == ResourceUsage()
    limited(own)
    assert kernel_limits(root, told) == ResourceUsage()
    limited(own, str(512 * MIB), "150000 100000")
    assert kernel_limits(root, told) == ResourceUsage(memory=512 * MIB, cpu=1.5)
    limited(root / "system.slice", str(256 * MIB), "max 100000")
    limited(root, str(1 << 40), "50000 100000")
    assert kernel_limits(root, told) == ResourceUsage(memory=256 * MIB, cpu=0.5)
    limited(tmp_path, "1", "1000 100000")
    assert kernel_limits(root, told).memory == 256 * MIB, "what lies above the root is none"
    assert kernel_limits(root, tmp_path / "none") == ResourceUsage()


def test_here_usage_comes_from_somewhere() -> None:
    meter = UsageMeter(SystemClock().monotonic)
    assert meter.source in ("cgroup", "processes")
    assert kernel_limits().memory >= 0
    assert meter.read().memory > 10 * MIB
