"""The stretch of the history that is shown: it zooms around its middle, follows the present, and asks for few points."""

from hypothesis import given
from hypothesis import strategies as st

from skerry.core.units import parse_duration
from skerry.dashboard.history import LEAST_S, MOST_MARKS, MOST_S, POINTS, Stretch, csv, drawn, keys_of, marks_of, points_of

NOW = 1_796_095_063


@given(st.integers(LEAST_S, MOST_S))
def test_no_more_points_are_asked_for_than_are_drawn_well(seconds: int) -> None:
    every = Stretch(seconds).every
    if every:
        assert seconds * 1_000_000 / parse_duration(every) <= 2 * POINTS + 1
    else:
        assert seconds <= 900


@given(st.integers(LEAST_S, MOST_S), st.integers(NOW - MOST_S, NOW), st.sampled_from([0.5, 2.0]))
def test_zooming_keeps_the_middle_and_never_goes_beyond_now(seconds: int, end: int, factor: float) -> None:
    before = Stretch(seconds, end)
    after = before.zoomed(factor, NOW)
    begin, until = after.bounds(NOW)
    assert LEAST_S <= until - begin <= MOST_S
    assert until <= NOW
    if until < NOW:
        assert abs((begin + until) - sum(before.bounds(NOW))) <= 2


def test_what_follows_goes_on_to_follow_until_it_is_moved_back_and_follows_again_at_the_end() -> None:
    follows = Stretch(3600)
    assert follows.zoomed(2.0, NOW) == Stretch(7200)
    back = follows.moved(-0.5, NOW)
    assert back.bounds(NOW) == (NOW - 5400, NOW - 1800)
    assert back.bounds(NOW + 60) == back.bounds(NOW)
    assert back.moved(0.5, NOW) == follows
    assert follows.query(NOW)["every"] == "9s"
    assert follows.query(NOW)["to"] == "2026-12-01T03:17:43.000Z"


def test_an_answer_of_the_api_is_drawn_and_exported_as_it_is() -> None:
    points = points_of({"times": [NOW * 1_000_000, NOW * 1_000_000 + 500_000], "values": [1.5, None]})
    assert points == [(float(NOW), 1.5), (NOW + 0.5, None)]
    assert csv({'a"b': points}) == ('time,series,value\n2026-12-01T03:17:43.000Z,"a""b",1.5\n2026-12-01T03:17:43.500Z,"a""b",\n')
    both = {"a": points, "b": points}
    assert drawn(both, Stretch(), NOW, together=True).count("<figure") == 1
    assert drawn(both, Stretch(), NOW, together=False).count("<figure") == 2
    assert "nothing was kept" in drawn({"a": []}, Stretch(), NOW, together=True)
    assert "Nothing is chosen" in drawn({}, Stretch(), NOW, together=True)


def test_alarms_are_marked_where_they_fired_and_cleared_and_told_in_words() -> None:
    assert keys_of(["pump-1/sensors/x", "bearing/pump-1/score"]) == ["pump-1", "sensors", "bearing"]
    event = {"key": "<pump>", "pipeline": "bearing", "score": 9.0, "end": "2026-12-01T03:17:40.000Z"}
    marks = marks_of([{**event, "state": state} for state in ("firing", "info", "cleared")])
    assert [(mark.at, mark.tone) for mark in marks] == [(NOW - 3, "bad"), (NOW - 3, "good")]
    assert len(marks_of([{**event, "state": "firing"}] * 300)) == MOST_MARKS
    points = {"pump-1/sensors/x": [(float(NOW - 9), 1.0), (float(NOW), 2.0)]}
    shown = drawn(points, Stretch(60), NOW, True, marks)
    assert shown.count('class="mark bad"') == 2  # at the width of a desk and of a phone
    assert "&lt;pump&gt; firing: bearing 9.000" in shown
    many = drawn(points, Stretch(60), NOW, True, marks * 10)
    assert "the last 12 of 20" in many
    assert many.count("<tr>") == 13
    assert "Alarms meanwhile" not in drawn(points, Stretch(60, NOW - 100), NOW, True, marks)
