"""Live scores against what the same windows give when counted at leisure."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.demo.faults import NORMAL, Episode, RecordedTruth
from skerry.demo.score import ScoredWindow, Scorer, majority

SECOND = 1_000_000


def window(at: float, score: float, device: str = "p", label: str = "valve", seen: float = 0.0) -> ScoredWindow:
    start = round(at * SECOND)
    return ScoredWindow(device, start, start + SECOND, label, score, seen_us=round(seen * SECOND))


def episode(start: float, end: float, fault: str = "valve", device: str = "p") -> Episode:
    return Episode(device, fault, round(start * SECOND), round(end * SECOND))


def scorer(*episodes: Episode) -> Scorer:
    return Scorer(RecordedTruth(episodes))


def test_before_the_first_window_there_is_nothing_to_say() -> None:
    scores = scorer().scores()
    assert (scores.windows, scores.precision, scores.recall, scores.f1, scores.delay_s) == (0, None, None, None, None)


def test_counts_precision_and_recall() -> None:
    live = scorer(episode(2, 5))
    for at, score in enumerate([0.1, 0.7, 0.2, 0.9, 0.9, 0.6, 0.1]):
        live.add(window(at, score))
    scores = live.scores()
    assert (scores.true_positives, scores.false_positives) == (2, 2)
    assert (scores.false_negatives, scores.true_negatives) == (1, 2)
    assert (scores.precision, scores.recall, scores.f1) == (0.5, pytest.approx(2 / 3), pytest.approx(4 / 7))


@pytest.mark.parametrize(("begins", "label"), [(0.49, "leak"), (0.5, "leak"), (0.51, NORMAL), (1.0, NORMAL)])
def test_a_window_is_faulty_when_at_least_half_of_it_is(begins: float, label: str) -> None:
    assert scorer(episode(begins, 9, "leak")).add(window(0, 0.0)) == label
    assert majority([episode(begins, 9, "leak")], 0, SECOND) == label


def test_the_kind_is_judged_among_the_faults_found() -> None:
    live = scorer(episode(0, 4, "leak"))
    for at, label in enumerate(["leak", "valve", "leak", "leak"]):
        live.add(window(at, 0.9 if at < 3 else 0.0, label=label))
    assert live.scores().kind_accuracy == pytest.approx(2 / 3)


def test_delay_is_from_the_onset_to_the_end_of_the_first_window_that_found_it() -> None:
    live = scorer(episode(2.25, 6))
    for at, score in enumerate([0, 0, 0, 1, 1, 1, 0]):
        live.add(window(at, score))
    scores = live.scores()
    assert (scores.detected, scores.missed, scores.delay_s) == (1, 0, 1.75)


def test_delay_is_up_to_when_the_window_was_seen_where_that_is_known() -> None:
    live = scorer(episode(2.25, 6))
    live.add(window(3, 1, seen=4.5))
    assert live.scores().delay_s == 2.25


def test_delay_is_the_median_over_episodes() -> None:
    live = scorer(episode(0, 3), episode(10, 13), episode(20, 23))
    for at, score in [(0, 1), (10, 0), (11, 0), (12, 1), (20, 0), (21, 1), (22, 1)]:
        live.add(window(at, score))
    assert live.scores().delay_s == 2.0


def test_an_episode_is_open_then_missed() -> None:
    live = scorer(episode(1, 3))
    live.add(window(1, 0.0))
    live.add(window(2, 0.0))
    assert (live.scores().episodes, live.scores().missed) == (1, 0)
    live.add(window(3, 0.9))
    assert (live.scores().episodes, live.scores().missed, live.scores().detected) == (1, 1, 0)


def test_a_false_alarm_is_a_run_that_touches_no_fault_and_counts_once() -> None:
    live = scorer(episode(10, 14))
    for at in range(20):
        live.add(window(at, 1.0 if at in (1, 2, 3, 9, 10, 11, 14, 17) else 0.0))
    # 1-3 and 17 are false; 9-11 begins early but reaches the fault; 14 comes after it
    assert live.scores().false_alarms == 3


def test_firing_wins_over_the_score_where_it_is_known() -> None:
    live = scorer(episode(0, 2))
    live.add(ScoredWindow("p", 0, SECOND, "valve", 0.1, firing=True))
    live.add(ScoredWindow("p", SECOND, 2 * SECOND, "valve", 0.9, firing=False))
    assert (live.scores().true_positives, live.scores().false_negatives) == (1, 1)


def test_a_window_that_comes_again_or_too_late_is_not_counted() -> None:
    live = scorer()
    assert live.add(window(5, 0.0)) == NORMAL
    assert live.add(window(5, 0.0)) is None
    assert live.add(window(4, 0.0)) is None
    assert live.add(ScoredWindow("p", 9, 9, "valve", 1.0)) is None
    assert (live.scores().windows, live.scores().ignored) == (1, 3)


def test_memory_is_bounded() -> None:
    many = [episode(4 * n, 4 * n + 2) for n in range(500)]
    live = Scorer(RecordedTruth(many), max_devices=2, max_delays=10)
    for at in range(2_000):
        live.add(window(at, 1.0 if at % 4 < 2 else 0.0))
    assert live.scores().detected == 500
    assert len(live._delays) == 10
    assert sum(len(device.open) + len(device.found) for device in live._devices.values()) <= 2
    live.add(window(0, 0.0, device="q"))
    assert live.add(window(0, 0.0, device="r")) is None
    assert live.scores().ignored == 1


cells = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


@given(cells, cells)
def test_windows_add_up_whatever_comes(first: list[tuple[bool, bool]], second: list[tuple[bool, bool]]) -> None:
    """Two devices at once, faults that fill whole windows: the counts are those of two lists of booleans."""
    rows = {"a": first, "b": second}
    episodes = [episode(at, at + 1, device=d) for d, row in rows.items() for at, (true, _) in enumerate(row) if true]
    live = Scorer(RecordedTruth(episodes))
    for at in range(max(map(len, rows.values()))):
        for device, row in rows.items():
            if at < len(row):
                live.add(window(at, float(row[at][1]), device=device))
    every = first + second
    scores = live.scores()
    assert scores.windows == len(every)
    assert scores.true_positives == sum(true and said for true, said in every)
    assert scores.false_positives == sum(said and not true for true, said in every)
    assert scores.false_negatives == sum(true and not said for true, said in every)
    assert scores.detected == scores.true_positives
    assert scores.episodes == len(episodes)
    if scores.precision and scores.recall:
        harmonic = 2 * scores.precision * scores.recall / (scores.precision + scores.recall)
        assert scores.f1 == pytest.approx(harmonic)


@given(st.lists(st.booleans(), max_size=40), st.integers(0, 30), st.integers(1, 20))
def test_an_episode_ends_up_either_detected_or_missed(said: list[bool], begins: int, length: int) -> None:
    live = scorer(episode(begins, begins + length))
    for at in range(60):
        live.add(window(at, 1.0 if at < len(said) and said[at] else 0.0))
    scores = live.scores()
    found = any(said[begins : begins + length])
    assert (scores.detected, scores.missed) == ((1, 0) if found else (0, 1))
    if found:
        first = said.index(True, begins)
        assert scores.delay_s == first + 1 - begins
