"""Pressure and calm: who is degraded, in which order, and that it neither flaps nor stays for ever."""

from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.runtime import Bounds, Candidate, Reading, Shedding, judge
from skerry.runtime.pressure import MOST_PATIENCE, Move, Verdict

BOUNDS = Bounds(shed_after=10, recover_after=60)
HOT, CALM, BETWEEN = Verdict("CPU is at 99% of its limit"), Verdict(calm=True), Verdict()
TWO = [Candidate("high", 1, 1), Candidate("low", 0, 2)]


def play(shedding: Shedding, verdict: Verdict, begin: float, end: float, who: list[Candidate] = TWO) -> list[tuple[float, Move]]:
    """Two seconds a time; what moved, and when."""
    found = [(at, shedding.step(BOUNDS, verdict, who, at)) for at in range(int(begin), int(end), 2)]
    return [(at, move) for at, move in found if move is not None]


def test_memory_cpu_and_a_backlog_that_does_not_shrink_are_pressure() -> None:
    quiet = Reading(0.5, 0.5, {"p": 0})
    assert judge(BOUNDS, quiet, quiet) == CALM
    assert judge(BOUNDS, quiet, Reading(0.93, 0.5)).because == "memory is at 93% of its limit"
    assert judge(BOUNDS, quiet, Reading(0.5, 0.97)).because == "CPU is at 97% of its limit"
    assert judge(BOUNDS, quiet, Reading(0.5, 0.5, {"p": 20_000})).because == "20,000 messages wait for p"
    behind = Reading(0.5, 0.5, {"p": 40_000})
    assert judge(BOUNDS, behind, behind).because == "40,000 messages wait for p"
    assert judge(BOUNDS, behind, Reading(0.5, 0.5, {"p": 30_000})) == BETWEEN, "it catches up"
    for between in (Reading(0.85, 0.5), Reading(0.5, 0.8), Reading(0.5, 0.5, {"p": 6_000})):
        assert judge(BOUNDS, quiet, between) == BETWEEN


def test_the_lowest_priority_goes_down_first_and_comes_back_last_one_step_at_a_time() -> None:
    shedding = Shedding()
    down = play(shedding, HOT, 0, 60)
    assert [(at, move.name, move.level) for at, move in down] == [(10, "low", 1), (20, "low", 2), (30, "high", 1)]
    assert {move.because for _, move in down} == {HOT.because}
    assert play(shedding, BETWEEN, 60, 1000) == [], "between the two nothing changes"
    up = play(shedding, CALM, 1000, 1300)
    assert [(at, move.name, move.level, move.because) for at, move in up] == [
        (1060, "high", 0, ""), (1120, "low", 1, ""), (1180, "low", 0, ""),
    ]  # fmt: skip
    assert shedding.levels == {}


def test_a_short_peak_is_no_pressure_and_a_short_rest_no_calm() -> None:
    shedding = Shedding()
    for begin in range(0, 100, 10):
        assert play(shedding, HOT, begin, begin + 8) == []
        assert play(shedding, BETWEEN, begin + 8, begin + 10) == []
    assert len(play(shedding, HOT, 100, 112)) == 1
    for begin in range(200, 800, 60):
        assert play(shedding, CALM, begin, begin + 58) == []
        assert play(shedding, BETWEEN, begin + 58, begin + 60) == []


def test_what_comes_back_too_early_stays_away_longer_each_time() -> None:
    """Only with one step gone is there calm: with all there, pressure. The classic thrash."""
    shedding, at, moves = Shedding(), 0.0, list[float]()
    while at < 20_000:
        if shedding.step(BOUNDS, CALM if shedding.levels else HOT, TWO, at):
            moves.append(at)
        at += 2
    waits = [b - a for a, b in zip(moves[::2], moves[1::2], strict=False)]
    assert waits[:5] == [62, 122, 242, 482, 962], "from the first calm reading on"
    assert waits[-1] == MOST_PATIENCE * 60 + 2
    assert play(shedding, CALM, at, at + 20_000)[-1][1].level == 0
    assert shedding.patience == 1, "after a long calm it begins anew"


def test_who_is_there_no_longer_is_forgotten() -> None:
    shedding = Shedding()
    play(shedding, HOT, 0, 24)
    assert shedding.levels == {"low": 2}
    assert play(shedding, BETWEEN, 24, 30, [Candidate("low", 0, 1)]) == []
    assert shedding.levels == {"low": 1}
    assert play(shedding, BETWEEN, 30, 34, TWO[:1]) == []
    assert shedding.levels == {}


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([HOT, CALM, BETWEEN]), st.integers(1, 60)), max_size=60),
    st.lists(st.tuples(st.integers(-2, 2), st.integers(0, 3)), min_size=1, max_size=4),
)
def test_levels_stay_in_order_and_moves_are_rare(story: list[tuple[Verdict, int]], given_: list[tuple[int, int]]) -> None:
    who = [Candidate(f"p{at}", priority, steps) for at, (priority, steps) in enumerate(given_)]
    shedding, now, down, up = Shedding(), 0.0, 0, 0
    for verdict, ticks in story:
        for _ in range(ticks):
            move = shedding.step(BOUNDS, verdict, who, now)
            if move is not None:
                assert bool(move.because) == (verdict is HOT)
                down, up = down + bool(move.because), up + (not move.because)
            for one in who:
                assert 0 <= shedding.levels.get(one.name, 0) <= one.steps
                lower = [each for each in who if each.priority < one.priority]
                if shedding.levels.get(one.name):
                    assert all(shedding.levels.get(each.name, 0) == each.steps for each in lower), "a lower one has a step left"
            now += 2
    assert down <= now / 10 + 1
    assert up <= now / 60 + 1
    assert up <= down
