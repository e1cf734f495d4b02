"""Which cgroups are used, and what is written there: trees as the kernel lays them out; a real one where there is one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from skerry.runtime import Child, ChildSpec, Confinement, Confines, confine
from skerry.runtime.confinement import MARGIN, MOST_PROCESSES

MIB = 1 << 20


class Tree:
    """/sys/fs/cgroup and /proc/self/cgroup."""

    def __init__(self, folder: Path, told: str) -> None:
        self.root, self.told = folder / "fs", folder / "told"
        self.told.write_text(told)

    def v2(self, path: str, *pids: int, controllers: str = "cpuset cpu memory pids") -> Path:
        found = self.root / path
        found.mkdir(parents=True)
        for name, text in (
            ("memory.current", f"{300 * MIB}"), ("memory.stat", "inactive_file 0"), ("cpu.stat", "usage_usec 1"),
            ("cgroup.procs", "".join(f"{pid}\n" for pid in pids)), ("cgroup.controllers", controllers),
        ):  # fmt: skip
            (found / name).write_text(text)
        # the kernel gives a group its files when it is made
        for name in ("agent", "work"):
            (found / name).mkdir()
            (found / name / "cgroup.controllers").write_text(controllers)
        return found

    def v1(self, path: str, *pids: int) -> Path:
        found = self.root / path
        found.mkdir(parents=True)
        (found / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))
        return found

    def confine(self) -> Confinement:
        return confine(self.root, self.told)


def text(file: Path) -> str:
    return file.read_text()


def test_in_version_2_the_node_moves_into_a_leaf_and_each_worker_gets_a_group(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "0::/system.slice/skerry.service\n")
    own = tree.v2("system.slice/skerry.service", os.getpid())
    found = tree.confine()
    assert (found.kind, found.cpu, found.why, found.path) == ("cgroup-v2", "cgroup-v2", "", own)
    assert found.sentence == "held by cgroup-v2"
    assert text(own / "agent" / "cgroup.procs") == str(os.getpid())
    assert text(own / "cgroup.subtree_control") == "+memory +cpu +pids"

    found.begin(160 * MIB, Confines(800 * MIB, 0.5))
    assert text(own / "agent" / "memory.low") == str(160 * MIB)
    assert text(own / "agent" / "cpu.weight") == "300"
    assert text(own / "work" / "cgroup.subtree_control") == "+memory +cpu +pids"
    assert (text(own / "work" / "memory.max"), text(own / "work" / "cpu.max")) == (str(800 * MIB), "50000 100000")

    worker = own / "work" / "worker-0"
    assert found.group("worker-0", Confines(400 * MIB, 0.25)) == [str(worker / "cgroup.procs")]
    wanted = {
        "memory.max": str(400 * MIB + MARGIN), "memory.swap.max": "0", "pids.max": str(MOST_PROCESSES), "cpu.max": "25000 100000",
    }  # fmt: skip
    assert {name: text(worker / name) for name in wanted} == wanted
    found.group("worker-0", Confines())
    assert (text(worker / "memory.max"), text(worker / "cpu.max")) == ("max", "max 100000")
    found.group("worker-0", Confines(cpu=10_000))
    assert text(worker / "cpu.max") == "max 100000", "more than the machine has is no bound"

    assert found.out_of_memory("worker-0") == 0
    (worker / "memory.events").write_text("low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n")
    assert found.out_of_memory("worker-0") == 2


def test_in_version_1_there_is_a_group_for_each_controller(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "9:name=systemd:/\n4:memory:/skerry\n1:cpu,cpuacct:/skerry\n0::/\n")
    memory, cpu = tree.v1("memory/skerry", os.getpid()), tree.v1("cpu,cpuacct/skerry", os.getpid())
    found = tree.confine()
    assert (found.kind, found.cpu, found.path) == ("cgroup-v1", "cgroup-v1", None)
    found.begin(160 * MIB, Confines(800 * MIB, 0.5))
    assert text(memory / "work" / "memory.limit_in_bytes") == str(800 * MIB)
    joins = found.group("worker-0", Confines(400 * MIB, 0.25))
    assert joins == [str(each / "work" / "worker-0" / "cgroup.procs") for each in (memory, cpu)]
    assert text(memory / "work" / "worker-0" / "memory.limit_in_bytes") == str(400 * MIB + MARGIN)
    assert text(cpu / "work" / "worker-0" / "cpu.cfs_quota_us") == "25000"
    assert text(cpu / "work" / "worker-0" / "cpu.cfs_period_us") == "100000"
    found.group("worker-0", Confines())
    assert text(memory / "work" / "worker-0" / "memory.limit_in_bytes") == "-1"
    assert text(cpu / "work" / "worker-0" / "cpu.cfs_quota_us") == "-1"
    (memory / "work" / "worker-0" / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n")
    assert found.out_of_memory("worker-0") == 1


def test_in_version_1_with_memory_alone_niceness_is_for_the_cpu(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "4:memory:/skerry\n1:cpu:/\n")
    tree.v1("memory/skerry", os.getpid())
    tree.v1("cpu", 1, os.getpid())
    found = tree.confine()
    assert (found.kind, found.cpu, found.sentence) == ("cgroup-v1", "niceness", "held by cgroup-v1 and niceness")
    found.begin(0, Confines())
    assert len(found.group("worker-0", Confines(MIB, 0.5))) == 1


SHARED = {"none": "", "hybrid": "0::/\n", "v1": "4:memory:/session\n1:cpu:/session\n", "v2": "0::/user.slice\n"}


@pytest.mark.parametrize("told", SHARED.values(), ids=SHARED.keys())
def test_a_group_that_others_are_in_is_not_touched(tmp_path: Path, told: str) -> None:
    tree = Tree(tmp_path, told)
    folders = [tree.v2("user.slice", 1, os.getpid()), tree.v1("memory/session", 1, os.getpid())]
    folders.append(tree.v1("cpu/session", os.getpid()))
    before = {file: text(file) for folder in folders for file in folder.rglob("*") if file.is_file()}
    found = tree.confine()
    assert (found.kind, found.cpu, found.path, found.sentence) == ("watch", "niceness", None, "held by watch and niceness")
    assert "no cgroup of its own" in found.why
    found.begin(MIB, Confines(MIB, 1.0))
    assert found.group("worker-0", Confines(MIB, 1.0)) == []
    assert found.out_of_memory("worker-0") == 0
    assert {file: text(file) for folder in folders for file in folder.rglob("*") if file.is_file()} == before


def test_a_group_that_is_not_delegated_is_left_as_it_was(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "0::/skerry.service\n")
    own = tree.v2("skerry.service", os.getpid())
    (own / "cgroup.subtree_control").mkdir()  # nobody can write that
    found = tree.confine()
    assert found.kind == "watch"
    assert "is not delegated to this node: is a directory" in found.why
    assert text(own / "cgroup.procs") == str(os.getpid()), "it has moved back"


def test_without_a_memory_controller_it_says_so(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "0::/skerry.service\n")
    tree.v2("skerry.service", os.getpid(), controllers="cpu pids")
    found = tree.confine()
    assert found.kind == "watch"
    assert found.why.endswith("it has no memory controller")


def test_bounds_that_cannot_be_set_cost_the_bound_and_not_the_process(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "0::/skerry.service\n")
    own = tree.v2("skerry.service", os.getpid())
    found = tree.confine()
    (own / "work" / "worker-0").write_text("in the way")
    assert found.group("worker-0", Confines(MIB, 1.0)) == []


def test_empty_groups_are_removed_at_the_end(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "4:memory:/skerry\n")
    memory = tree.v1("memory/skerry", os.getpid())
    found = tree.confine()
    found.group("a", Confines())
    assert not (memory / "work" / "a").exists(), "its parent is made first"
    found.begin(0, Confines())
    found.group("a", Confines())
    for file in (memory / "work").rglob("memory.limit_in_bytes"):
        file.unlink()  # of a real group they do not count
    found.close()
    assert not (memory / "work").exists()


@pytest.mark.asyncio
async def test_a_child_joins_its_groups_and_is_nice_before_it_runs(tmp_path: Path) -> None:
    files = [tmp_path / "one", tmp_path / "other"]
    for file in files:
        file.touch()
    says = "import os, sys; print(os.nice(0), flush=True)"
    joins = [str(file) for file in [*files, tmp_path / "missing" / "cgroup.procs"]]
    child = Child(ChildSpec("joiner", [sys.executable, "-c", says], tmp_path / "run", pipes=True, join=joins, nice=3))
    await child.start()
    line = await child.read_line()
    assert (await child.wait()).code == 0, "a group that is gone is no reason not to run"
    assert int(line) == min(19, os.nice(0) + 3)
    assert [text(file) for file in files] == ["0", "0"]


REAL = """
import os, subprocess, sys, time
from pathlib import Path
from skerry.runtime import Confines, confine
group = Path(sys.argv[1])
(group / "cgroup.procs").write_text(str(os.getpid()))
found = confine()
assert found.kind == "cgroup-v2", found.why
found.begin(32 << 20, Confines(512 << 20, 1.0))
joins = found.group("worker-0", Confines(64 << 20, 0.2))
assert joins, "no group"
def join():
    for file in joins:
        Path(file).write_text("0")
eats = "x = [b'x' * (1 << 20) for _ in range(400)]"
code = subprocess.run([sys.executable, "-c", eats], preexec_fn=join).returncode
assert code == -9, code
assert found.out_of_memory("worker-0") == 1
burns = "import time; e = time.monotonic() + 2\\nwhile time.monotonic() < e: pass\\nprint(time.process_time())"
done = subprocess.run([sys.executable, "-c", burns], preexec_fn=join, stdout=subprocess.PIPE, text=True)
assert float(done.stdout) < 1.0, done.stdout
found.close()
"""


def test_a_real_cgroup_holds_memory_and_cpu(tmp_path: Path) -> None:
    path = next((line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::")), "/")
    group = Path("/sys/fs/cgroup") / path.strip().lstrip("/") / f"skerry-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"optional: no cgroup can be made here: {error}")
    try:
        if not (group / "memory.max").exists():
            pytest.skip("optional: this machine has no cgroup of version 2 with a memory controller that could be written")
        subprocess.run([sys.executable, "-c", REAL, str(group)], check=True, timeout=60)
    finally:
        for folder in (*sorted(group.rglob("*/"), reverse=True), group):
            if folder.is_dir():
                folder.rmdir()
