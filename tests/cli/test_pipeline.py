"""`skerry pipeline`, on a node in memory and offline."""

import json
from pathlib import Path

import pytest

from tests.api.fake_view import Serving
from tests.cli.conftest import TOML, Call

LEVEL = """
[[pipelines]]
name = "level"
source = { topic = "devices/+/level", format = "json", time = "ts", values = ["h"] }
window = { kind = "tumbling", size = "1s" }
features = ["mean", "max"]
"""


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A configuration, and a file of four rows in two windows of one device, with one that is late."""
    (tmp_path / "skerry.toml").write_text(TOML + LEVEL)
    file = tmp_path / "rows.csv"
    file.write_text("device,ts,h\na,100.0,1\na,100.5,3\na,101.0,5\na,99.0,7\n")
    return file


def test_list_and_show(call: Call, node: Serving) -> None:
    text = call("pipeline", "list").out.splitlines()
    assert text[0].split() == ["PIPELINE", "STATE", "RATE/S", "LAG", "EVENTS", "P50", "MS", "P99", "MS"]
    assert text[1].split() == ["bearing", "running", "1,000.0", "12", "33", "2.1", "-"]
    assert text[4].split() == ["THE", "BOOKS", "RECEIVED", "SCORED", "OPEN", "WAITING", "DUPLICATES", "DEAD", "OFF"]
    assert text[5].split() == ["bearing", "1,204", "1,100", "100", "0", "1", "3", "0"]
    assert max(map(len, text)) <= 80
    assert json.loads(call("pipeline", "list", "--json").out) == {"pipelines": node.view.pipelines()}
    assert 'window = "tumbling"' in call("pipeline", "show", "bearing").out
    answer = call("pipeline", "show", "bering")
    assert (answer.code, answer.err) == (
        1,
        "error: there is no pipeline 'bering', did you mean 'bearing'?; there are bearing, level\n",
    )


def test_pause_and_resume(call: Call, node: Serving) -> None:
    assert call("pipeline", "pause", "bearing").out == "paused bearing\n"
    assert node.view.paused == {"bearing"}
    assert call("pipeline", "resume", "bearing").out == "resumed bearing\n"
    assert node.view.paused == set()
    assert call("pipeline", "pause", "none").code == 1


def test_dead_letters(call: Call, node: Serving) -> None:
    letter = {"at": "2026-01-01T00:00:00.000Z", "reason": "undecodable", "topic": "devices/a/x", "detail": "no JSON"}
    node.view.letters["bearing"] = [
        {**letter, "id": str(number), "sequence": number, "payload": f"\x1b{number}" + "x" * 100} for number in range(1500)
    ]
    text = call("pipeline", "deadletters", "bearing", "-n", "2").out.splitlines()
    assert text[0].split() == ["ID", "AT", "REASON", "TOPIC", "DETAIL", "PAYLOAD"]
    assert "undecodable  devices/a/x  no JSON  \\x1b0xxx" in text[1]
    assert text[-1] == "2 dead letters, and more: -n shows them"
    every = json.loads(call("pipeline", "deadletters", "bearing", "-n", "5000", "--json").out)
    assert len(every["dead_letters"]) == 1500
    assert every["next"] is None
    assert call("pipeline", "deadletters", "bearing", "--retry", "--drop").code == 2
    assert call("pipeline", "deadletters", "bearing", "--retry").out == "1,500 put back to be processed again\n"
    node.view.letters["bearing"] = [letter]
    assert json.loads(call("pipeline", "deadletters", "bearing", "--drop", "--json").out) == {"dropped": 1}
    assert call("pipeline", "deadletters", "bearing").out == "0 dead letters\n"


def test_single_dead_letters(call: Call, node: Serving) -> None:
    kinds = ("late", "nan", "late", "undecodable")
    node.view.letters["bearing"] = [
        {"id": str(at), "sequence": at, "reason": reason, "key": f"pump-{at % 2}", "topic": "t", "payload": "x" * 100, "at": "now"}
        for at, reason in enumerate(kinds)
    ]
    shown = call("pipeline", "deadletters", "bearing", "--id", "2").out
    assert f"payload: {'x' * 100}\n" in shown
    assert "id: 2\n" in shown
    assert "id: 1\n" not in shown
    rows = json.loads(call("pipeline", "deadletters", "bearing", "--reason", "late", "--json").out)["dead_letters"]
    assert [row["id"] for row in rows] == ["0", "2"]
    answer = call("pipeline", "deadletters", "bearing", "--id", "77")
    assert (answer.code, answer.err.partition(";")[0]) == (1, "error: there is no dead letter 77")
    assert call("pipeline", "deadletters", "bearing", "--why", "old").code == 2
    assert call("pipeline", "deadletters", "bearing", "--retry", "--id", "1").out == "1 put back to be processed again\n"
    assert call("pipeline", "deadletters", "bearing", "--drop", "--device", "pump-0", "--why", "old").out == "2 dropped\n"
    assert [row["id"] for row in node.view.letters["bearing"]] == ["3"]


def test_check(call: Call, tmp_path: Path, rows: Path) -> None:
    assert call("pipeline", "check").out == "level: fits, 2 features: h_mean, h_max\n"
    model = 'model = "m"\n[[models]]\nname = "m"\nfile = "none.onnx"\n'
    (tmp_path / "skerry.toml").write_text(TOML + LEVEL + model)
    answer = call("pipeline", "check", "level")
    assert answer.code == 1
    assert "the model file does not exist" in answer.err
    assert json.loads(call("pipeline", "check", "--json").out)["pipelines"][0]["ok"] is False
    answer = call("pipeline", "check", "lvl")
    assert answer.code == 2
    assert "there is no pipeline 'lvl', did you mean 'level'?" in answer.err


def test_test(call: Call, rows: Path) -> None:
    answer = call("pipeline", "test", "level", rows)
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert lines[0].split() == ["START", "KEY", "STATE", "SCORE", "LABEL", "COUNT"]
    assert lines[1].split() == ["1970-01-01T00:01:40.000Z", "a", "info", "2.0000", "-", "2"]
    assert lines[-1] == "4 messages, 2 windows, 2 events, 1 late, 1 dead letter"
    whole = call("pipeline", "test", "level", rows, "--json")
    assert whole == call("pipeline", "test", "level", rows, "--json")
    assert [event["score"] for event in json.loads(whole.out)["events"]] == [2.0, 5.0]
    assert call("pipeline", "test", "level", "none.csv").code == 1
    assert call("pipeline", "test", "none", rows).code == 2


def test_expect(call: Call, rows: Path, tmp_path: Path) -> None:
    (tmp_path / "good.json").write_text(call("pipeline", "test", "level", rows, "--json").out)
    answer = call("pipeline", "test", "level", rows, "--expect", "good.json", "--json")
    assert (answer.code, answer.err) == (0, "as expected: 2 events\n")
    json.loads(answer.out)
    events = json.loads((tmp_path / "good.json").read_text())["events"]
    events[1]["features"]["h_max"] = 6.0
    (tmp_path / "bad.jsonl").write_text("\n".join(map(json.dumps, events)))
    answer = call("pipeline", "test", "level", rows, "--expect", "bad.jsonl", "-q")
    assert answer.code == 1
    assert answer.err.splitlines() == [
        "a 1970-01-01T00:01:41.000Z (info): features.h_max should be 6.0, it is 5.0",
        "error: bad.jsonl: the events are not as expected; mend the pipeline, or write the file anew with --json",
    ]
    assert call("pipeline", "test", "level", rows, "--expect", "none").code == 1


def test_a_trace_is_drawn_with_bars(call: Call, node: Serving) -> None:
    answer = call("pipeline", "trace", "bearing", "--device", "pump-7", "--timeout", "5")
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert lines[0] == "message 7 of pump-7 on devices/pump-1/v, 20 bytes"
    bars = {line.split()[0]: line.count("█") for line in lines[2:5]}
    assert bars == {"log": 1, "open": 30, "rule": 0}
    assert lines[-2].endswith("50 samples; scored with 1 other")
    assert lines[-1] == "1,000.5 ms in all; event e1"
    assert json.loads(call("pipeline", "trace", "bearing", "--json").out)["key"] == "pump-1"
    answer = call("pipeline", "trace", "bearing", "--device", "silent", "--timeout", "1.5")
    assert answer.code == 1
    assert "no message of silent came for pipeline bearing within 1.5 s" in answer.err
