"""The rows "inference" measure what they say, on models that cost what they should."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench.inference import ROWS, paced, raw_rate, raw_session, write_cnn, write_tiny, write_wide
from bench.rows import Options


@pytest.mark.parametrize(
    ("write", "name", "shape"), [(write_cnn, "x", (1, 128)), (write_wide, "x", (640,)), (write_tiny, "features", (24,))]
)
def test_the_models_take_any_number_of_rows(
    tmp_path: Path, write: Callable[[Path], None], name: str, shape: tuple[int, ...]
) -> None:
    path = tmp_path / "model.onnx"
    write(path)
    session = raw_session(path)
    feed = {name: np.random.default_rng(1).normal(0, 1, (8, *shape)).astype(np.float32)}
    (together,) = session.run(None, feed)
    (first,) = session.run(None, {name: feed[name][:1]})
    np.testing.assert_allclose(together[:1], first, rtol=1e-3, atol=1e-4)
    assert raw_rate(session, feed, 4, 0.02) > 0


@pytest.mark.parametrize("name", ["concurrent", "stream", "overhead", "one_caller", "cpu_200"])
def test_a_row_is_measured_and_told(name: str) -> None:
    said: list[str] = []
    (row,) = asyncio.run(ROWS[name](Options(rounds=2, seconds=0.1), said.append))
    assert row.row == name
    assert len(said) == len(row.rounds["skerry"]) == 2
    assert row.skerry is not None
    assert row.goal
    if name != "overhead":
        assert row.peer is not None
        assert row.peer > 0


def test_a_paced_call_is_made_two_hundred_times_a_second() -> None:
    calls = 0

    async def call() -> None:
        nonlocal calls
        calls += 1

    asyncio.run(paced(call, 0.2))
    assert 1 <= calls <= 42
