"""The cluster's rows: what is measured is when others ran what the dead one had."""

import pytest

from bench import __main__ as bench
from bench.cluster import ROWS
from bench.rows import Options
from tests.cluster.machines import taken_over

LINES = [
    ("p/0", "a", 1, 9.9),
    ("p/1", "b", 1, 9.9),
    ("p/0", "b", 1, 13.0),
    ("p/0", "b", 1, 14.0),
    ("p/2", "c", 2, 13.5),
    ("p/2", "a", 2, 20.0),
]


def test_the_last_partition_counts() -> None:
    assert taken_over(LINES, {"p/0", "p/2"}, "a", 10.0) == pytest.approx(3.5)
    assert taken_over(LINES, {"p/0"}, "a", 10.0) == pytest.approx(3.0)


def test_who_had_nothing_gives_no_figure() -> None:
    assert taken_over(LINES, set(), "a", 10.0) is None


def test_what_nobody_took_over_is_an_error() -> None:
    with pytest.raises(ValueError, match="empty"):
        taken_over(LINES, {"p/9"}, "a", 10.0)


@pytest.mark.asyncio
async def test_joining_is_measured() -> None:
    (row,) = await ROWS["join"](Options(rounds=2), lambda text: None)
    assert row.skerry is not None
    assert 0 < row.skerry < 20
    assert len(row.rounds["skerry"]) == 2


def test_the_group_is_there() -> None:
    assert set(bench.GROUPS["cluster"]) == {"failover", "takeover", "find", "join"}
