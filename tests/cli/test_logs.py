"""`skerry logs`."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from skerry.cli.logs import follow_file, show_line
from tests.cli.conftest import TOML, Call


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "skerry.toml").write_text(TOML)
    log = tmp_path / "data" / "logs" / "skerry.log"
    log.parent.mkdir(parents=True)
    lines = [{"timestamp": f"T{n}", "level": "info", "event": f"e{n}", "room": "api"} for n in range(60)]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return log


def test_the_last_lines(call: Call, file: Path) -> None:
    assert call("logs", "-n", "2").out == "T58 info     e58 room=api\nT59 info     e59 room=api\n"
    assert len(call("logs").out.splitlines()) == 50
    assert [each["event"] for each in json.loads(call("logs", "-n", "2", "--json").out)["logs"]] == ["e58", "e59"]
    assert call("logs", "-n", "0").out == ""


def test_no_log_yet(call: Call, tmp_path: Path) -> None:
    (tmp_path / "skerry.toml").write_text(TOML)
    answer = call("logs")
    assert answer.code == 1
    assert "there is no log yet; start the node with `skerry run`" in answer.err


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("not JSON\x1b[2J\n", "not JSON\\x1b[2J"),
        ("[1]", "[1]"),
        ('{"event": "a\\u001b", "level": "error", "n": 1}', "error    a\\x1b n=1"),
        ("", ""),
    ],
)
def test_odd_lines(line: str, shown: str) -> None:
    assert show_line(line) == shown


def take(lines: Iterator[str], count: int) -> list[str]:
    return [next(lines) for _ in range(count)]


def test_following_over_a_rotation(file: Path) -> None:
    lines = follow_file(file, file.stat().st_size)

    def write() -> None:
        with file.open("a") as old:
            old.write("one\ntwo, in ")
            old.flush()
            old.write("two parts\n")
        file.rename(file.with_suffix(".log.1"))
        file.write_text("three\n")

    writer = threading.Timer(0.05, write)
    writer.start()
    assert take(lines, 3) == ["one", "two, in two parts", "three"]
    writer.join()
    lines.close()
