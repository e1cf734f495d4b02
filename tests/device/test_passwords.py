"""Passwords at the door: storms and floods cost few hashes, and leave room for those who are right."""

import asyncio
import os
import sys
import threading
from collections.abc import Iterator

import pytest

from skerry.core.clock import SECOND, ManualClock
from skerry.core.errors import CorruptError
from skerry.device import passwords as module
from skerry.device.passwords import (
    HASH_THREADS,
    MOST_A_NAME,
    MOST_A_SOURCE,
    MOST_UNKNOWN,
    MOST_WAITING,
    NICE,
    PasswordChecks,
)
from skerry.trust import PasswordHash, hash_password
from skerry.trust import passwords as trust_passwords
from tests.fixtures.nats import until

PASSWORD = "correct-horse"


@pytest.fixture(autouse=True)
def cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a hash costs is not what is tested here."""
    monkeypatch.setattr(trust_passwords, "LOG2_N", 4)


class Hashes:
    """Counts the hashes that are really computed, and can hold them up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.begun: list[str] = []
        self.go = threading.Event()
        self.go.set()
        self.turns: threading.Semaphore | None = None
        matches = PasswordHash.matches

        def counted(stored: PasswordHash, password: str) -> bool:
            self.count += 1
            self.begun.append(password)
            assert self.turns.acquire(timeout=10) if self.turns else self.go.wait(10)
            return matches(stored, password)

        monkeypatch.setattr(PasswordHash, "matches", counted)


@pytest.fixture
def hashes(monkeypatch: pytest.MonkeyPatch) -> Hashes:
    return Hashes(monkeypatch)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(SECOND)


@pytest.fixture
def checks(clock: ManualClock) -> Iterator[PasswordChecks]:
    checks = PasswordChecks(clock)
    yield checks
    checks.close()


@pytest.fixture
def stored() -> str:
    return hash_password(PASSWORD)


@pytest.mark.asyncio
async def test_the_right_one_is_right_and_all_others_are_wrong(checks: PasswordChecks, stored: str) -> None:
    assert await checks.check("d1", PASSWORD, stored) is True
    assert await checks.check("d1", "wrong-horse", stored) is False
    assert await checks.check("d1", "\ud800", stored) is False
    assert await checks.check("nobody", PASSWORD, "") is False


@pytest.mark.asyncio
async def test_a_storm_of_reconnects_costs_one_hash_a_device(checks: PasswordChecks, stored: str, hashes: Hashes) -> None:
    for _ in range(500):
        assert await checks.check("d1", PASSWORD, stored)
    assert hashes.count == 1
    assert not await checks.check("d1", "wrong-horse", stored)
    assert hashes.count == 2


@pytest.mark.asyncio
async def test_what_is_remembered_is_of_one_record(checks: PasswordChecks, stored: str, hashes: Hashes) -> None:
    assert await checks.check("d1", PASSWORD, stored)
    assert not await checks.check("d1", PASSWORD, hash_password("another-password"))
    assert not await checks.check("d1", PASSWORD, "")
    assert await checks.check("d2", PASSWORD, stored)
    assert hashes.count == 4


@pytest.mark.asyncio
async def test_wrong_passwords_cost_a_hash_now_and_then_only(
    checks: PasswordChecks, stored: str, hashes: Hashes, clock: ManualClock
) -> None:
    for _ in range(50):
        assert not await checks.check("d1", "wrong-horse", stored)
    assert hashes.count == 1
    clock.advance(31 * SECOND)
    assert not await checks.check("d1", "wrong-horse", stored)
    assert hashes.count == 2


@pytest.mark.asyncio
async def test_names_without_a_password_cost_the_same_hash(checks: PasswordChecks, stored: str, hashes: Hashes) -> None:
    for number in range(3):
        assert not await checks.check("d1", f"wrong-{number}-horse", stored)
        assert not await checks.check("nobody", f"wrong-{number}-horse", "")
        assert hashes.count == 2 * (number + 1)


@pytest.mark.asyncio
async def test_a_flood_of_names_leaves_room_for_those_that_are_known(
    checks: PasswordChecks, stored: str, hashes: Hashes
) -> None:  # fmt: skip
    assert await checks.check("remembered", PASSWORD, stored)
    hashes.go.clear()
    flood = [asyncio.create_task(checks.check(f"bot{number}", PASSWORD, "")) for number in range(200)]
    await asyncio.sleep(0.05)
    refused = [task.result() for task in flood if task.done()]
    assert refused == [None] * (200 - MOST_UNKNOWN)
    assert hashes.count <= HASH_THREADS + 1
    assert await checks.check("remembered", PASSWORD, stored)
    known = [asyncio.create_task(checks.check(f"d{number}", PASSWORD, stored)) for number in range(20)]
    await asyncio.sleep(0.05)
    room = min(MOST_A_SOURCE, MOST_WAITING - MOST_UNKNOWN)
    assert sum(task.done() for task in known) == 20 - room
    hashes.go.set()
    answers = await asyncio.gather(*known)
    assert answers.count(True) == room
    assert set(await asyncio.gather(*flood)) == {None, False}
    assert await checks.check("bot", PASSWORD, "") is False, "all is given back"
    assert (checks._at_work, checks._all) == ({}, 0)


@pytest.mark.asyncio
async def test_a_flood_on_one_name_leaves_room_for_the_others(checks: PasswordChecks, stored: str, hashes: Hashes) -> None:
    hashes.go.clear()
    flood = [asyncio.create_task(checks.check("d1", f"wrong-{number}-horse", stored)) for number in range(100)]
    await asyncio.sleep(0.05)
    assert sum(task.done() for task in flood) == 100 - MOST_A_NAME
    others = [
        asyncio.create_task(checks.check("d2", PASSWORD, stored)),
        asyncio.create_task(checks.check("d1", PASSWORD, stored, "10.0.0.7")),
    ]
    await asyncio.sleep(0.01)
    hashes.go.set()
    assert await asyncio.gather(*others) == [True, True]
    await asyncio.gather(*flood)


@pytest.mark.asyncio
async def test_a_flood_of_one_source_on_known_names_leaves_room_for_other_sources(
    checks: PasswordChecks, stored: str, hashes: Hashes
) -> None:  # fmt: skip
    hashes.go.clear()
    # an address of IPv6 costs nothing: its network counts
    sources = [f"2001:db8::{number:x}" for number in range(1, 100)]
    flood = [asyncio.create_task(checks.check(f"d{at % 9}", f"wrong-{at}-horse", stored, each)) for at, each in enumerate(sources)]
    await asyncio.sleep(0.05)
    assert sum(task.done() for task in flood) == len(sources) - MOST_A_SOURCE
    other = asyncio.create_task(checks.check("d1", PASSWORD, stored, "10.0.0.7"))
    await asyncio.sleep(0.01)
    hashes.go.set()
    assert await other is True
    await asyncio.gather(*flood)


@pytest.mark.asyncio
async def test_a_flood_of_both_kinds_leaves_room_for_other_sources(checks: PasswordChecks, stored: str, hashes: Hashes) -> None:
    hashes.go.clear()
    flood = [asyncio.create_task(checks.check(f"bot{number}", PASSWORD, "", "10.0.0.6")) for number in range(50)]
    flood += [asyncio.create_task(checks.check(f"d{at % 9}", f"wrong-{at}-horse", stored, "10.0.0.6")) for at in range(50)]
    await asyncio.sleep(0.05)
    other = asyncio.create_task(checks.check("d1", PASSWORD, stored, "10.0.0.7"))
    await asyncio.sleep(0.01)
    hashes.go.set()
    assert await other is True
    await asyncio.gather(*flood)


@pytest.mark.asyncio
async def test_who_asks_seldom_does_not_wait_for_a_flood(checks: PasswordChecks, stored: str, hashes: Hashes) -> None:
    hashes.turns = threading.Semaphore(0)
    guesses = [(f"d{at % 9}", f"wrong-{at}-horse") for at in range(MOST_A_SOURCE)]
    flood = [asyncio.create_task(checks.check(name, guess, stored, "10.0.0.6")) for name, guess in guesses]
    await asyncio.sleep(0.05)
    other = asyncio.create_task(checks.check("d1", PASSWORD, stored, "10.0.0.7"))
    await asyncio.sleep(0.01)
    hashes.turns.release()  # the threads have two of the flood already; the first that is free takes the other one
    await until(lambda: len(hashes.begun) > HASH_THREADS)
    assert hashes.begun[HASH_THREADS:] == [PASSWORD]
    hashes.turns.release(MOST_A_SOURCE)
    assert await other is True
    assert await asyncio.gather(*flood) == [False] * MOST_A_SOURCE


@pytest.mark.asyncio
async def test_a_record_that_is_none_is_told_and_is_no_answer(checks: PasswordChecks, stored: str) -> None:
    for _ in range(2):
        with pytest.raises(CorruptError):
            await checks.check("d1", PASSWORD, "scrypt$nothing")
    assert (checks._at_work, checks._all, checks._of_source) == ({}, 0, {})
    assert await checks.check("d1", PASSWORD, stored)


@pytest.mark.asyncio
async def test_when_it_ends_nobody_waits_for_ever(checks: PasswordChecks, stored: str, hashes: Hashes) -> None:
    hashes.go.clear()
    asked = [asyncio.create_task(checks.check(f"d{number}", PASSWORD, stored)) for number in range(5)]
    await asyncio.sleep(0.05)
    checks.close()
    hashes.go.set()
    answers = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 5)
    assert [type(each) for each in answers[HASH_THREADS:]] == [asyncio.CancelledError] * (5 - HASH_THREADS)


@pytest.mark.asyncio
async def test_what_took_too_long_is_known_when_it_is_asked_again(checks: PasswordChecks, stored: str, hashes: Hashes) -> None:
    hashes.go.clear()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await checks.check("d1", PASSWORD, stored)
    assert checks._all == 1, "it is under way, and counts"
    hashes.go.set()
    async with asyncio.timeout(5):
        while checks._all:  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)
    hashes.go.clear()
    assert await checks.check("d1", PASSWORD, stored) is True
    assert hashes.count == 1


@pytest.mark.asyncio
@pytest.mark.skipif(sys.platform != "linux", reason="optional: elsewhere a thread has no priority of its own")
async def test_hashing_gives_way(checks: PasswordChecks, stored: str) -> None:
    mine = os.getpriority(os.PRIO_PROCESS, 0)
    assert await checks.check("d1", PASSWORD, stored)
    threads = [each.native_id for each in threading.enumerate() if each.name.startswith("password")]
    assert threads
    # a process that is nicer already may not take that back
    assert {os.getpriority(os.PRIO_PROCESS, each) for each in threads if each} <= {NICE, max(mine, NICE)}
    assert os.getpriority(os.PRIO_PROCESS, 0) == mine


@pytest.mark.asyncio
async def test_memory_stays_bounded(checks: PasswordChecks, stored: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_REMEMBERED", 3)
    monkeypatch.setattr(module, "WRONG_REMEMBERED", 4)
    for number in range(6):
        assert await checks.check(f"d{number}", PASSWORD, stored)
        assert not await checks.check(f"d{number}", "wrong-horse", stored)
    assert len(checks._seen._right) == 3
    assert len(checks._seen._wrong) == 4
