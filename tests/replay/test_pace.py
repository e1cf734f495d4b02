"""The pace of a replay that reads from a node at work."""

import time
from collections.abc import Iterator

from skerry.replay import pace as pace_module
from skerry.replay.pace import gently


def slow(seconds: float, count: int) -> Iterator[int]:
    for at in range(count):
        time.sleep(seconds)
        yield at


def test_after_each_page_comes_a_rest_as_long_as_the_page_took() -> None:
    began = time.monotonic()
    assert list(gently(slow(0.03, 4))) == [0, 1, 2, 3]
    assert time.monotonic() - began >= 0.23


def test_pages_that_cost_nothing_are_not_held_up_and_no_rest_is_long() -> None:
    assert list(gently(iter(range(10_000)))) == list(range(10_000))
    assert pace_module.MOST_REST_S <= 1.0
