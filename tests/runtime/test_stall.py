"""The watch over an event loop: a loop that is held up is told of with the line that does it, one that sleeps is not."""

import asyncio
import logging
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from skerry.core.clock import SystemClock
from skerry.core.errors import ConfigError
from skerry.runtime.stall import LoopWatch, Stall, stack_of

STALL_S = 0.1


@asynccontextmanager
async def watched(stall_s: float = STALL_S) -> AsyncIterator[tuple[LoopWatch, list[Stall]]]:
    told: list[Stall] = []
    watch = LoopWatch(stall_s, SystemClock().monotonic, told.append)
    watch.start()
    try:
        yield watch, told
    finally:
        watch.stop()
        assert not [thread for thread in threading.enumerate() if thread.name == "loop-watch"]


def hold_up(seconds: float) -> None:
    """The line that a report must name: it sleeps on the loop."""
    time.sleep(seconds)


def compute(seconds: float) -> int:
    end, rounds = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        rounds += 1
    return rounds


@pytest.mark.asyncio
@pytest.mark.parametrize("work", [hold_up, compute])
async def test_a_loop_that_is_held_up_is_told_of_with_the_stack_that_does_it(work: Callable[[float], object]) -> None:
    async with watched() as (watch, told):
        await asyncio.sleep(STALL_S)
        work(5 * STALL_S)
        await asyncio.sleep(STALL_S)
        assert told == list(watch.stalls)
        assert watch.count == len(told)
        stall = max(told, key=lambda each: each.seconds)
        *_, line = stall.stack.splitlines()
        assert "test_stall.py:" in line
        assert f" {work.__name__}: " in line
        assert "test_a_loop_that_is_held_up" in stall.stack, "who called it is told too"
        assert stall.seconds > 3 * STALL_S, "in the end it knows how long it took"
        assert watch.lag_s > 3 * STALL_S


@pytest.mark.asyncio
async def test_it_is_told_while_it_lasts() -> None:
    async with watched() as (_, told):
        await asyncio.sleep(STALL_S)
        end = time.monotonic() + 5
        while not told and time.monotonic() < end:
            hold_up(0.005)
        assert told
        assert "test_it_is_told_while_it_lasts" in told[0].stack


@pytest.mark.asyncio
async def test_a_loop_that_has_nothing_to_do_or_many_short_things_is_not_held_up() -> None:
    async with watched(1.0) as (watch, told):
        await asyncio.sleep(0.3)
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            compute(0.005)
            await asyncio.sleep(0)
        assert (told, watch.count) == ([], 0)
        assert watch.lag_s < 1.0


@pytest.mark.asyncio
async def test_each_stall_is_told_once_and_those_kept_are_bounded() -> None:
    async with watched(0.01) as (watch, told):
        for _ in range(20):
            hold_up(0.03)
            await asyncio.sleep(0.01)
        assert watch.count == len(told) >= 18
        assert len(watch.stalls) == 16


@pytest.mark.asyncio
async def test_native_code_that_lets_no_other_thread_run_is_told_without_a_stack() -> None:
    async with watched() as (watch, told):
        await asyncio.sleep(STALL_S)
        before = sys.getswitchinterval()
        sys.setswitchinterval(10)  # no other thread gets the interpreter, as with native code that keeps it
        try:
            compute(4 * STALL_S)
        finally:
            sys.setswitchinterval(before)
        await asyncio.sleep(STALL_S)
        assert watch.count == len(told) >= 1
        assert max(each.seconds for each in told) > 2 * STALL_S


@pytest.mark.asyncio
async def test_by_default_it_is_logged(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)  # a command that ran in this process may have asked for errors only
    watch = LoopWatch(0.05, SystemClock().monotonic)
    watch.start()
    await asyncio.sleep(0.05)
    hold_up(0.3)
    await asyncio.sleep(0.05)
    watch.stop()
    out = capsys.readouterr().out + caplog.text  # where it goes depends on whether the log was configured before
    assert "the event loop has been held up for 0." in out
    assert "hold_up: time.sleep(seconds)" in out


@pytest.mark.parametrize("stall_s", [0.0, 0.009, -1.0, float("nan"), 3601.0])
def test_a_time_that_is_none_is_refused(stall_s: float) -> None:
    with pytest.raises(ConfigError, match="is no time for a stall"):
        LoopWatch(stall_s, SystemClock().monotonic)


def test_a_stack_is_told_from_the_outside_in_and_is_short() -> None:
    def deep(depth: int) -> str:
        return deep(depth - 1) if depth else stack_of(sys._getframe())

    lines = deep(40).splitlines()
    assert len(lines) == 12
    assert all(" deep: return deep" in line for line in lines)
    assert stack_of(None) == ""
