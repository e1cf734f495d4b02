"""Three breaches within an hour are a quarantine, which only a person ends; the counts outlive the node."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.core.clock import SECOND, SystemClock
from skerry.worker import Assignment, WorkerPlan, WorkerPool
from skerry.worker.breaches import LIMIT, PAUSES_S, WINDOW, Breaches, load_breaches, save_breaches

MIB = 1024 * 1024
NOW = 1_800_000_000 * SECOND


def breach(breaches: Breaches, name: str = "pumps", now: int = NOW) -> float | None:
    return breaches.breach(name, 312 * MIB, 256 * MIB, now)


def test_a_pipeline_is_tried_again_later_each_time_and_quarantined_at_the_third() -> None:
    breaches = Breaches()
    assert [breach(breaches, now=NOW + at * SECOND) for at in range(LIMIT)] == [*PAUSES_S, None]
    assert breaches.quarantined == {
        "pumps": "used 312.0 MiB of 256.0 MiB, 3 times; mend: see what its features keep, or raise its resources.memory; "
        "then skerry pipeline resume pumps"
    }


def test_each_pipeline_is_counted_by_itself() -> None:
    breaches = Breaches()
    for name in ("a", "b", "a", "b"):
        assert breach(breaches, name) is not None
    assert breach(breaches, "a") is None
    assert list(breaches.quarantined) == ["a"]


def test_what_is_an_hour_ago_does_not_count_nor_what_a_clock_set_back_left_in_the_future() -> None:
    breaches = Breaches()
    for at in (NOW, NOW + SECOND, NOW + SECOND + WINDOW, NOW - 10 * WINDOW):
        assert breach(breaches, now=at) is not None


def test_who_is_forgiven_begins_anew() -> None:
    breaches = Breaches()
    for _ in range(LIMIT):
        breach(breaches)
    assert breaches.forgive("pumps")
    assert not breaches.forgive("pumps")
    assert breaches.quarantined == {}
    assert breach(breaches) == PAUSES_S[0]


@given(st.lists(st.integers(0, 3 * WINDOW), max_size=30))
def test_the_times_that_are_kept_are_bounded(times: list[int]) -> None:
    breaches = Breaches()
    for at in sorted(times):
        breach(breaches, now=NOW + at)
        kept = breaches.times["pumps"]
        assert all(NOW + at - each < WINDOW for each in kept)


def test_they_outlive_the_node_and_pipelines_that_are_gone_are_forgotten(tmp_path: Path) -> None:
    breaches = Breaches()
    for name in ("a", "a", "a", "b"):
        breach(breaches, name)
    save_breaches(tmp_path / "breaches.json", breaches)
    again = load_breaches(tmp_path / "breaches.json")
    assert again == breaches
    again.keep_only({"b"})
    assert (again.quarantined, list(again.times)) == ({}, ["b"])
    (tmp_path / "breaches.json").write_text("{")
    assert load_breaches(tmp_path / "breaches.json") == Breaches()
    save_breaches(tmp_path / "missing" / "breaches.json", breaches)  # a full disk is no reason to stop


def plan_of(folder: Path) -> WorkerPlan:
    tables = [
        {"name": name, "source": {"topic": "devices/+/v", "values": ["x"]}, "resources": {"memory": "20MiB"}} for name in ("a", "b")
    ]
    given = Assignment(
        node="box", host="", port=0, user="", password="", partition=0, partitions=2, pipelines=tables, models=[], base="", trace=""
    )
    return WorkerPlan(assignment=given, workers=2, run_dir=folder, stall_s=5.0, memory=100 * MIB)


@pytest.mark.asyncio
async def test_a_quarantine_holds_for_all_workers_and_over_a_restart_until_a_person_resumes(tmp_path: Path) -> None:
    told: list[tuple[str, str]] = []
    pool = WorkerPool(plan_of(tmp_path), SystemClock(), lambda: 0, lambda who, words: told.append((who, words)))
    for _ in range(LIMIT):
        await pool._breach("a", 21 * MIB, 20 * MIB)
    assert list(pool.quarantined) == ["a"]
    assert [who for who, _ in told] == ["a"] * LIMIT
    assert told[0][1] == "pipeline a is stopped: it used 21.0 MiB of 20.0 MiB"
    again = WorkerPool(plan_of(tmp_path), SystemClock(), lambda: 0)
    for each in (pool, again):
        assert [worker.paused for worker in each.workers] == [{"a"}, {"a"}]
    assert again.quarantined == pool.quarantined
    await again.command("resume", "a")
    assert again.quarantined == {}
    assert [worker.paused for worker in again.workers] == [set(), set()]
    assert WorkerPool(plan_of(tmp_path), SystemClock(), lambda: 0).quarantined == {}
