"""Threads for blocking calls: how many, on which stacks, how many wait, and what happens to those that nobody waits for."""

import asyncio
import contextvars
import ctypes
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from skerry.core.errors import ConfigError, OverloadedError, UnavailableError
from skerry.runtime.blocking import BlockingPool, StackedExecutor, check_stack
from tests.fixtures.nats import until

MIB = 1 << 20
ROOT = Path(__file__).parents[2]


def stack_size() -> int:
    """Bytes of the stack of the thread that calls this, as the C library says."""
    libc = ctypes.CDLL(None)
    libc.pthread_self.restype = ctypes.c_ulong
    attributes, size = ctypes.create_string_buffer(256), ctypes.c_size_t()
    assert libc.pthread_getattr_np(ctypes.c_ulong(libc.pthread_self()), attributes) == 0
    assert libc.pthread_attr_getstacksize(attributes, ctypes.byref(size)) == 0
    libc.pthread_attr_destroy(attributes)
    return size.value


@asynccontextmanager
async def pool_of(threads: int = 2, queue: int = 2, stack: int = MIB) -> AsyncIterator[BlockingPool]:
    pool = BlockingPool(threads, queue, stack, "test")
    try:
        yield pool
    finally:
        assert await pool.close(5) == 0


class Gate:
    """A call that blocks until it is let go; counts how many are inside at once."""

    def __init__(self) -> None:
        self.inside = self.most = 0
        self._open = threading.Event()
        self._lock = threading.Lock()

    def call(self, answer: int = 0) -> int:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        self._open.wait(10)
        with self._lock:
            self.inside -= 1
        return answer

    def open(self) -> None:
        self._open.set()


@pytest.mark.parametrize("size", [0, 4096, 64 * 1024 - 1, (1 << 30) + 1])
def test_a_stack_that_no_thread_could_have_is_refused(size: int) -> None:
    with pytest.raises(ConfigError, match="thread_stack_size: a stack of"):
        check_stack(size)


def test_stacks_are_whole_pages_and_pools_have_at_least_one_of_each() -> None:
    assert check_stack(64 * 1024) == 64 * 1024
    assert check_stack(64 * 1024 + 1) == 68 * 1024
    for threads, queue, what in ((0, 1, "threads"), (1, 0, "queue")):
        with pytest.raises(ConfigError, match=f"{what} of a pool is 0"):
            BlockingPool(threads, queue)


async def default_stack(size: int) -> int:
    """The stack of a thread that `asyncio.to_thread` uses where such an executor is the loop's default."""
    asyncio.get_running_loop().set_default_executor(StackedExecutor(2, size))
    return await asyncio.to_thread(stack_size)


async def stacks(sizes: list[int]) -> list[int]:
    """The stacks that threads of pools, and of executors, of these sizes really have."""
    found = []
    for size in sizes:
        async with pool_of(stack=size) as pool:
            found.append(await pool.run(stack_size))
        with StackedExecutor(1, size) as executor:
            found.append(await asyncio.get_running_loop().run_in_executor(executor, stack_size))
        assert threading.stack_size() == 0, "other threads are as they were"
    return found


def test_threads_have_stacks_of_the_size_that_is_set() -> None:
    """In a process of its own: where others had threads, the C library may give a larger stack that one of those has left."""
    sizes = [64 * 1024, 256 * 1024, 3 * MIB]
    program = (
        f"import asyncio; from {__name__} import default_stack, stacks; from skerry.runtime import run_loop\n"
        f"print(*asyncio.run(stacks({sizes})), run_loop(default_stack({5 * MIB})))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert [int(size) for size in done.stdout.split()] == [*[size for size in sizes for _ in range(2)], 5 * MIB]


@pytest.mark.asyncio
async def test_answers_errors_and_context_go_back_and_forth() -> None:
    word = contextvars.ContextVar("word", default="none")
    word.set("mine")

    def fail(what: type[BaseException]) -> None:
        raise what("in the thread")

    async with pool_of() as pool:
        assert await pool.run(divmod, 17, 5) == (3, 2)
        assert await pool.run(dict, a=1) == {"a": 1}
        assert await pool.run(word.get) == "mine"
        for kind in (ValueError, KeyboardInterrupt):
            with pytest.raises(kind, match="in the thread"):
                await pool.run(fail, kind)
        with pytest.raises(RuntimeError, match="StopIteration"):
            await pool.run(fail, StopIteration)
        assert await pool.run(threading.current_thread) is not threading.main_thread()
        assert pool.figures.done == 7
        assert pool.figures.threads == 1, "a thread that is idle is used again"


@pytest.mark.asyncio
async def test_threads_and_queue_are_bounded_and_who_comes_then_waits_in_order() -> None:
    gate = Gate()
    async with pool_of(threads=2, queue=3) as pool:
        order: list[int] = []

        async def one(number: int) -> None:
            order.append(await pool.run(gate.call, number))

        tasks = [asyncio.create_task(one(number)) for number in range(9)]
        await until(lambda: gate.inside == 2)
        figures = pool.figures
        assert (figures.threads, figures.running, figures.queued, figures.waiting) == (2, 2, 3, 4)
        with pytest.raises(OverloadedError, match="test: all 2 threads are busy and the queue is full; try again later"):
            await pool.try_run(gate.call)
        assert pool.figures.refused == 1
        gate.open()
        await asyncio.gather(*tasks)
        assert sorted(order) == list(range(9))
        assert gate.most == 2
        assert (pool.figures.running, pool.figures.queued, pool.figures.waiting) == (0, 0, 0)
        assert await pool.try_run(gate.call, 7) == 7


@pytest.mark.asyncio
async def test_a_call_that_is_cancelled_before_it_begins_never_runs_and_frees_its_place() -> None:
    gate = Gate()
    ran: list[str] = []
    async with pool_of(threads=1, queue=1) as pool:
        running = asyncio.create_task(pool.run(gate.call, 1))
        queued = asyncio.create_task(pool.run(ran.append, "queued"))
        waiting = asyncio.create_task(pool.run(ran.append, "waiting"))
        last = asyncio.create_task(pool.run(ran.append, "last"))
        await until(lambda: pool.figures.waiting == 2)
        queued.cancel()
        await until(lambda: pool.figures.waiting == 1)
        assert pool.figures.queued == 1, "the next one has the place"
        waiting.cancel()
        await until(lambda: pool.figures.waiting == 0)
        gate.open()
        assert await running == 1
        await last
        assert ran == ["last"]
        assert pool.figures.abandoned == 0


@pytest.mark.asyncio
async def test_a_call_that_is_cancelled_later_runs_on_unheard() -> None:
    gate = Gate()
    async with pool_of(threads=1, queue=1) as pool:
        running = asyncio.create_task(pool.run(gate.call, 1))
        await until(lambda: gate.inside == 1)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert (pool.figures.abandoned, pool.figures.running) == (1, 1)
        assert not pool._places.locked()
        after = asyncio.create_task(pool.run(gate.call, 2))
        gate.open()
        assert await after == 2
        assert pool.figures.done == 2


@pytest.mark.asyncio
async def test_at_the_end_what_was_taken_runs_and_nothing_more_is_taken() -> None:
    gate = Gate()
    pool = BlockingPool(1, 3, name="test")
    tasks = [asyncio.create_task(pool.run(gate.call, number)) for number in range(3)]
    await until(lambda: gate.inside == 1)
    closing = asyncio.create_task(pool.close(5))
    await asyncio.sleep(0)
    with pytest.raises(UnavailableError, match="it is shut down"):
        await pool.run(gate.call)
    gate.open()
    assert await closing == 0
    assert await asyncio.gather(*tasks) == [0, 1, 2]
    await until(lambda: not [thread for thread in pool._threads if thread.is_alive()])


@pytest.mark.asyncio
async def test_the_end_comes_in_time_also_beside_a_call_that_never_returns() -> None:
    gate = Gate()
    pool = BlockingPool(1, 1, name="test")
    stuck, queued, waiting = (asyncio.create_task(pool.run(gate.call, number)) for number in range(3))
    await until(lambda: pool.figures.waiting == 1 and gate.inside == 1)
    began = time.monotonic()
    assert await pool.close(0.05) == 1
    assert time.monotonic() - began < 5
    for task, why in ((queued, "shut down before the call began"), (waiting, "it is shut down")):
        with pytest.raises(UnavailableError, match=why):
            await task
    gate.open()
    assert await stuck == 0, "its answer is still heard"


def test_a_loop_that_is_gone_ends_the_thread() -> None:
    gate = Gate()
    loop = asyncio.new_event_loop()
    pool = BlockingPool(1, 1, name="test")

    async def leave() -> None:
        task = asyncio.create_task(pool.run(gate.call))
        await until(lambda: gate.inside == 1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    loop.run_until_complete(leave())
    loop.close()
    gate.open()
    pool._threads[0].join(5)
    assert not pool._threads[0].is_alive()


@pytest.mark.asyncio
async def test_many_calls_of_many_tasks_are_all_answered() -> None:
    async with pool_of(threads=4, queue=16) as pool:
        assert await asyncio.gather(*[pool.run(pow, number, 2) for number in range(500)]) == [number**2 for number in range(500)]
        assert pool.figures.threads <= 4
        assert pool.figures.done == 500
