"""Text of others never becomes markup, and numbers have their units."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.dashboard import html
from skerry.dashboard.html import Html, h, join, table


@given(st.text())
def test_whatever_a_device_is_called_it_is_text(name: str) -> None:
    made = h("td", name, title=name)
    inside = made.removeprefix("<td title=").removesuffix("</td>")
    assert inside.count("<") == 0
    assert inside.count('"') == 2


def test_elements_and_attributes() -> None:
    assert h("a", "x & y", href="/?a=1&b", class_="k", aria_current=None, hidden=True) == (
        '<a href="/?a=1&amp;b" class="k" hidden>x &amp; y</a>'
    )
    assert h("input", id="i") == '<input id="i">'
    assert join(["<b>", Html("<i></i>"), None]) == "&lt;b&gt;<i></i>"


def test_a_table_has_a_caption_heads_and_names_for_the_cells_of_a_phone() -> None:
    made = table("Pumps", ("Name", "Rate"), [("a<b", "1 /s")], (1,))
    assert '<caption class="unseen">Pumps</caption>' in made
    assert '<th scope="col" class="num">Rate</th>' in made
    assert '<td data-label="Name">a&lt;b</td><td class="num" data-label="Rate">1 /s</td>' in made


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (html.ms(0.4719), "0.47 ms"), (html.ms(13.04), "13.0 ms"), (html.ms(310.5), "310 ms"), (html.ms(2500), "2.5 s"),
        (html.ms(None), "–"), (html.rate(9.84), "9.8 /s"), (html.rate(4567.2), "4,567 /s"), (html.count(12345), "12,345"),
        (html.percent(1.0), "100.0 %"), (html.percent(0.99999), "99.9 %"), (html.percent(0.99999, 3), "99.999 %"),
        (html.percent(None), "–"), (html.size(1536 * 1024), "1.5 MiB"), (html.score(0.99908), "0.999"), (html.score("x"), "–"),
    ],
)  # fmt: skip
def test_numbers_have_units_and_what_is_not_all_is_not_shown_as_all(shown: str, expected: str) -> None:
    assert shown == expected


def test_times_are_short_for_people_and_whole_for_machines() -> None:
    assert ">2026-12-01 03:17:43<" in html.moment("2026-12-01T03:17:43.649Z")
    assert 'datetime="2026-12-01T03:17:43.649Z"' in html.moment("2026-12-01T03:17:43.649Z", day=False)
    now = 1_796_095_063_000_000 + 649_000
    assert "12 s ago" in html.ago("2026-12-01T03:17:31.649Z", now)
    assert html.ago("soon", now) == html.ago(None, now) == "–"
