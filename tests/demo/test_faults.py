"""The schedule of faults: a pure function of the seed, without overlaps, and its truth adds up."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.demo.faults import FAULTS, NORMAL, Episode, FaultSchedule, RecordedTruth

PUMPS = ("pump-1", "pump-2", "pump-3")
START = 1_700_000_000_000_000
SECOND = 1_000_000
seeds = st.integers(0, 2**32)


@given(seeds, st.integers(0, 10_000))
def test_same_seed_same_faults_whatever_was_asked_before(seed: int, number: int) -> None:
    asked, fresh = FaultSchedule(seed, START, PUMPS), FaultSchedule(seed, START, PUMPS)
    for other in range(5):
        asked.episode(other)
    assert asked.episode(number) == fresh.episode(number)


def test_another_seed_has_other_faults() -> None:
    schedules = [FaultSchedule(seed, START, PUMPS) for seed in (1, 2)]
    assert [schedules[0].episode(n) for n in range(6)] != [schedules[1].episode(n) for n in range(6)]


@given(seeds)
def test_first_fault_begins_after_three_seconds_and_a_demo_of_20_s_sees_three(seed: int) -> None:
    schedule = FaultSchedule(seed, START, PUMPS)
    assert schedule.episode(0).start_us == START + 3 * SECOND
    seen = [episode for pump in PUMPS for episode in schedule.episodes(pump, START, START + 20 * SECOND)]
    assert {episode.fault for episode in seen} == set(FAULTS)
    assert {episode.device for episode in seen} == set(PUMPS)


@given(seeds, st.integers(0, 300))
def test_episodes_are_4_to_7_s_long_and_never_two_at_once_on_a_pump(seed: int, number: int) -> None:
    schedule = FaultSchedule(seed, START, PUMPS)
    here, next_turn = schedule.episode(number), schedule.episode(number + len(PUMPS))
    assert 4 * SECOND <= here.end_us - here.start_us <= 7 * SECOND
    assert here.device == next_turn.device
    assert here.end_us < next_turn.start_us


def test_each_kind_comes_as_often_as_the_others() -> None:
    schedule = FaultSchedule(5, START, PUMPS)
    kinds = Counter(schedule.episode(number).fault for number in range(300))
    assert kinds == dict.fromkeys(FAULTS, 100)


def test_a_pumps_next_turn_must_not_come_before_its_fault_is_over() -> None:
    with pytest.raises(ValueError, match="overlap"):
        FaultSchedule(1, START, ["only"], every_s=6.5)
    FaultSchedule(1, START, ["only"], every_s=8.0)


@given(seeds, st.sampled_from(PUMPS), st.integers(-5 * SECOND, 3_600 * SECOND))
def test_truth_at_a_time_is_the_episode_that_covers_it(seed: int, pump: str, offset: int) -> None:
    schedule = FaultSchedule(seed, START, PUMPS)
    at = START + offset
    numbers = range(max(0, offset // (6 * SECOND) + 3))
    covering = [e for e in map(schedule.episode, numbers) if e.device == pump and e.start_us <= at < e.end_us]
    assert schedule.truth(pump, at) == (covering[0].fault if covering else NORMAL)


@given(seeds, st.sampled_from(PUMPS), st.integers(0, 600 * SECOND), st.integers(1, 60 * SECOND))
def test_episodes_of_a_span_are_exactly_those_that_overlap_it(seed: int, pump: str, offset: int, length: int) -> None:
    schedule = FaultSchedule(seed, START, PUMPS)
    begin, end = START + offset, START + offset + length
    every = [schedule.episode(number) for number in range(120)]
    wanted = [e for e in every if e.device == pump and e.start_us < end and e.end_us > begin]
    assert schedule.episodes(pump, begin, end) == wanted
    assert RecordedTruth(every).episodes(pump, begin, end) == wanted


def test_a_fault_grows_on_its_ramp_and_is_gone_at_its_end() -> None:
    episode = Episode("p", "valve", 10 * SECOND, 20 * SECOND, size=0.8, ramp_us=2 * SECOND)
    levels = [episode.level(round(second * SECOND)) for second in (9.9, 10, 11, 12, 19.9, 20)]
    assert levels == [0.0, 0.0, 0.4, 0.8, 0.8, 0.0]


def test_unknown_devices_have_no_faults() -> None:
    assert FaultSchedule(1, START, PUMPS).truth("pump-9", START + 4 * SECOND) == NORMAL
    assert RecordedTruth([]).episodes("rig", 0, 10) == []
