"""Logs read from their end: what fits, in order, within a bound, and nothing secret."""

import json
from pathlib import Path

import pytest

from skerry.core.journal import HIDDEN, Sieve, read_back, unveiled


def line(at: int, level: str = "info", part: str = "node", event: str = "", **fields: object) -> str:
    entry = {"timestamp": f"2026-01-01T00:00:{at:02}Z", "level": level, "part": part, "event": event or f"e{at}", **fields}
    return json.dumps(entry) + "\n"


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """A log of ten lines, and an older part of it with ten more; in each one that is torn."""
    new, old = tmp_path / "skerry.log", tmp_path / "skerry.log.1"
    old.write_text("".join(line(at) for at in range(10)) + '{"event": "to\n')
    parts = ["broker", "node"]
    levels = ["info", "warning", "error"]
    new.write_text("[1]\n" + "".join(line(at, levels[at % 3], parts[at % 2], device=f"pump-{at}") for at in range(10, 20)))
    return [new, old, tmp_path / "skerry.log.2"]


def events(files: list[Path], sieve: Sieve, last: int = 100) -> list[str]:
    return [entry["event"] for entry in read_back(files, sieve, last).entries]


def test_the_newest_lines_of_all_parts_oldest_first(files: list[Path]) -> None:
    assert events(files, Sieve()) == [f"e{at}" for at in range(20)]
    assert events(files, Sieve(), 3) == ["e17", "e18", "e19"]
    assert events(files, Sieve(), 12) == [f"e{at}" for at in range(8, 20)]


@pytest.mark.parametrize(
    ("sieve", "found"),
    [
        (Sieve(level="error"), ["e11", "e14", "e17"]),
        (Sieve(level="warning", part="broker"), ["e10", "e14", "e16"]),
        (Sieve(name="pump-1"), []),
        (Sieve(name="pump-11"), ["e11"]),
        (Sieve(text="PUMP-1", since="2026-01-01T00:00:17Z"), ["e17", "e18", "e19"]),
        (Sieve(text="nowhere"), []),
        (Sieve(part="brok"), []),
    ],
)
def test_what_is_wanted(files: list[Path], sieve: Sieve, found: list[str]) -> None:
    assert events(files, sieve) == found


def test_no_more_is_read_than_the_bound_and_that_is_said(files: list[Path]) -> None:
    size = files[0].stat().st_size
    page = read_back(files, Sieve(), 100, most=size - 2)
    assert [entry["event"] for entry in page.entries] == [f"e{at}" for at in range(10, 20)]
    assert not page.whole
    assert not read_back(files, Sieve(), 100, most=size).whole  # the older part was not looked at
    assert read_back(files, Sieve(), 100).whole
    assert read_back([files[2]], Sieve(), 100).entries == []


@pytest.mark.parametrize(
    "text",
    [
        "the uplink mqtts://edge:hunter22@centre:8883 is away",
        "Authorization: Bearer hunter22hunter22",
        "a token sk_hunter22hunter22hunter22 came",
        "password=hunter22",
        '{"password": "hunter22"}',
        "-----BEGIN PRIVATE KEY-----\nhunter22\n-----END PRIVATE KEY-----",
    ],
)
def test_what_looks_like_a_secret_is_hidden(text: str) -> None:
    shown = unveiled({"event": text, "deep": {"inside": text}, "uplink_password": "hunter22", "lines": 7})
    assert "hunter22" not in json.dumps(shown)
    assert HIDDEN in str(shown["event"])
    assert (shown["uplink_password"], shown["lines"]) == (HIDDEN, 7)


def test_what_is_no_secret_stays() -> None:
    said = {
        "event": "wrong-token refused from 10.0.0.7",
        "by": "token:me",
        "reason": "no password was given",
        "url": "http://box:8080/x",
    }
    assert unveiled(said) == said
    assert len(str(unveiled({"event": "a" * 100_000})["event"])) < 5000
