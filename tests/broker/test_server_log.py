"""The server's log, read on as it grows."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.broker import server_log
from skerry.broker.server_log import ServerLog, complaint, explain, is_store_failure

STAMP = "[412] 2026/11/24 19:14:02.700411"
TAKEN = 'Error listening on port: 127.0.0.1:4222, "listen tcp 127.0.0.1:4222: bind: address already in use"'
FULL = "Filestore [S] Critical write error: write /srv/2.blk: no space left on device"


def line(level: str, text: str) -> str:
    return f"{STAMP} [{level}] {text}"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (line("WRN", "Filestore [S] odd"), "Filestore [S] odd"),
        (
            line("ERR", '127.0.0.1:5 - mid:1 - Publish Violation - Subject "x"'),
            '127.0.0.1:5 - mid:1 - Publish Violation - Subject "x"',
        ),
        (line("FTL", TAKEN), TAKEN),
        (line("INF", "Server is ready"), ""),
        (line("INF", "a [WRN] inside"), ""),
        (line("WRN", "Plaintext passwords detected, use nkeys or bcrypt"), ""),
        (line("WRN", 'Healthcheck failed: "failed to be ready"'), ""),
        ("nats-server: /srv/nats.conf:3:1: unknown field", "nats-server: /srv/nats.conf:3:1: unknown field"),
        ("rubbish", ""),
        ("", ""),
    ],
)
def test_what_counts_as_a_complaint(text: str, found: str) -> None:
    assert complaint(text) == found


@given(st.text())
def test_any_line_can_be_looked_at(text: str) -> None:
    assert complaint(text) in text
    assert isinstance(explain([text]), str)


@pytest.mark.parametrize(
    ("complaints", "sentence"),
    [
        ([], ""),
        ([TAKEN], "127.0.0.1:4222 is taken by another program"),
        ([FULL, "later"], "the disk is full; make room"),
        (["nats-server: /srv/n.conf:3:1: odd"], "nats-server refuses its configuration: /srv/n.conf:3:1: odd"),
        (["first", "last"], "last"),
    ],
)  # fmt: skip
def test_sentences(complaints: list[str], sentence: str) -> None:
    assert explain(complaints) == sentence


def test_which_complaints_mean_that_nothing_is_stored_any_more() -> None:
    assert is_store_failure(FULL)
    assert is_store_failure("write /srv/1.blk: input/output error")
    assert not is_store_failure("Filestore [S] Stream state outdated, last block has additional entries, will rebuild")
    assert not is_store_failure(TAKEN)


def append(path: Path, *lines: str, end: str = "\n") -> None:
    with path.open("a") as file:
        file.write("\n".join(lines) + end)


def test_only_this_life_is_read(tmp_path: Path) -> None:
    path = tmp_path / "nats.log"
    append(path, line("ERR", "of the life before"))
    log = ServerLog(path)
    assert log.read_on() == []
    append(path, line("ERR", "one"), line("INF", "nothing"), line("WRN", "two"))
    assert log.read_on() == ["one", "two"]
    assert log.read_on() == []
    assert list(log.complaints) == ["one", "two"]
    log.close()


def test_it_may_come_later_and_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "nats.log"
    log = ServerLog(path)
    assert log.read_on() == []
    whole = line("ERR", "in piecés")
    append(path, whole[:30], end="")
    assert log.read_on() == []
    append(path, whole[30:])
    assert log.read_on() == ["in piecés"]
    log.close()


def test_rotation_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "nats.log"
    append(path, line("ERR", "one"))
    log = ServerLog(path)
    append(path, line("ERR", "two"))
    assert log.read_on() == ["two"]
    append(path, line("ERR", "three"))
    path.rename(tmp_path / "nats.log.1")
    append(path, line("ERR", "four"))
    assert log.read_on() == ["three", "four"]
    append(path, line("ERR", "five"))
    assert log.read_on() == ["five"]
    log.close()


def test_what_is_too_far_behind_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_log, "MOST_BEHIND", 1000)
    path = tmp_path / "nats.log"
    log = ServerLog(path)
    append(path, *[line("ERR", f"number {at}") for at in range(1000)])
    found = log.read_on()
    assert 0 < len(found) < 30
    assert found[-1] == "number 999"
    append(path, *[line("ERR", f"more {at}") for at in range(100)])
    assert log.read_on()[-1] == "more 99"
    assert len(log.complaints) <= server_log.KEPT_LINES
    log.close()
