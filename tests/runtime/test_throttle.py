"""A throttle keeps to its rate whatever is sent, serves alarms first, and loses nothing to who gives up."""

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.core.errors import OverloadedError, RejectedError
from skerry.runtime import ALARM, BULK, Throttle, TokenBucket
from skerry.runtime import throttle as module


@given(st.lists(st.tuples(st.integers(1, 5000), st.floats(0, 3)), min_size=1, max_size=40))
def test_never_more_goes_than_the_burst_and_what_the_time_brings(pieces: list[tuple[int, float]]) -> None:
    rate, burst = 1000.0, 2000.0
    bucket, now, sent = TokenBucket(rate, burst, 0.0), 0.0, 0
    for amount, pause in pieces:
        now += pause
        now += bucket.wait(amount, now)
        assert bucket.wait(amount, now) <= 1e-6
        before = sent
        bucket.spend(amount, now)
        sent += amount
        # a piece larger than the burst goes in one; what follows pays for it
        assert before <= burst + rate * now + 1e-3


@given(st.integers(1, 100_000))
def test_an_alarm_goes_while_one_burst_is_owed(bulk: int) -> None:
    bucket = TokenBucket(1000.0, 2000.0, 0.0)
    bucket.spend(bulk, 0.0)
    alarm, more = bucket.wait(100, 0.0, ALARM), bucket.wait(100, 0.0, BULK)
    assert alarm == max(0.0, (bulk - 2000 + 100 - 2000) / 1000)
    assert alarm <= more


def test_time_that_goes_back_gives_nothing() -> None:
    bucket = TokenBucket(10.0, 10.0, 100.0)
    bucket.spend(10, 100.0)
    assert bucket.wait(10, 50.0) == pytest.approx(1.0)


@pytest.mark.parametrize("rate", [-1.0, float("nan"), float("inf")])
def test_what_is_no_rate_is_refused(rate: float) -> None:
    with pytest.raises(RejectedError, match="no rate"):
        Throttle(rate)


@pytest.mark.asyncio
async def test_without_a_limit_it_only_counts() -> None:
    throttle = Throttle()
    for _ in range(1000):
        await throttle.take(1 << 30)
    throttle.spend(5)
    assert (throttle.sent, throttle.held_s, throttle.rate, throttle.waiting) == (1000 * (1 << 30) + 5, 0.0, 0.0, 0)


@pytest.mark.asyncio
async def test_many_senders_together_keep_to_the_rate() -> None:
    throttle = Throttle(200_000, burst=10_000)
    began = time.monotonic()
    await asyncio.gather(*[throttle.take(1000) for _ in range(70)])
    assert time.monotonic() - began >= (70_000 - 10_000) / 200_000 - 0.01
    assert throttle.sent == 70_000
    assert throttle.held_s > 0.3


@pytest.mark.asyncio
async def test_alarms_overtake_bulk_that_came_before_them() -> None:
    throttle, order = Throttle(50_000, burst=5000), list[str]()

    async def send(name: str, amount: int, priority: int) -> None:
        await throttle.take(amount, priority)
        order.append(name)

    bulk = [asyncio.create_task(send(f"bulk {at}", 5000, BULK)) for at in range(4)]
    await asyncio.sleep(0.01)
    assert throttle.waiting == 3
    alarm = asyncio.create_task(send("alarm", 200, ALARM))
    await asyncio.gather(alarm, *bulk)
    assert order == ["bulk 0", "alarm", "bulk 1", "bulk 2", "bulk 3"]


@pytest.mark.asyncio
async def test_what_goes_through_a_pipelines_throttle_goes_through_the_nodes_too() -> None:
    node = Throttle(100_000, burst=1000)
    one, other = Throttle(0, parent=node), Throttle(10_000_000, parent=node)
    began = time.monotonic()
    await asyncio.gather(*[each.take(1000) for each in (one, other) for _ in range(6)])
    assert time.monotonic() - began >= 0.1
    assert (one.sent, other.sent, node.sent) == (6000, 6000, 12_000)


@pytest.mark.asyncio
async def test_who_gives_up_takes_nothing_and_holds_up_nobody() -> None:
    throttle = Throttle(10_000, burst=1000)
    throttle.spend(1000)
    first = asyncio.create_task(throttle.take(100_000))  # would wait for a tenth of a second and leave a debt of ten
    await asyncio.sleep(0)
    second = asyncio.create_task(throttle.take(10))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    async with asyncio.timeout(5):
        await second
    assert throttle.sent == 1010


@pytest.mark.asyncio
async def test_the_queue_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 2)
    throttle = Throttle(1, burst=1)
    throttle.spend(100)
    waiting = [asyncio.create_task(throttle.take(1)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError, match="wait for bandwidth"):
        await throttle.take(1)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert throttle.waiting == 0
