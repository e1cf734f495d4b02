"""How a model is measured: within its budget, so often and no oftener, and beside others who want the interpreter too."""

import threading
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.core.clock import ManualClock
from skerry.core.errors import RejectedError
from skerry.inference.batching.runs import FEW_SIZES, SIZES, UNMEASURED, Runner
from skerry.inference.engine.signature import Signature

few = settings(max_examples=40, deadline=None)
ROW = {"x": np.zeros((1, 2), np.float32)}


class Paced:
    """A session (`engine.Session`) whose runs take as long as they are told: `y = x`.

    Args:
        seconds: of a run, by its rows. most: rows that it takes.
    """

    engine: Literal["onnxruntime", "openvino"] = "onnxruntime"
    note = ""

    def __init__(self, clock: ManualClock, seconds: Callable[[int], float], most: int = 10_000) -> None:
        self.inputs = [Signature("x", "float32", (None, 2))]
        self.outputs = [Signature("y", "float32", (None, 2))]
        self.metadata: dict[str, str] = {}
        self.ran: list[int] = []
        self._clock = clock
        self._seconds = seconds
        self._most = most

    def run(self, feed: Mapping[str, Any], wanted: Sequence[str] | None = None) -> dict[str, Any]:
        rows = len(feed["x"])
        if rows > self._most:
            raise RejectedError("too many rows")
        self.ran.append(rows)
        self._clock.advance(int(1e6 * self._seconds(rows)))
        return {"y": feed["x"]}

    def close(self) -> None:
        pass


def made(seconds: Callable[[int], float], most: int = 10_000) -> tuple[Runner, Paced]:
    clock = ManualClock()
    session = Paced(clock, seconds, most)
    return Runner(session, "rows", "", clock=clock), session


def test_a_short_run_is_repeated_so_often_and_no_oftener() -> None:
    runner, session = made(lambda rows: 10e-6)
    assert runner.measure(ROW, (1, 4), 0.05) == pytest.approx({1: 10e-6, 4: 10e-6})
    assert session.ran == [1] * 6 + [4] * 6  # one to warm up, and five


def test_a_clock_that_stands_still_ends_it_too() -> None:
    runner, session = made(lambda rows: 0.0)
    assert runner.measure(ROW, FEW_SIZES, 0.05) == dict.fromkeys(FEW_SIZES, 0.0)
    assert len(session.ran) == 6 * len(FEW_SIZES)


def test_a_long_run_is_made_three_times_at_most() -> None:
    runner, session = made(lambda rows: 0.003 * rows)
    assert runner.measure(ROW, FEW_SIZES, 0.05) == pytest.approx({1: 0.003, 4: 0.012})
    assert session.ran == [1] * 3 + [4] * 3


def test_the_fastest_run_counts() -> None:
    times = iter([9e-3, 4e-4, 1e-4, 5e-4, *[3e-4] * 100])
    runner, _ = made(lambda rows: next(times))
    assert runner.measure(ROW, (1,), 0.05) == pytest.approx({1: 1e-4})


@few
@given(st.floats(1e-6, 0.02), st.floats(0, 1e-3), st.floats(0.005, 0.3))
def test_measuring_keeps_to_its_budget(base: float, each: float, budget: float) -> None:
    """But for the first size, which is always measured, since something must be known."""
    runner, session = made(lambda rows: base + each * rows)
    measured = runner.measure(ROW, SIZES, budget)
    spent = sum(int(1e6 * (base + each * rows)) for rows in session.ran) / 1e6
    assert 1 in measured
    assert list(measured) == list(SIZES[: len(measured)])
    assert spent <= budget + 3 * (base + each) + max(base + each * rows for rows in session.ran) * 3


def test_a_size_that_the_model_refuses_ends_it() -> None:
    runner, _ = made(lambda rows: 1e-5, most=16)
    assert list(runner.measure(ROW, SIZES, 0.5)) == [1, 2, 4, 8, 16]


def test_the_batch_is_as_large_as_gains_anything() -> None:
    runner, _ = made(lambda rows: 100e-6 + 1e-6 * rows)
    runner.tune(ROW, SIZES, 2.0)
    assert runner.max_batch == 512
    runner, _ = made(lambda rows: 100e-6 * rows)
    runner.tune(ROW, SIZES, 2.0)
    assert runner.max_batch == 8  # its run takes 0.8 ms: what is around a run is of no weight any more
    runner, _ = made(lambda rows: 1e-5)
    assert runner.tune(None, SIZES, 2.0) == {}
    assert runner.max_batch == UNMEASURED


def test_others_have_their_turns_meanwhile() -> None:
    """A thread that takes the interpreter back as soon as it has let it go leaves an event loop beside it none for milliseconds."""
    turns, ended, seen = 0, threading.Event(), []

    def other() -> None:
        nonlocal turns
        while not ended.wait(0):
            turns += 1

    def busy(rows: int) -> float:
        seen.append(turns)
        return 10e-6

    runner, _ = made(busy)
    beside = threading.Thread(target=other)
    beside.start()
    try:
        runner.measure(ROW, (1, 2, 4), 0.05)
    finally:
        ended.set()
        beside.join()
    between = [after - before for before, after in pairwise(seen)]
    assert sum(each > 0 for each in between) >= len(between) // 4
