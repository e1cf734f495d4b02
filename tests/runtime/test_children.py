"""Child processes, with real ones."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.runtime import (
    Child,
    ChildSpec,
    Exit,
    cpu_seconds_of,
    end_left_over,
    figures_of,
    left_over,
    memory_of,
    next_look,
    proportional_memory_of,
)
from skerry.runtime.children import WATCH_S

PYTHON = sys.executable
GREEDY = """
import time
held = b"1" * (64 << 20)
end = time.process_time() + 0.2
while time.process_time() < end: pass
print("up", flush=True)
time.sleep(60)
"""
SLEEP = [PYTHON, "-c", "import time; print('up', flush=True); time.sleep(60)"]
DEAF = [PYTHON, "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"]


def spec(run_dir: Path, argv: list[str], **fields: object) -> ChildSpec:
    return ChildSpec("role", argv, run_dir, **fields)  # type: ignore[arg-type]  # the fields of the struct, by name


def gone(pid: int, seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.asyncio
async def test_its_end_is_told_with_its_last_words(tmp_path: Path) -> None:
    heard: list[str] = []
    argv = [PYTHON, "-c", "import sys; print('one', file=sys.stderr); print('two', file=sys.stderr); sys.exit(3)"]
    child = Child(spec(tmp_path, argv, on_stderr=heard.append))
    await child.start()
    ended = await child.wait()
    assert (ended.code, ended.tail) == (3, "one\ntwo")
    assert ended.sentence == "exit code 3: two"
    assert heard == ["one", "two"]
    assert not child.running
    assert await child.stop() == ended


@pytest.mark.parametrize(
    ("code", "tail", "sentence"),
    [
        (0, "", "exit code 0"),
        (-9, "", "ended by SIGKILL"),
        (-11, "x\nlast\n", "ended by SIGSEGV: last"),
        (-40, "", "ended by signal 40"),
    ],
)
def test_an_end_in_words(code: int, tail: str, sentence: str) -> None:
    assert Exit(code, tail).sentence == sentence


@given(st.integers(-64, 255), st.text())
def test_every_end_has_words(code: int, tail: str) -> None:
    assert Exit(code, tail).sentence


@pytest.mark.asyncio
async def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        await Child(spec(tmp_path, [str(tmp_path / "nothing")])).start()
    assert left_over(tmp_path, "role") is None


@pytest.mark.asyncio
async def test_lines_go_both_ways(tmp_path: Path) -> None:
    argv = [PYTHON, "-c", "import sys\nfor line in sys.stdin: print(line.strip()[::-1], flush=True)"]
    child = Child(spec(tmp_path, argv, pipes=True))
    await child.start()
    await child.write_line(b"abc")
    assert await child.read_line() == b"cba\n"
    await child.kill()
    assert await child.read_line() == b""
    await child.write_line(b"to nobody")


@pytest.mark.asyncio
async def test_stop_asks_first_and_then_kills(tmp_path: Path) -> None:
    for argv, code in ((SLEEP, -signal.SIGTERM), (DEAF, -signal.SIGKILL)):
        child = Child(spec(tmp_path, argv, pipes=True, stop_s=0.3))
        await child.start()
        assert await child.read_line() == b"up\n"
        assert (await child.stop()).code == code


@pytest.mark.asyncio
async def test_the_record_names_one_process_and_goes_with_it(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    child = Child(spec(run_dir, SLEEP))
    await child.start()
    record = run_dir / "role.pid"
    assert record.stat().st_mode & 0o777 == 0o600
    assert run_dir.stat().st_mode & 0o777 == 0o700
    assert left_over(run_dir, "role") == child.pid
    assert left_over(run_dir, "other") is None
    await child.kill()
    assert not record.exists()


@pytest.mark.asyncio
async def test_a_later_process_of_the_same_pid_is_none_of_ours(tmp_path: Path) -> None:
    child = Child(spec(tmp_path, SLEEP))
    await child.start()
    record = tmp_path / "role.pid"
    found = json.loads(record.read_bytes())
    record.write_text(json.dumps({**found, "started": found["started"] - 1}))
    assert left_over(tmp_path, "role") is None
    assert await end_left_over(tmp_path, "role") is None
    assert child.running
    for rubbish in ("", "{}", "[1, 2]", '{"pid": "x", "started": 1}'):
        record.write_text(rubbish)
        assert left_over(tmp_path, "role") is None
    await child.kill()


@pytest.mark.asyncio
@pytest.mark.parametrize("stopped", [False, True])
async def test_a_left_over_is_ended(tmp_path: Path, stopped: bool) -> None:
    child = Child(spec(tmp_path, SLEEP))
    await child.start()
    assert child.pid is not None
    if stopped:
        child.send(signal.SIGSTOP)
    began = time.monotonic()
    assert await end_left_over(tmp_path, "role") == child.pid
    assert time.monotonic() - began < 3
    assert (await child.wait()).code == -signal.SIGTERM
    assert await end_left_over(tmp_path, "role") is None


@pytest.mark.asyncio
async def test_a_left_over_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    child = Child(spec(tmp_path, DEAF, pipes=True))
    await child.start()
    assert await child.read_line() == b"up\n"
    assert await end_left_over(tmp_path, "role", seconds=0.2) == child.pid
    assert (await child.wait()).code == -signal.SIGKILL


PARENT = """
import asyncio, sys
from pathlib import Path
from skerry.runtime import Child, ChildSpec, run_loop

async def main():
    argv = [sys.executable, "-c", "import time; time.sleep(60)"]
    child = Child(ChildSpec("role", argv, Path(sys.argv[1]), death_signal=int(sys.argv[2])))
    await child.start()
    print(child.pid, flush=True)
    await child.wait()

run_loop(main())
"""


def orphan(run_dir: Path, death_signal: int) -> int:
    """A child whose parent was killed."""
    argv = [PYTHON, "-c", PARENT, str(run_dir), str(death_signal)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    return pid


@pytest.mark.parametrize("death_signal", [signal.SIGKILL, signal.SIGTERM])
def test_it_dies_with_its_parent(tmp_path: Path, death_signal: int) -> None:
    assert gone(orphan(tmp_path, death_signal))
    assert left_over(tmp_path, "role") is None


@pytest.mark.asyncio
async def test_one_that_outlives_its_parent_is_known_by_the_next(tmp_path: Path) -> None:
    pid = await asyncio.to_thread(orphan, tmp_path, 0)
    assert left_over(tmp_path, "role") == pid
    assert await end_left_over(tmp_path, "role") == pid
    assert gone(pid)


@pytest.mark.asyncio
async def test_memory_is_bounded(tmp_path: Path) -> None:
    argv = [PYTHON, "-c", "bytearray(512 << 20)"]
    bounded = Child(spec(tmp_path, argv, memory_limit=256 << 20))
    await bounded.start()
    ended = await bounded.wait()
    assert ended.code == 1
    assert ended.sentence.endswith("MemoryError")


@pytest.mark.asyncio
async def test_it_runs_where_no_record_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file where the directory should be")
    child = Child(spec(tmp_path / "run", SLEEP))
    await child.start()
    assert child.running
    await child.kill()


@pytest.mark.asyncio
async def test_a_child_tells_what_it_uses(tmp_path: Path) -> None:
    argv = [PYTHON, "-c", GREEDY]
    child = Child(spec(tmp_path, argv, pipes=True))
    assert child.memory() == 0
    await child.start()
    await child.read_line()
    assert child.pid is not None
    assert child.memory() > 64 << 20
    assert 0.2 <= cpu_seconds_of(child.pid) < 10
    await child.kill()
    assert (child.memory(), memory_of(child.pid), cpu_seconds_of(child.pid)) == (0, 0, 0.0)


def test_this_process_uses_memory() -> None:
    assert memory_of(os.getpid()) > 1 << 20


@pytest.mark.asyncio
async def test_a_line_over_the_limit_does_not_end_the_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skerry.runtime.children.LINE_LIMIT", 1000)
    argv = [PYTHON, "-c", "import sys; print('x' * 100_000, flush=True); print('after', flush=True)"]
    child = Child(spec(tmp_path, argv, pipes=True))
    await child.start()
    lines = []
    while line := await child.read_line():
        lines.append(line)
    assert lines[-1] == b"after\n"
    assert (await child.wait()).code == 0


@pytest.mark.asyncio
async def test_a_child_that_outgrows_its_bound_is_told_of_and_one_that_ends_is_not(tmp_path: Path) -> None:
    grow = "import sys; sys.stdin.readline(); x = bytearray(96 << 20); sys.stdin.readline()"
    child = Child(ChildSpec("grower", [sys.executable, "-c", grow], tmp_path, pipes=True))
    await child.start()
    bound = 64 << 20
    watching = asyncio.create_task(child.outgrown(lambda: bound))
    unbound = asyncio.create_task(child.outgrown(lambda: 0))
    await asyncio.sleep(0.3)
    assert not watching.done()
    await child.write_line(b"grow")
    async with asyncio.timeout(10):
        told = await watching
    assert re.fullmatch(r"it used \d+ MiB, allowed are 64 MiB", told)
    assert not unbound.done()
    await child.kill()
    async with asyncio.timeout(10):
        assert await unbound == ""


@pytest.mark.asyncio
async def test_how_large_it_was_is_known_when_it_has_ended(tmp_path: Path) -> None:
    """Also of memory that it had given back again before anybody looked."""
    argv = [PYTHON, "-c", "x = b'1' * (96 << 20); del x; print('up', flush=True); import time; time.sleep(60)"]
    child = Child(spec(tmp_path, argv, pipes=True))
    await child.start()
    await child.read_line()
    assert child.pid is not None
    figures = figures_of(child.pid)
    assert figures.memory < 64 << 20 < figures.peak
    assert abs(figures.started - time.time() * 1e6) < 10e6
    assert 0 < figures.cpu_s < 10
    await asyncio.sleep(1.1)
    ended = await child.kill()
    assert 96 << 20 <= ended.peak < 256 << 20
    assert (ended.signal, ended.sentence) == ("SIGKILL", "ended by SIGKILL")
    assert figures_of(child.pid).memory == 0


@pytest.mark.parametrize(("used", "pause"), [(0, WATCH_S), (500, WATCH_S), (900, 124 / 2048), (1023, 0.02), (5000, 0.02)])
def test_the_less_is_left_the_sooner_is_looked_again(used: int, pause: float) -> None:
    assert next_look(used << 20, 1 << 30) == pytest.approx(pause)
    assert next_look(used << 20, 0) == WATCH_S, "nothing to pass"


def test_pages_that_processes_share_count_once_in_all() -> None:
    own = os.getpid()
    assert 0 < proportional_memory_of(own) <= memory_of(own)
    assert proportional_memory_of(2**22 + 1) == memory_of(2**22 + 1) == 0
