"""`skerry status`."""

import json

import pytest

from skerry.cli.session import Paper, clean, number
from skerry.cli.status import books_sentence, draw_pipelines, draw_status, draw_uptime
from tests.api.fake_view import Serving
from tests.cli.conftest import Call

BOOKS_SENTENCE = (
    "the books: received 1,204 = scored 1,100 + open 100 + waiting 0 + duplicates 1 + dead letters 3 (late 2, undecodable 1); "
    "difference 0"
)


def test_for_people(call: Call, node: Serving) -> None:
    answer = call("status")
    assert answer.code == 0
    assert answer.out.splitlines() == [
        "box at quay, skerry 0.1.0",
        "ready: all works",
        "up 99.987 % of the time since it was first ready",
        "warning: the clock was set back by 3 s",
        "",
        "PIPELINE  STATE     RATE/S  LAG  EVENTS  P50 MS  P99 MS",
        "bearing   running  1,000.0   12      33     2.1       -",
        "level     running  1,000.0   12      33     2.1       -",
        "",
        "THE BOOKS  RECEIVED  SCORED  OPEN  WAITING  DUPLICATES  DEAD  OFF",
        "bearing       1,204   1,100   100        0           1     3    0",
        "level         1,204   1,100   100        0           1     3    0",
        "",
        BOOKS_SENTENCE,
        "",
        "broker: serving MQTT on 127.0.0.1:1883",
        "storage: 12.0 MiB of 8.0 GiB",
        "api: https://127.0.0.1:8080/api/v1/node",
        "models: bearing@1 (the file does not exist), bearing@2 (active)",
    ]


def test_not_ready(call: Call, node: Serving) -> None:
    node.view.is_ready = False
    answer = call("status")
    assert (answer.code, answer.out.splitlines()[1]) == (0, "NOT READY: the broker is starting")


def test_json_is_the_nodes_own_answer(call: Call, node: Serving) -> None:
    found = json.loads(call("status", "--json").out)
    assert set(found) >= {"node", "site", "version", "ready", "uptime_ratio", "pipelines", "models", "broker", "storage", "uplink"}
    assert set(found) >= {"cluster", "ledger"}
    assert call("--json", "status").out == call("status", "--json").out
    assert call("status", "-q").out == ""


def test_each_part_of_the_disk_that_takes_something_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    parts = [
        {"name": "log", "bytes": 3 << 20, "limit": 2 << 30, "when_full": "devices wait"},
        {"name": "store", "bytes": 0, "limit": 1 << 30, "when_full": "refused"},
        {"name": "other", "bytes": 1024, "limit": None, "when_full": ""},
    ]
    draw_status(Paper(), {"node": "n", "pipelines": [], "storage": {"sentence": "3.0 MiB of 8.0 GiB", "parts": parts}})
    lines = capsys.readouterr().out.splitlines()
    at = lines.index("storage: 3.0 MiB of 8.0 GiB")
    assert lines[at + 1 : at + 3] == ["  log: 3.0 MiB of 2.0 GiB; when full: devices wait", "  other: 1.0 KiB"]
    assert not any("store:" in line for line in lines)


def test_a_status_with_little_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    draw_status(Paper(), {"node": "n", "pipelines": [{"name": "p", "state": "failed", "reason": "no model\x1b"}], "broker": "up"})
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["n at -, skerry -", "NOT READY"]
    assert "p: no model\\x1b" in lines
    assert "broker: up" in lines
    draw_status(Paper(), {"resources": {"sentence": "memory 1.0 MiB used of 1.0 GiB", "memory": {"used": 1048576}}})
    assert "resources: memory 1.0 MiB used of 1.0 GiB" in capsys.readouterr().out.splitlines()
    draw_status(Paper(), {})
    assert "no pipelines" in capsys.readouterr().out


def test_uptime_and_its_gaps(call: Call, node: Serving) -> None:
    assert call("status", "--uptime", "30d").out.splitlines() == [
        "up 99.987 % from 2026-01-01T00:00:00.000Z to 2026-01-01T00:01:30.000Z",
        "up 720 h 0 m, down 90.0 s planned and 0 ms unplanned; 2 starts in all",
        "",
        "BEGIN                     END                         DOWN  PLANNED  REASON",
        "2026-01-01T00:00:00.000Z  2026-01-01T00:01:30.000Z  90.0 s  yes      it was stopped",
    ]
    assert json.loads(call("status", "--uptime", "1h", "--json").out)["up_s"] == 3600.0
    assert call("status", "--uptime", "soon").code == 1
    assert "is not a duration" in call("status", "--uptime", "soon").err


def test_uptime_without_gaps_and_with_one_that_is_not_over(capsys: pytest.CaptureFixture[str]) -> None:
    draw_uptime(Paper(), {"since": "a", "until": "b", "ratio": 1.0, "up_s": 5.0, "gaps": []})
    assert capsys.readouterr().out.splitlines() == [
        "up 100.000 % from a to b", "up 5.0 s, down - planned and - unplanned; - starts in all", "no gaps",
    ]  # fmt: skip
    gap = {"begin": "a", "end": "b", "seconds": 5, "planned": False, "reason": "the disk is full\x1b", "over": False}
    draw_uptime(Paper(), {"gaps": [gap]})
    assert capsys.readouterr().out.splitlines()[-1] == "a      not over  5.0 s  no       the disk is full\\x1b"


def test_the_promises_and_last_words(capsys: pytest.CaptureFixture[str]) -> None:
    last = {"words": "ended by SIGSEGV", "peak": 96 << 20, "stderr": [f"line {number}\x1b" for number in range(9)]}
    processes = [{"name": "agent", "last": None}, {"name": "worker-0", "last": last}, {"name": "serving", "last": {"words": "no"}}]
    draw_status(Paper(), {"promises": {"bandwidth": {"sentence": "1.0 MiB in"}}, "processes": processes})
    assert capsys.readouterr().out.splitlines()[-8:] == [
        "bandwidth: 1.0 MiB in",
        "the last worker-0: ended by SIGSEGV; it had 96.0 MiB of memory at most",
        *(f"  | line {number}\\x1b" for number in range(4, 9)),
        "the last serving: no",
    ]


def test_the_books_in_a_sentence() -> None:
    assert books_sentence({"received": 2, "scored": 1, "dead_letters": {"late": 0}, "difference": 1, "given_up": 7}) == (
        "the books: received 2 = scored 1 + open 0 + waiting 0 + duplicates 0 + dead letters 0; difference 1; "
        "given up unread by retention 7"
    )


def test_numbers_and_text() -> None:
    assert [number(1234.56, 1, "ms"), number(None), number("x"), number(0)] == ["1,234.6 ms", "-", "-", "0"]
    assert [clean(None), clean("é ok"), clean("a\tb\x1b[0m\u202e"), clean(True)] == ["-", "é ok", "a\\tb\\x1b[0m\\u202e", "True"]


def test_a_table_is_plain_in_a_pipe_and_nothing_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    Paper().table(("a", "b"), [["x" * 200, "[bold]1"], ["y", None]], right=("b",))
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == f"{'x' * 200}  [bold]1"
    assert lines[2] == "y" + " " * 207 + "-"


def test_the_bundle_and_what_is_done_with_one(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"active": "plant 1.2", "trial": None}
    for bundle, said in [
        (row, "bundle: plant 1.2 is active"),
        ({**row, "active": None}, "bundle: none is active"),
        ({**row, "trial": {"bundle": "plant 2", "phase": "on probation"}}, "bundle: plant 1.2 is active; plant 2 is on probation"),
    ]:
        draw_status(Paper(), {"node": "box", "bundle": bundle})
        assert said in capsys.readouterr().out.splitlines()


def test_what_a_pipeline_may_send_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    network = {"limit": 65536, "sent": 2048, "waiting": 0}
    draw_pipelines(Paper(), [{"name": "a", "network": network}, {"name": "b", "network": {**network, "waiting": 1}}, {"name": "c"}])
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == [
        "a: sends at most 64.0 KiB/s; 2.0 KiB so far",
        "b: sends at most 64.0 KiB/s; 2.0 KiB so far, 1 waiting",
    ]
