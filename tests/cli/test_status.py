"""`skerry status`."""

import json

import pytest

from skerry.cli.session import Paper, clean, number
from skerry.cli.status import books_sentence, draw_status
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
        "up 99.987 % of the time since its first start",
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


def test_a_status_with_little_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    draw_status(Paper(), {"node": "n", "pipelines": [{"name": "p", "state": "failed", "reason": "no model\x1b"}], "broker": "up"})
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["n at -, skerry -", "NOT READY"]
    assert "p: no model\\x1b" in lines
    assert "broker: up" in lines
    draw_status(Paper(), {})
    assert "no pipelines" in capsys.readouterr().out


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
