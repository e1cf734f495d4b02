"""Back-off, bounded restarts, supervision and the bell."""

import asyncio
import random

import pytest

from skerry.core.clock import SECOND, ManualClock, SystemClock
from skerry.core.service import Backoff, Bell, Restarts, beat, cancel_and_wait, supervise, until_one_ends


class ListedLog:
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def debug(self, event: str, **fields: object) -> None:
        self.lines.append(event)

    info = warning = error = debug


def test_delays_double_up_to_the_most_with_a_fifth_of_jitter() -> None:
    backoff = Backoff(0.2, 10.0, random.Random(1))
    delays = [backoff.next() for _ in range(2000)]
    for delay, plain in zip(delays, (0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0), strict=False):
        assert plain * 0.8 <= delay <= plain * 1.2
    assert max(delays) <= 12.0
    assert len(set(delays)) > 1900
    backoff.reset()
    assert backoff.next() <= 0.24


def test_restarts_are_counted_within_a_window() -> None:
    clock = ManualClock()
    restarts = Restarts(clock, limit=3, window=10.0)
    for _ in range(3):
        assert not restarts.exhausted
        restarts.note()
        clock.advance(SECOND)
    assert restarts.exhausted
    clock.advance(8 * SECOND)
    assert not restarts.exhausted
    assert restarts.total == 3


@pytest.mark.asyncio
async def test_what_fails_or_ends_is_started_again_and_the_reason_is_said() -> None:
    log, runs, thrice = ListedLog(), 0, asyncio.Event()

    async def fails() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise ValueError("no disk")
        if runs == 3:
            thrice.set()

    task = asyncio.create_task(supervise(fails, "the store", SystemClock(), log))
    await asyncio.wait_for(thrice.wait(), 5)
    await cancel_and_wait(task)
    assert task.cancelled()
    assert log.lines[0].startswith("the store stopped: no disk; starting it again in 0.")
    assert log.lines[1].startswith("the store stopped: it ended")


@pytest.mark.asyncio
async def test_cancelling_waits_for_the_end_and_takes_any_end() -> None:
    ended: list[str] = []

    async def stubborn() -> None:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
            ended.append("a")
            raise ValueError("while ending") from None

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    await cancel_and_wait(task)
    assert ended == ["a"]
    await cancel_and_wait()


@pytest.mark.asyncio
async def test_a_bell_wakes_all_who_wait_and_nobody_waits_for_ever() -> None:
    bell, loop = Bell(), asyncio.get_running_loop()
    waiting = [asyncio.create_task(bell.wait(10)) for _ in range(3)]
    await asyncio.sleep(0)
    bell.ring()
    await asyncio.wait_for(asyncio.gather(*waiting), 1)
    began = loop.time()
    await bell.wait(0.05)
    assert 0.04 < loop.time() - began < 2
    bell.ring()


@pytest.mark.asyncio
async def test_a_bell_that_nobody_rings_keeps_nothing_of_those_who_went() -> None:
    """An outlet of an uplink without news waits once a second for days."""
    bell = Bell()
    for _ in range(100):
        await bell.wait(0)
    gone = asyncio.create_task(bell.wait(60))
    await asyncio.sleep(0)
    assert len(bell._waiting) == 1
    await cancel_and_wait(gone)
    assert not bell._waiting


@pytest.mark.asyncio
async def test_all_that_look_at_the_same_beat_wake_the_loop_together() -> None:
    loop = asyncio.get_running_loop()
    woken: list[float] = []

    async def look(begin: float) -> None:
        await asyncio.sleep(begin)
        for _ in range(3):
            asked = loop.time()
            await beat(0.2)
            assert loop.time() - asked >= 0.09  # never at once, so that nobody looks without a pause
            woken.append(loop.time())

    await asyncio.gather(*(look(begin) for begin in (0.0, 0.03, 0.05)))
    # of a loop that is late they are late together
    assert len({round(at, 2) for at in woken}) <= 5
    assert len(woken) == 9


@pytest.mark.asyncio
async def test_the_first_that_ends_ends_the_others() -> None:
    ended: list[str] = []

    async def work(name: str, seconds: float, error: Exception | None = None) -> None:
        try:
            await asyncio.sleep(seconds)
            if error is not None:
                raise error
        finally:
            ended.append(name)

    await until_one_ends(work("long", 60), work("short", 0.01))
    assert sorted(ended) == ["long", "short"]
    with pytest.raises(ValueError, match="broken"):
        await until_one_ends(work("long", 60), work("bad", 0.01, ValueError("broken")))
    sign: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.01, sign.set_result, "gone")
    await until_one_ends(work("signed", 60), signs=[sign])
    assert ended[-1] == "signed"
    other: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    await until_one_ends(work("short", 0.01), signs=[other])
    assert not other.done()
