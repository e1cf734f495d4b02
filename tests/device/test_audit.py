"""The audit log: what is in it, what is left out of a flood, and what becomes of it on a full disk and after a crash."""

import contextlib
import json
import os
import resource
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.core.clock import ManualClock, to_rfc3339
from skerry.device import AuditLog, audit, audit_files, read_audit
from skerry.device.audit import LINES_A_SECOND, read_line

SECOND = 1_000_000
BEGIN = 1_800_000_000 * SECOND


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(BEGIN)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "audit.log"


@pytest.fixture
def log(path: Path, clock: ManualClock) -> Iterator[AuditLog]:
    log = AuditLog(path, clock)
    yield log
    log.close()


@pytest.fixture
def silent() -> Iterator[None]:
    """Nothing is written for people either."""

    def drop(*_: object) -> Any:
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[drop])
    yield
    structlog.configure(**before)


def events(path: Path) -> list[str]:
    return [str(entry["event"]) for entry in read_audit(path).entries]


def test_what_happened_when_by_whom_and_from_where(log: AuditLog, path: Path) -> None:
    log.note("device added", by="unix:0", device="d1", topics=["a"], number=3, absent=None, empty="")
    log.note("log-in refused", by="d1", address="10.0.0.7", reason="bad-password", client="c")
    log.close()
    assert read_audit(path).entries == [
        {"timestamp": to_rfc3339(BEGIN), "event": "device added", "by": "unix:0", "device": "d1", "topics": ["a"], "number": 3},
        {
            "timestamp": to_rfc3339(BEGIN), "event": "log-in refused", "by": "d1", "address": "10.0.0.7",
            "reason": "bad-password", "client": "c",
        },
    ]  # fmt: skip
    assert [file.stat().st_mode & 0o777 for file in audit_files(path)] == [0o600, 0o600]


def test_nothing_is_there_before_the_first_event(log: AuditLog, path: Path) -> None:
    assert read_audit(path) == audit.Audit([])
    assert not path.parent.exists()


@pytest.mark.parametrize("name", ["password", "token", "secret", "signature", "challenge", "private_key"])
def test_a_secret_is_never_written(log: AuditLog, path: Path, name: str) -> None:
    log.note("log-in", by="d1", **{name: "hunter2"})
    log.note("device added", by="d1", **{name: "hunter2"})
    log.close()
    assert "hunter2" not in "".join(file.read_text() for file in audit_files(path))


def test_whatever_is_noted_is_one_short_line(log: AuditLog, path: Path) -> None:
    odd = {"lines": "a\nb\r\n", "long": "x" * 100_000, "surrogate": "\ud800", "object": Path("x"), "set": {1}, "nan": float("nan")}
    log.note("odd\nevent", by="\x1b[2J", **odd)
    log.note("many", **{f"field{number}": number for number in range(1000)})
    log.close()
    first, second = read_audit(path).entries
    assert first["lines"] == "a\nb\r\n"
    assert first["long"] == "x" * audit.LONGEST
    assert (first["surrogate"], first["object"], first["set"], first["nan"]) == ("?", "x", [1], None)
    assert len(second) == 2 + audit.MOST_FIELDS
    assert len(path.read_bytes().splitlines()) == 2


def test_a_flood_is_held_to_so_many_lines_and_the_rest_is_counted(log: AuditLog, path: Path, clock: ManualClock) -> None:
    for number in range(1000):
        log.note("log-in refused", by=f"d{number}", reason="unknown")
    log.note("log-in", by="good")
    log.close()
    found = read_audit(path).entries
    assert len(found) == LINES_A_SECOND + 2
    assert [entry for entry in found if entry["event"] == "lines left out"] == [
        {"timestamp": to_rfc3339(BEGIN), "event": "lines left out", "of": "log-in refused", "count": 1000 - LINES_A_SECOND}
    ]
    assert log.left_out == 1000 - LINES_A_SECOND
    clock.advance(SECOND)
    log.note("log-in refused", by="later")
    log.close()
    assert read_audit(path).entries[-1]["by"] == "later"


def test_changes_of_trust_are_never_left_out_nor_pushed_out(path: Path, clock: ManualClock) -> None:
    log = AuditLog(path, clock, max_bytes=4000, kept=2)
    for number in range(LINES_A_SECOND):
        log.note("device added", by="unix:0", device=f"d{number}")
        log.note("device revoked", by="unix:0", device=f"d{number}")
    log.close()
    kept = [event for event in events(path) if event.startswith("device")]
    for _ in range(200):
        clock.advance(SECOND)
        for _ in range(LINES_A_SECOND):
            log.note("log-in refused", by="bot", reason="unknown")
        log.close()
    assert log.lost == 0
    assert [event for event in events(path) if event.startswith("device")] == kept
    assert len(kept) > LINES_A_SECOND
    assert sum(file.stat().st_size for file in path.parent.iterdir()) <= 2 * 3 * 4000


def test_the_oldest_part_goes(path: Path, clock: ManualClock) -> None:
    log = AuditLog(path, clock, max_bytes=1000, kept=2)
    for number in range(100):
        clock.advance(SECOND)
        log.note("device added", number=number)
    log.close()
    numbers = [entry["number"] for entry in read_audit(path).entries]
    assert numbers == list(range(numbers[0], 100))
    assert 20 < len(numbers) < 60
    assert sorted(file.name for file in path.parent.iterdir()) == ["audit.log", "audit.log.1", "audit.log.2"]


def test_it_goes_on_where_it_was(log: AuditLog, path: Path, clock: ManualClock) -> None:
    log.note("device added")
    log.close()
    again = AuditLog(path, clock)
    again.note("device removed")
    again.close()
    assert events(path) == ["device added", "device removed"]


@pytest.mark.parametrize("torn", [b'{"timestamp":"2027-01-15T08:00', b"\xff\xfe", b'{"event":"x"', b"[1]\n", b'"x"\n'])
def test_a_torn_line_is_skipped_and_said(log: AuditLog, path: Path, torn: bytes) -> None:
    log.note("device added")
    log.close()
    with path.open("ab") as file:
        file.write(torn)
    log.note("device removed")
    log.close()
    found = read_audit(path)
    assert [entry["event"] for entry in found.entries] == ["device added", "device removed"]
    assert found.torn == 1


@settings(max_examples=200)
@given(st.binary(max_size=60))
def test_any_line_can_be_read(line: bytes) -> None:
    entry = read_line(line)
    assert entry is None or isinstance(entry, dict)


def test_since_and_the_last_of_both_files(log: AuditLog, path: Path, clock: ManualClock) -> None:
    for number in range(10):
        clock.advance(SECOND)
        log.note("log-in" if number % 2 else "device added", number=number)
    log.close()
    assert [entry["number"] for entry in read_audit(path).entries] == list(range(10))
    assert [entry["number"] for entry in read_audit(path, last=3).entries] == [7, 8, 9]
    assert [entry["number"] for entry in read_audit(path, since=BEGIN + 9 * SECOND).entries] == [8, 9]
    assert [entry["number"] for entry in read_audit(path, since=BEGIN + 5 * SECOND, last=1).entries] == [9]
    assert read_audit(path, last=0).entries == []


def test_a_disk_that_takes_nothing_costs_lines_and_nothing_else(log: AuditLog, path: Path, tmp_path: Path) -> None:
    path.parent.write_text("a file in the place of the directory")
    for _ in range(3):
        log.note("device added")
    log.close()
    assert log.lost == 3
    path.parent.unlink()
    log.note("device removed")
    log.close()
    assert log.lost == 3
    (entry,) = read_audit(path).entries
    assert (entry["event"], entry["lost_before"]) == ("device removed", 3)


@pytest.mark.usefixtures("silent")
def test_a_full_disk_tears_a_line_and_the_next_one_is_whole(path: Path, clock: ManualClock) -> None:
    """Room is taken away by a limit of this process on the size of files: the kernel writes what fits, and then refuses."""
    before, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    log = AuditLog(path, clock)
    try:
        log.note("device added", number=0)
        log.close()
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20, before[1]))
        log.note("device added", number=1)
        log.note("device added", number=2)
        log.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert log.lost == 2
    log.note("device added", number=3)
    log.close()
    found = read_audit(path)
    assert [(entry["number"], entry.get("lost_before")) for entry in found.entries] == [(0, None), (3, 2)]
    assert found.torn == 1


def test_a_disk_that_hangs_holds_up_nobody(path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe that nobody reads stands for it: it takes 64 KiB, and then a write waits."""
    monkeypatch.setattr(audit, "MOST_WAITING", 10)
    monkeypatch.setattr(audit, "CLOSE_S", 0.1)
    path.parent.mkdir()
    os.mkfifo(audit_files(path)[1])
    log = AuditLog(path, clock)
    for number in range(1000):
        clock.advance(SECOND)
        log.note("log-in", number=number, address="x" * audit.LONGEST)
        if number % 5 == 0:
            time.sleep(0.001)
    assert log.lost > 100
    (writer,) = [thread for thread in threading.enumerate() if thread.name == "audit"]
    log.close()
    assert writer.is_alive()
    other_end = os.open(audit_files(path)[1], os.O_RDONLY | os.O_NONBLOCK)
    while writer.is_alive():
        with contextlib.suppress(BlockingIOError):
            os.read(other_end, 1 << 16)
    os.close(other_end)


def test_several_threads_write_whole_lines(log: AuditLog, path: Path) -> None:
    def write(name: str) -> None:
        for number in range(100):
            log.note("device added", by=name, number=number)

    threads = [threading.Thread(target=write, args=(f"t{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    found = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert sorted((entry["by"], entry["number"]) for entry in found) == sorted(
        (f"t{each}", number) for each in range(4) for number in range(100)
    )
