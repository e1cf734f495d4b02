"""`skerry pipeline replay`, over a node in memory, without one, and what is refused."""

import json
import os
import re
from pathlib import Path

import pytest

from skerry.pipeline import run_messages
from tests.api.fake_view import Serving
from tests.cli.conftest import TOML, Call
from tests.replay.rig import BEGIN, SECOND, history, messages, samples, spec_of

PIPELINE = """
[[pipelines]]
name = "p"
source = { topic = "devices/+/v", time = "ts", values = ["x", "y"] }
window = { kind = "tumbling", size = "10s", lateness = "2s" }
features = ["mean", "max"]
"""
RULE = "rule = { above = 0.9, clear_below = 0.5 }\n"
SPAN = ("--from", str(BEGIN // SECOND), "--to", str(BEGIN // SECOND + 620))


@pytest.fixture(autouse=True)
def priorities(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The priority that the command takes, which it cannot give back in this process."""
    taken: list[int] = []
    monkeypatch.setattr(os, "setpriority", lambda which, who, priority: taken.append(priority))
    return taken


def test_a_table_of_what_differs(call: Call, node: Serving, tmp_path: Path, priorities: list[int]) -> None:
    rows = samples()
    spec = spec_of(rule={"above": 0.9, "clear_below": 0.5})
    node.view.log = run_messages(spec, None, "box", messages(rows))["events"]
    node.view.messages_log = [
        {"sequence": at, "at": time / SECOND, "topic": topic, "payload": payload.decode()}
        for at, (topic, payload, time) in enumerate(messages(rows), start=1)
        if time is not None
    ]
    (tmp_path / "skerry.toml").write_text(TOML + PIPELINE + RULE)
    same = call("pipeline", "replay", "p", *SPAN, "--diff")
    count = len(node.view.log)
    assert same.out.splitlines()[0] == f"{count} events then, {count} now: {count} the same", same.err
    assert "read from the log from 2026-11-24T17:40:00.000Z to 2026-11-24T17:50:20.000Z" in same.out
    (tmp_path / "other.toml").write_text(TOML + PIPELINE + RULE.replace("0.9", "0.95"))
    lines = call("--config", "other.toml", "pipeline", "replay", "p", *SPAN, "--diff").out.splitlines()
    assert lines[0].split() == ["END", "KEY", "THEN", "NOW", "DIFFERENCE"]
    assert re.fullmatch(r"2026-11-24T17:41:\d\d.000Z  d0   firing 0.9\d*  -  +only then", lines[1])
    assert re.fullmatch(r"2026-11-24T17:4\d:\d\d.000Z  d\d   -  +firing \d.\d* +only now", lines[2])
    assert f"{count} events then, {count} now: " in "\n".join(lines)
    assert "only then" in lines[-3]
    answer = json.loads(call("--config", "other.toml", "pipeline", "replay", "p", *SPAN, "--diff", "--json").out)
    assert set(answer) == {"events", "messages", "windows", "late", "dead_letters", "left_out", "source", "diff"}
    assert answer["diff"]["totals"]["now"] == len(answer["events"]) == count
    far = json.loads(call("--url", node.url, "--config", "other.toml", "pipeline", "replay", "p", *SPAN, "--diff", "--json").out)
    assert far == answer
    assert priorities == [10, 10, 10, 10]


def test_without_a_node_its_files_are_read(call: Call, tmp_path: Path) -> None:
    (tmp_path / "skerry.toml").write_text(TOML + PIPELINE + RULE)
    lost = call("pipeline", "replay", "p", *SPAN)
    assert (lost.code, lost.out) == (1, "")
    assert "no node runs here, whose log could be read, and there is no history" in lost.err
    with history(tmp_path / "data" / "history", samples()):
        pass
    found = call("pipeline", "replay", "p", *SPAN)
    assert "firing" in found.out, found.err
    assert "note: no node runs here: the log, which has the messages themselves, needs it" in found.out
    refused = call("pipeline", "replay", "p", *SPAN, "--source", "log")
    assert (refused.code, refused.err) == (
        1, "error: --source: the log needs the running node; start it with `skerry run`, or name it with --url\n",
    )  # fmt: skip


def test_a_file_in_the_place_of_log_and_history(call: Call, tmp_path: Path) -> None:
    (tmp_path / "skerry.toml").write_text(TOML + PIPELINE)
    lines = [json.dumps({"topic": topic, "payload": json.loads(payload)}) for topic, payload, _ in messages(samples(1, 60))]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    tested = json.loads(call("pipeline", "test", "p", "rows.jsonl", "--json").out)
    replayed = json.loads(call("pipeline", "replay", "p", "--file", "rows.jsonl", "--json").out)
    for name in ("events", "messages", "windows", "late", "dead_letters"):
        assert replayed[name] == tested[name]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("q",), 2, "there is no pipeline 'q'"),
        (("p", "--model", "m@3"), 2, "there is no model 'm'"),
        (("p", "--from", "-1h", "--to", "-2h"), 1, "the stretch ends before it begins"),
        (("p", "--from", "-1s"), 1, "nothing is decided yet of what comes after"),
        (("p", "--from", "yesterday"), 1, "'yesterday' will not do"),
        (("p", "--source", "disk"), 2, "disk"),
        (("p", "--file", "none.jsonl"), 1, "the file does not exist"),
    ],
)
def test_what_is_refused(call: Call, tmp_path: Path, arguments: tuple[str, ...], code: int, said: str) -> None:
    (tmp_path / "skerry.toml").write_text(TOML + PIPELINE)
    answer = call("pipeline", "replay", *arguments)
    assert (answer.code, answer.out) == (code, "")
    assert said in answer.err
