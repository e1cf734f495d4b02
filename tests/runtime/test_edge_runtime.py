"""EdgeRuntime as programs use it: tasks, threads and processes of real work, and an end that leaves nothing behind."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest
import uvloop

from skerry import EdgeRuntime, RuntimeConfig
from skerry.core.errors import ConfigError, OverloadedError, UnavailableError
from tests.fixtures.nats import until
from tests.runtime.test_blocking import Gate, stack_size

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
DEAF = [
    sys.executable, "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)",
]  # fmt: skip


async def for_ever() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("worker_threads", 0, "worker_threads: 0 is out of range; allowed: 1 to 256"),
        ("max_blocking_threads", 1025, "max_blocking_threads: 1025 is out of range"),
        ("queue", 0, "queue: 0 is out of range"),
        ("max_tasks", 0, "max_tasks: 0 is out of range; allowed: 1 or more"),
        ("max_processes", -1, "max_processes: -1 is out of range"),
        ("thread_stack_size", "1KiB", "thread_stack_size: a stack of 1024 bytes"),
        ("thread_stack_size", "much", "thread_stack_size: 'much' is not a size"),
        ("stall", "1ms", "stall: must be 10ms or more"),
        ("deadline", "soon", "deadline: 'soon' is not a duration"),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_allowed(field: str, value: object, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        RuntimeConfig(**{field: value})  # type: ignore[arg-type]  # what a caller without types may pass
    assert str(refused.value).startswith(said)


def test_a_program_runs_on_uvloop_and_leaves_no_task_and_no_thread() -> None:
    runtime = EdgeRuntime(RuntimeConfig(worker_threads=2, max_blocking_threads=3, thread_stack_size="512KiB"))
    before = {thread.ident for thread in threading.enumerate()}
    names: list[str] = []

    async def background() -> None:
        try:
            await for_ever()
        finally:
            names.append("background ended")

    async def main() -> tuple[str, int, int]:
        assert isinstance(asyncio.get_running_loop(), uvloop.Loop)
        runtime.spawn(background(), "background")
        loop_thread = threading.get_ident()
        assert await runtime.spawn_blocking(threading.get_ident) != loop_thread
        names.append((await runtime.spawn_compute(threading.current_thread)).name)
        background_task = next(task for task in asyncio.all_tasks() if task.get_name() == "main/background")
        background_task.cancel()
        return "done", await runtime.spawn_blocking(stack_size), await runtime.spawn_compute(stack_size)

    said, *stacks = runtime.run(main())
    assert said == "done"
    assert all(stack >= 512 * 1024 for stack in stacks), "the C library may give a larger one that another thread has left"
    assert names == ["compute-0", "background ended"]
    end = time.monotonic() + 5
    while left := {thread.ident for thread in threading.enumerate()} - before:
        assert time.monotonic() < end, left
        time.sleep(0.01)
    again = main()
    with pytest.raises(UnavailableError, match="a runtime runs once; make another one"):
        runtime.run(again)
    again.close()


def test_what_the_program_raises_comes_out_after_all_has_ended() -> None:
    runtime = EdgeRuntime()
    ends: list[str] = []

    async def background() -> None:
        try:
            await for_ever()
        finally:
            ends.append("background")

    async def main() -> None:
        runtime.spawn(background(), "background")
        await asyncio.sleep(0)
        raise ValueError("the disk is full")

    with pytest.raises(ValueError, match="the disk is full"):
        runtime.run(main())
    assert ends == ["background"]
    assert [(failure.name, failure.message) for failure in runtime.failures] == [("main", "the disk is full")]


@pytest.mark.asyncio
async def test_figures_tell_how_it_stands() -> None:
    gate = Gate()
    async with EdgeRuntime(RuntimeConfig(max_blocking_threads=1, queue=1, stall="10s")) as runtime:
        calls = [runtime.spawn(runtime.spawn_blocking(gate.call), f"call-{number}") for number in range(3)]
        await until(lambda: runtime.figures.blocking.waiting == 1)
        figures = runtime.figures
        assert (figures.tasks, figures.processes, figures.failed) == (3, 0, 0)
        assert (figures.blocking.running, figures.blocking.queued) == (1, 1)
        assert (figures.compute.threads, figures.stalls) == (0, 0)
        assert figures.lag_s >= 0
        with pytest.raises(OverloadedError, match="the queue is full"):
            await runtime.try_spawn_blocking(gate.call)
        gate.open()
        await asyncio.gather(*calls)
        assert await runtime.try_spawn_blocking(gate.call, 5) == 5
        assert runtime.figures.blocking.done == 4


@pytest.mark.asyncio
async def test_a_stall_is_kept_with_its_stack() -> None:
    async with EdgeRuntime(RuntimeConfig(stall="100ms")) as runtime:
        await asyncio.sleep(0.1)
        time.sleep(0.6)  # noqa: ASYNC251 - it is the stall that is looked for
        await until(lambda: runtime.figures.stalls)
        assert any("time.sleep(0.6)" in stall.stack for stall in runtime.stalls)


@pytest.mark.asyncio
async def test_processes_are_ended_with_the_runtime_and_bounded() -> None:
    runtime = EdgeRuntime(RuntimeConfig(max_processes=2))
    async with runtime:
        child = await runtime.spawn_process(SLEEP, "sleeper", pipes=True)
        assert await child.read_line() == b"up\n"
        short = await runtime.spawn_process([sys.executable, "-c", "print('done')"], "short", pipes=True)
        with pytest.raises(OverloadedError, match="third: 2 processes run already"):
            await runtime.spawn_process(SLEEP, "third")
        assert await short.read_line() == b"done\n"
        assert (await short.wait()).code == 0
        assert runtime.figures.processes == 1
        with pytest.raises(UnavailableError, match=r"none: /no/such/program cannot be run: No such file.*; mend the path"):
            await runtime.spawn_process(["/no/such/program"], "none")
        assert child.pid is not None
        folder = child.spec.run_dir
        assert [path.name for path in folder.iterdir()] == ["sleeper.pid"]
    assert not psutil.pid_exists(child.pid)
    assert not folder.exists()


@pytest.mark.asyncio
async def test_the_end_comes_in_time_and_names_what_did_not_end_by_itself() -> None:
    gate, runtime = Gate(), EdgeRuntime()
    await runtime.__aenter__()
    deaf = await runtime.spawn_process(DEAF, "deaf", pipes=True)
    assert await deaf.read_line() == b"up\n"
    call = asyncio.create_task(runtime.spawn_blocking(gate.call))
    await until(lambda: gate.inside == 1)

    async def stubborn() -> None:
        while not gate._open.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue

    task = runtime.spawn(stubborn(), "stubborn")
    await asyncio.sleep(0)
    assert await runtime.shutdown(0.2) == ["stubborn", "1 blocking calls", "process deaf"]
    assert not deaf.running
    assert await runtime.shutdown() == [], "a second call does nothing"
    for late in (runtime.spawn_blocking(gate.call), runtime.spawn_process(SLEEP, "late")):
        with pytest.raises(UnavailableError, match="the runtime is not running"):
            await late
    with pytest.raises(UnavailableError, match="late: the runtime is not running"):
        runtime.spawn(for_ever(), "late")
    with pytest.raises(UnavailableError):
        runtime.supervise(for_ever, "late")
    gate.open()
    await asyncio.gather(call, task)


PROGRAM = """
import asyncio, sys, time
from skerry import EdgeRuntime, RuntimeConfig

runtime = EdgeRuntime(RuntimeConfig(deadline="300ms"))

async def main():
    child = await runtime.spawn_process([sys.executable, "-c", "import time; time.sleep(60)"], "sleeper")
    call = asyncio.create_task(runtime.spawn_blocking(time.sleep, 60))
    await asyncio.sleep(0.1)
    print(child.pid, flush=True)
    try:
        await call
    finally:
        print("cancelled", flush=True)

try:
    runtime.run(main())
except (asyncio.CancelledError, KeyboardInterrupt) as error:
    print(type(error).__name__, flush=True)
"""


@pytest.mark.parametrize(("number", "said"), [(signal.SIGTERM, "CancelledError"), (signal.SIGINT, "KeyboardInterrupt")])
def test_a_program_ends_on_a_signal_although_a_call_never_returns(number: signal.Signals, said: str) -> None:
    program = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True)
    assert program.stdout is not None
    child = int(program.stdout.readline())
    os.kill(program.pid, number)
    out, _ = program.communicate(timeout=20)
    assert out.split() == ["cancelled", said]
    assert program.returncode == 0
    assert not psutil.pid_exists(child)


def test_children_die_with_a_program_that_is_killed() -> None:
    program = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True)
    assert program.stdout is not None
    child = psutil.Process(int(program.stdout.readline()))
    program.kill()
    program.communicate(timeout=20)
    psutil.wait_procs([child], timeout=5)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
