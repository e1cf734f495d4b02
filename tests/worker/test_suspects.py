"""Whom a death is put down to, and that the third of one makes it poison and nobody else's does."""

from pathlib import Path

import pytest

from skerry.worker.suspects import LIMIT, Suspects, load_suspects, save_suspects
from skerry.worker.trace import Doing


def messages(first: int, last: int | None = None, pipeline: str = "p") -> Doing:
    return Doing(1, "messages", pipeline, str(first), str(first if last is None else last))


def windows(first: str, last: str | None = None) -> Doing:
    return Doing(1, "windows", "p", first, last or first)


@pytest.mark.parametrize("doing", [None, Doing(3, "idle", "", "", "")])
def test_an_idle_worker_accuses_nobody(doing: Doing | None) -> None:
    suspects = Suspects()
    assert suspects.died(doing, 50) == "it was idle"
    assert suspects == Suspects()


def test_a_range_makes_the_next_life_careful_and_counts_for_who_is_named_in_it() -> None:
    suspects = Suspects()
    assert "messages 1 to 9 of p; they are taken one by one now" in suspects.died(messages(1, 9), 40)
    assert suspects.careful_until == 40
    assert "for the 2. time" in suspects.died(messages(5), 60)
    assert suspects.poison == {}
    assert "poison, to the dead letters" in suspects.died(messages(5), 60)
    assert (suspects.poison, suspects.careful_until, suspects.poisoned) == ({"p": ["5"]}, 60, 1)


def test_a_range_speaks_against_one_only() -> None:
    suspects = Suspects()
    suspects.died(messages(1, 9), 9)
    assert "for the 2. time" in suspects.died(messages(3), 9)
    assert "for the 1. time" in suspects.died(messages(4), 9)
    assert "for the 1. time" in suspects.died(messages(10), 9)


def test_a_range_of_windows_says_nothing_about_messages() -> None:
    suspects = Suspects()
    suspects.died(windows("a@1", "b@2"), 9)
    assert "for the 1. time" in suspects.died(messages(3), 9)
    assert "for the 2. time" in suspects.died(windows("c@1"), 9)


def test_without_a_range_it_takes_three() -> None:
    suspects = Suspects()
    for time in range(1, LIMIT):
        assert f"for the {time}. time" in suspects.died(messages(7), 7)
        suspects.died(messages(7, pipeline="q"), 7)
    suspects.died(messages(7), 7)
    assert suspects.poison == {"p": ["7"]}
    assert suspects.deaths["q"] == {"7": 2}


def test_what_is_remembered_is_bounded() -> None:
    suspects = Suspects()
    for number in range(3000):
        suspects.died(messages(number, number + 1), 0)
        for _ in range(LIMIT):
            suspects.died(windows(f"k@{number}"), 0)
        suspects.died(messages(number), 0)
    assert len(suspects.deaths["p"]) <= 1000
    assert len(suspects.ranges["p"]) <= 8
    assert len(suspects.poison["p"]) == 1000
    assert suspects.poison["p"][-1] == "k@2999"


def test_counts_outlive_the_agent_and_a_bad_file_is_a_fresh_start(tmp_path: Path) -> None:
    path = tmp_path / "suspects"
    assert load_suspects(path) == Suspects()
    suspects = Suspects()
    suspects.died(messages(1, 9), 40)
    suspects.died(messages(5), 40)
    save_suspects(path, suspects)
    assert load_suspects(path) == suspects
    for content in (b"", b"{", b'{"poison": 5}', b"\xff"):
        path.write_bytes(content)
        assert load_suspects(path) == Suspects()


def test_a_place_that_takes_no_file_is_no_reason_to_stop(tmp_path: Path) -> None:
    save_suspects(tmp_path / "missing" / "suspects", Suspects())
    assert list(tmp_path.iterdir()) == []
