"""Plots: few points whatever comes, peaks kept, round numbers on the axes."""

import math
import re

from hypothesis import given
from hypothesis import strategies as st

from skerry.dashboard.plot import MOST_POINTS, Line, plot, spark, thin, ticks


@given(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), max_size=5000))
def test_thinning_keeps_the_extremes_the_order_and_the_bound(values: list[float | None]) -> None:
    points = [(float(at), value) for at, value in enumerate(values)]
    kept = thin(points)
    assert len(kept) <= max(MOST_POINTS, 2)
    assert [at for at, _ in kept] == sorted(at for at, _ in kept)
    there = [value for value in values if value is not None]
    if there:
        found = [value for _, value in kept if value is not None]
        assert (min(found), max(found)) == (min(there), max(there))


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e9))
def test_ticks_are_round_few_and_inside(low: float, span: float) -> None:
    found = ticks(low, low + span)
    assert 1 <= len(found) <= 7
    assert all(low - 1e-6 * span <= tick <= low + span * (1 + 1e-6) for tick in found)
    if len(found) > 1:
        step = round((found[1] - found[0]) / 10 ** math.floor(math.log10(found[1] - found[0]) + 1e-9), 3)
        assert step in (1, 2, 5, 10)


def test_a_plot_says_in_words_what_it_shows_and_breaks_at_gaps() -> None:
    lines = [Line("x", [(0, 1.0), (1, None), (2, 3.0)]), Line("bound", [(0, 2.0), (2, 2.0)], "threshold")]
    made = plot(lines, "Score of a", "score")
    assert 'aria-label="Score of a: x 3 score, bound 2 score"' in made
    path = re.search(r'd="([^"]*)" class="line tone-0"', made)
    assert path is not None
    assert path[1].count("M") == 2
    assert "nan" not in made


def test_nothing_yet_is_drawn_as_nothing() -> None:
    assert "nothing yet" in plot([Line("x", [])], "Rate", "messages/s")
    assert 'class="under"' in spark([], "Rate")
    assert "nan" not in spark([(1.0, math.nan)], "Rate") + plot([Line("x", [(5.0, 5.0)])], "Rate", "")
