"""The server's log, read on as it grows."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.broker import server_log
from skerry.broker.server_log import Lonely, ServerLog, Violation, complaint, explain, is_store_failure, violation

STAMP = "[412] 2026/11/24 19:14:02.700411"
TAKEN = 'Error listening on port: 127.0.0.1:4222, "listen tcp 127.0.0.1:4222: bind: address already in use"'
FULL = "Filestore [S] Critical write error: write /srv/2.blk: no space left on device"


def line(level: str, text: str) -> str:
    return f"{STAMP} [{level}] {text}"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (line("WRN", "Filestore [S] odd"), "Filestore [S] odd"),
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


@pytest.mark.parametrize("kind", ["mid:33", "mid_ws:7", "cid:4", "wid:5"])
@pytest.mark.parametrize("chosen", ["no space left on device", "critical write error", "input/output error"])
def test_no_client_can_make_believe_that_the_disk_is_full(kind: str, chosen: str) -> None:
    said = f'127.0.0.1:38724 - {kind} - "{chosen}" - invalid character in client ID "{chosen}"'
    assert complaint(line("ERR", said)) == said
    assert not is_store_failure(said)
    assert not is_store_failure(said.replace("127.0.0.1", "[::1]"))


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
    *found, said = log.read_on()
    assert 0 < len(found) < 30
    assert found[-1] == "number 999"
    assert "counted in part" in said
    append(path, *[line("ERR", f"more {at}") for at in range(100)])
    assert log.read_on()[-1] == "more 99"
    assert len(log.complaints) <= server_log.KEPT_LINES
    log.close()


REFUSED = '127.0.0.1:43107 - mid:31 - "{}" - {} Violation - Subject "{}"{}'


def refused(client_id: str, subject: str, kind: str = "Publish", rest: str = "") -> str:
    return line("ERR", REFUSED.format(client_id, kind, subject, rest))


@pytest.mark.parametrize(
    ("text", "kind", "client_id", "topic"),
    [
        (refused("c1", "devices.d2.x"), "publish", "c1", "devices/d2/x"),
        (refused("c1", "devices.d2.a//b"), "publish", "c1", "devices/d2/a.b"),
        (refused("c1", "devices./.x"), "publish", "c1", "devices//x"),
        (refused("c1", "devices.d2.äß"), "publish", "c1", "devices/d2/äß"),
        (refused("c1", "devices.*.>"), "publish", "c1", "devices/*/>"),
        (refused('a\\"b-Publish-Violation-\\"x', "$SYS.x"), "publish", 'a"b-Publish-Violation-"x', "$SYS/x"),
        (refused("c1", '\\"q\\\\\\" - x'), "publish", "c1", '"q\\" - x'),
        (refused("", "x"), "publish", "", "x"),
        (refused("c1", ">", "Subscription", ", SID >"), "subscribe", "c1", "#"),
        (refused("c1", "commands.*.x", "Subscription", ", SID commands.*.x"), "subscribe", "c1", "commands/+/x"),
        (refused("c1", "a.//.>", "Subscription", ', Queue: "q", SID a'), "subscribe", "c1", "a/./#"),
    ],
)
def test_what_was_refused_and_to_whom(text: str, kind: str, client_id: str, topic: str) -> None:
    found = violation(text)
    assert found is not None
    assert (found.kind, found.client_id, found.topic) == (kind, client_id, topic)
    assert (found.life, found.connection, found.address, found.count) == (412, 31, "127.0.0.1:43107", 1)


def test_a_client_id_however_long_hides_nothing() -> None:
    found = violation(refused("c" * 65_000, "devices.d2." + "x" * 65_000))
    assert found is not None
    assert (len(found.client_id), len(found.topic), found.connection) == (64, 1024, 31)


def test_over_websocket_and_ipv6_too() -> None:
    found = violation(line("ERR", '[::1]:5 - mid_ws:7 - "c" - Publish Violation - Subject "x"'))
    assert found is not None
    assert (found.address, found.connection) == ("[::1]:5", 7)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "rubbish Violation - x",
        line("WRN", 'x - mid:1 - "c" - Publish Violation - Subject "x"'),
        line("ERR", '127.0.0.1:5 - cid:1 - "v1" - Publish Violation - Subject "x"'),
        line("ERR", '127.0.0.1:5 - mid:31 - "c Publish Violation - Subject x'),
        line("ERR", '127.0.0.1:5 - mid:31 - "c" - not allowed: "x\\" - Publish Violation - Subject \\"devices"'),
    ],
)
def test_other_lines_are_none(text: str) -> None:
    assert violation(text) is None


@given(st.text())
def test_any_subject_can_be_looked_at(subject: str) -> None:
    found = violation(refused("c", subject))
    assert found is None or len(found.topic) <= 1024


def test_a_flood_is_one_entry_a_connection_and_kind_and_no_complaint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_log, "MOST_VIOLATORS", 2)
    path = tmp_path / "nats.log"
    log = ServerLog(path)
    append(path, *[refused("c1", f"devices.d2.{at}") for at in range(500)], refused("c1", "#", "Subscription"))
    append(path, line("ERR", "a complaint"), refused("c1", "last").replace("mid:31", "mid:32"))
    assert log.read_on() == ["a complaint"]
    assert list(log.complaints) == ["a complaint"]
    assert log.take_violations() == [
        Violation("publish", 412, 31, "c1", "127.0.0.1:43107", "devices/d2/499", 500),
        Violation("subscribe", 412, 31, "c1", "127.0.0.1:43107", "#", 1),
    ]
    assert log.take_violations() == []
    log.close()


def test_what_is_passed_over_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_log, "MOST_BEHIND", 1000)
    path = tmp_path / "nats.log"
    log = ServerLog(path)
    append(path, *[refused("c1", "x")] * 100)
    (said,) = log.read_on()
    assert "counted in part from now on" in said
    (found,) = log.take_violations()
    assert 0 < found.count < 15
    assert log.passed_over == path.stat().st_size - 1000
    append(path, *[refused("c1", "x")] * 100)
    assert log.read_on() == []
    log.close()


def test_whether_there_is_more_is_known_without_reading(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    log = ServerLog(path)
    assert not log.grown
    append(path, line("WRN", "one"))
    assert log.grown
    assert log.read_on() == ["one"]
    assert not log.grown
    size = path.stat().st_size
    path.rename(tmp_path / "server.log.1")
    append(path, line("WRN", "two"))
    assert path.stat().st_size == size
    assert log.grown
    assert log.read_on() == ["two"]
    log.close()


def test_of_a_server_that_is_away_it_is_told_once_a_minute() -> None:
    def away(attempt: int, port: int) -> str:
        return f"Error trying to connect to route (attempt {attempt}): dial tcp 10.0.0.2:{port}: connect: connection refused"

    lonely = Lonely()
    assert lonely.sift([away(1, 1), "odd", away(1, 2), away(2, 1), "odd"], 0.0) == [away(1, 1), "odd", away(1, 2), "odd"]
    assert lonely.sift([away(9, 1), away(9, 2), "Waiting for routing to be established..."], 59.0) == [
        "Waiting for routing to be established..."
    ]
    assert lonely.sift([away(10, 1), "Waiting for routing to be established..."], 61.0) == [away(10, 1)]
    assert len(lonely.sift([away(1, port) for port in range(1000)], 200.0)) == 64
