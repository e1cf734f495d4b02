"""The figures as people read them: one line, one table, and the README's own table, which only says what was measured."""

import pytest

from bench import report
from bench.__main__ import GROUPS, README, RESULTS, ROWS
from bench.machine import Machine
from bench.report import ABOUT, Report, goal, line, markdown, number, shown
from bench.rows import Row, median_row

MACHINE = Machine("a cpu", 2, "Linux 6", 0.5, {"python": "3.11", "skerry": "0.1.0"})
RATE = median_row("v2", "answers/s (peer: x)", "/s", "ratio ≥ 2", [300.0, 100.0, 200.0], [90.0, 50.0, 10.0])
LATE = median_row("swaps", "longest answer", "ms", "≤ 20", [9.5, 30.0, 12.345])
FOUND = Report("python -m bench inference --write", "2026-11-24", MACHINE, [RATE, LATE])
BEGIN = "<!-- measured: inference; written by python -m bench inference --write -->\n"
PAGE = f"before\n{BEGIN}old\n<!-- end of measured: inference -->\nafter\n"


def test_the_median_counts_and_the_ratio_is_of_medians() -> None:
    assert (RATE.skerry, RATE.peer, RATE.ratio) == (200.0, 50.0, 4.0)
    assert RATE.rounds == {"skerry": [300.0, 100.0, 200.0], "peer": [90.0, 50.0, 10.0]}
    assert (LATE.skerry, LATE.peer, LATE.ratio) == (12.345, None, None)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (36_000.4, "/s", "36,000/s"),
        (1.236, "ms", "1.24 ms"),
        (12.34, "ms", "12.3 ms"),
        (0.0, "", "0"),
        (None, "ms", "–"),
        (5.0, "", "5"),
    ],
)
def test_numbers(value: float | None, unit: str, text: str) -> None:
    assert number(value, unit) == text


def test_a_line() -> None:
    assert line(RATE) == "v2          answers/s (peer: x): 200/s, peer 50/s, ratio 4   (goal ratio ≥ 2)"
    assert line(LATE) == "swaps       longest answer: 12.3 ms   (goal ≤ 20)"


@pytest.mark.parametrize(
    ("asked", "skerry", "ratio", "told"),
    [
        ("ratio ≥ 2", 9.0, 2.0, "ratio ≥ 2"),
        ("ratio ≥ 2", 9.0, 1.99, "ratio ≥ 2: **not reached**"),
        ("ratio ≤ 1.5", 9.0, 1.6, "ratio ≤ 1.5: **not reached**"),
        ("ratio ≥ 2", 9.0, None, "ratio ≥ 2"),  # the peer was not measured: nothing is claimed
        ("≤ 20", 20.0, 0.1, "≤ 20"),
        ("≤ 20", 20.1, 0.1, "≤ 20: **not reached**"),
        ("≥ 80,000", 79_999.0, None, "≥ 80,000: **not reached**"),
        ("0", 0.0, None, "0"),
        ("0", 1.0, None, "0: **not reached**"),
        ("", 1.0, None, ""),
    ],
)
def test_a_goal_that_is_missed_says_so(asked: str, skerry: float, ratio: float | None, told: str) -> None:
    assert goal(Row("r", "f", "", asked, skerry, ratio=ratio)) == told


def test_the_table_holds_every_round() -> None:
    text = markdown(FOUND, "inference")
    assert text.startswith("# Measured: inference\n\n`python -m bench inference --write` on 2026-11-24: a cpu, 2 cores, Linux 6,")
    assert "| v2 | answers/s (peer: x) | 200/s | 50/s | 4 | ratio ≥ 2 | 300, 100, 200; 90, 50, 10 |\n" in text
    assert "| swaps | longest answer | 12.3 ms | – | – | ≤ 20 | 9.50, 30, 12.3 |\n" in text


def test_the_readme_shows_what_was_measured_and_keeps_the_rest() -> None:
    once = shown(PAGE, FOUND, "inference")
    assert once.startswith("before\n<!-- measured: inference;")
    assert once.endswith("<!-- end of measured: inference -->\nafter\n")
    assert "old" not in once
    assert "| answers/s (peer: x) | 200/s | 50/s | 4 | ratio ≥ 2 |\n" in once
    assert shown(once, FOUND, "inference") == once
    assert shown(PAGE, FOUND, "main") == PAGE
    assert shown("no marks\n", FOUND, "inference") == "no marks\n"


def test_every_row_has_one_group_and_every_group_its_file() -> None:
    assert sum(len(rows) for rows in GROUPS.values()) == len(ROWS), "two rows have one name"
    assert GROUPS.keys() == RESULTS.keys() == ABOUT.keys()
    page = README.read_text("utf-8")
    assert report.shown(page, FOUND, "inference") != page, "the README has no place for the rows of inference"
