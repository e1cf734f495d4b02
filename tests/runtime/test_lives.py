"""When a child is started again, and when no more: over a clock of our own, and with a real child that always ends."""

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from skerry.core.clock import SECOND, ManualClock, SystemClock
from skerry.runtime import Child, ChildSpec, Exit, Lives

FAILED = Exit(1, "no model", 1 << 20)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def test_each_waits_longer_than_the_one_before(clock: ManualClock) -> None:
    lives = Lives(clock, limit=100)
    delays = []
    for _ in range(12):
        lives.begin()
        delays.append(lives.end(FAILED, own_fault=True))
    for delay, plain in zip(delays, (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10, 10, 10), strict=True):
        assert plain * 0.8 <= delay <= plain * 1.2
    assert len(set(delays)) == 12
    assert (lives.total, lives.last) == (12, FAILED)


def test_a_long_life_makes_the_next_begin_soon(clock: ManualClock) -> None:
    lives = Lives(clock, limit=100)
    for _ in range(8):
        lives.begin()
        lives.end(FAILED, own_fault=True)
    lives.begin()
    clock.advance(31 * SECOND)
    assert lives.end(None, own_fault=True) <= 0.06
    assert lives.last is None


def test_too_many_ends_by_its_own_fault_and_it_is_quarantined(clock: ManualClock) -> None:
    lives = Lives(clock, limit=3, window_s=60, quarantine_s=300)
    assert [lives.end(FAILED, own_fault=True) < 1 for _ in range(2)] == [True, True]
    assert lives.sentence("worker 0", "no model") == "worker 0 was restarted 2 times: no model"
    assert lives.end(FAILED, own_fault=True) == 300
    assert lives.quarantined
    assert lives.sentence("worker 0", "no model") == (
        "worker 0 is quarantined for 5 minutes, since it ended 3 times within 1: no model"
    )
    clock.advance(10 * SECOND)
    lives.begin()
    assert not lives.quarantined
    assert lives.end(FAILED, own_fault=True) == 300
    clock.advance(300 * SECOND)
    lives.begin()
    assert lives.end(FAILED, own_fault=True) < 12
    assert not lives.quarantined


def test_ends_that_are_far_apart_are_not_too_many(clock: ManualClock) -> None:
    lives = Lives(clock, limit=3, window_s=60)
    for _ in range(10):
        lives.begin()
        clock.advance(31 * SECOND)
        assert lives.end(FAILED, own_fault=True) < 1
    assert not lives.quarantined


def test_ends_from_outside_never_are(clock: ManualClock) -> None:
    lives = Lives(clock, limit=3)
    for _ in range(50):
        lives.begin()
        lives.end(Exit(-signal.SIGKILL, ""), own_fault=False)
    assert (lives.quarantined, lives.total) == (False, 50)


def test_what_has_been_found_is_forgiven(clock: ManualClock) -> None:
    lives = Lives(clock, limit=3)
    for _ in range(9):
        lives.end(FAILED, own_fault=True)
        if lives.total % 2 == 0:
            lives.forgive()
    assert not lives.quarantined


@pytest.mark.parametrize(
    ("code", "outside"),
    [(-signal.SIGKILL, True), (-signal.SIGTERM, True), (-signal.SIGINT, True), (-signal.SIGSEGV, False), (1, False)],
)
def test_who_ended_it(code: int, outside: bool) -> None:
    assert Exit(code, "").from_outside is outside


@pytest.mark.asyncio
async def test_a_real_child_that_always_ends(tmp_path: Path) -> None:
    lives = Lives(SystemClock(), limit=4, quarantine_s=1000)
    argv = [sys.executable, "-S", "-c", "import sys; sys.exit('no model')"]
    waited = []
    while not lives.quarantined:
        lives.begin()
        child = Child(ChildSpec("role", argv, tmp_path))
        await child.start()
        ended = await child.wait()
        waited.append(lives.end(ended, own_fault=not ended.from_outside))
        if not lives.quarantined:
            await asyncio.sleep(waited[-1])
    assert waited[-1] == 1000
    assert lives.last is not None
    assert lives.last.sentence == "exit code 1: no model"
