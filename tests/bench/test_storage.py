"""The rows "storage" measure what they say."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from bench import storage
from bench.rows import Options
from bench.storage import block_bytes, measure_archive, measure_sqlite, plain_put, rate_of, readings, total, write_archive


def test_both_keep_every_sample(tmp_path: Path) -> None:
    samples = readings(True, series=2, hours=2)
    assert total(samples) == 2 * 2 * 3600
    mine, theirs = measure_archive(tmp_path / "kv", samples), measure_sqlite(tmp_path / "sqlite", samples)
    assert 0.3 < mine["size"] < theirs["size"] < 60
    assert all(found[name] > 0 for found in (mine, theirs) for name in ("write", "scan", "hour"))


def test_a_sample_is_what_was_written(tmp_path: Path) -> None:
    samples = readings(False, series=1, hours=1)
    archive, store, _ = write_archive(tmp_path / "kv", samples)
    with store:
        times, values = archive.query("box-0/x", 0, 2**62)
        assert np.array_equal(times, samples["box-0/x"][0])
        assert np.array_equal(values, samples["box-0/x"][1])
        assert block_bytes(store) < 3600


def test_sets_are_counted_when_they_are_durable(tmp_path: Path) -> None:
    put = plain_put(tmp_path / "plain")
    rate, lag = asyncio.run(rate_of(put, 4, 0.1))
    assert rate > 0
    assert lag >= 0


@pytest.mark.parametrize("name", ["sets"])
def test_a_row_is_measured_and_told(name: str) -> None:
    said: list[str] = []
    rows = asyncio.run(storage.ROWS[name](Options(rounds=1, seconds=0.1), said.append))
    assert [row.row for row in rows] == [name] * 4
    assert all(row.skerry is not None and row.goal for row in rows)
    assert len(said) == 3
