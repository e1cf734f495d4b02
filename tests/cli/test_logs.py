"""`skerry logs`."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from skerry.cli.logs import follow_files, show_line
from skerry.core.clock import ManualClock, SystemClock, to_rfc3339
from skerry.device import AuditLog
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
    lines = follow_files((file, file.stat().st_size))

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


def test_following_two_files_one_of_which_comes_later(file: Path) -> None:
    later = file.with_name("later.log")
    lines = follow_files((file, file.stat().st_size), (later, 0))

    def write() -> None:
        with file.open("a") as old:
            old.write("one\n")
        later.write_text("two\n")

    writer = threading.Timer(0.05, write)
    writer.start()
    assert sorted(take(lines, 2)) == ["one", "two"]
    writer.join()
    lines.close()


def test_since_a_time(call: Call, file: Path) -> None:
    stamps = [to_rfc3339(SystemClock().now() - hours * 3_600_000_000) for hours in (5, 3, 1)]
    file.write_text("".join(json.dumps({"timestamp": stamp, "level": "info", "event": stamp}) + "\n" for stamp in stamps))
    for since, count in ((stamps[1], 2), ("2h", 1), ("2h ago", 1), ("10m", 0), ("1d", 3)):
        assert len(call("logs", "--since", since).out.splitlines()) == count, since
    answer = call("logs", "--since", "yesterday")
    assert answer.code == 2
    assert "'yesterday' is not a time" in answer.err


@pytest.fixture
def audit(file: Path) -> Path:
    """An audit log of before, as a node and a crash leave it."""
    path = file.with_name("audit.log")
    clock = ManualClock(1_800_000_000_000_000)
    log = AuditLog(path, clock)
    log.note("device added", by="unix:0", device="d1")
    clock.advance(1_000_000)
    log.note("log-in refused", by="d1", address="10.0.0.7", reason="bad-password")
    clock.advance(1_000_000)
    log.note("device removed", by="token:ops", device="d1")
    log.close()
    with path.open("ab") as opened:
        opened.write(b'{"timestamp":"2027-')
    return path


def test_the_audit_log(call: Call, audit: Path) -> None:
    answer = call("logs", "--audit")
    assert answer.out.splitlines() == [
        "2027-01-15T08:00:00.000Z device added by=unix:0 device=d1",
        "2027-01-15T08:00:01.000Z log-in refused by=d1 address=10.0.0.7 reason=bad-password",
        "2027-01-15T08:00:02.000Z device removed by=token:ops device=d1",
    ]
    assert answer.err == "1 line that a crash had torn was passed over\n"
    shown = json.loads(call("logs", "--audit", "-n", "1", "--json").out)
    last = {"timestamp": "2027-01-15T08:00:02.000Z", "event": "device removed", "by": "token:ops", "device": "d1"}
    assert shown == {"audit": [last]}
    assert len(call("logs", "--audit", "--since", "2027-01-15T08:00:01Z").out.splitlines()) == 2


def test_no_audit_log_yet(call: Call, file: Path) -> None:
    answer = call("logs", "--audit")
    assert answer.code == 1
    assert "there is no audit log yet; start the node with `skerry run`" in answer.err


def test_following_the_audit_log(audit: Path, tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "skerry.cli", "--json", "logs", "--audit", "--follow", "-n", "1"]
    with subprocess.Popen(argv, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert json.loads(process.stdout.readline())["event"] == "device removed"
            log = AuditLog(audit, SystemClock())
            log.note("log-in", by="d2")
            log.close()
            assert json.loads(process.stdout.readline())["by"] == "d2"
        finally:
            process.terminate()
