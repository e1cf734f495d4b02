"""`skerry uplink`: what it prints and what it asks of the node; envelopes read without one."""

import json
from pathlib import Path

import pytest

from skerry.trust import SigningKey
from skerry.uplink import open_command
from tests.api.fake_view import Serving
from tests.cli.conftest import Call
from tests.uplink.test_receive import envelope

CONFIG = """\
[node]
name = "rock"
site = "shore"
[uplink]
kind = "file"
url = "stick"
redact = ["note"]
[[pipelines]]
name = "p"
source = { topic = "devices/+/v", values = ["x"], time = "ts" }
sinks = ["event", { kind = "uplink", select = ["event", "raw"] }]
"""


def test_the_link_is_shown_paused_and_tested(call: Call, node: Serving) -> None:
    assert call("uplink", "status").out == "http sent\n"
    assert json.loads(call("uplink", "status", "--json").out)["uplink"]["paused"] is False
    assert call("uplink", "pause").out == "paused: what is to leave waits\n"
    assert node.view.uplink.paused
    answer = call("uplink", "test")
    assert (answer.code, answer.out) == (1, "acknowledged in 1.5 ms\n")
    assert call("uplink", "resume").code == 0
    assert call("uplink", "test").code == 0


def test_all_that_is_known_is_drawn(call: Call, node: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    lane = {"waiting": 3, "envelopes": 2, "items": 7, "bytes": 1234, "failed": 1}
    counts = {"messages": 500, "bytes_in": 17000, "queued": {"raw": 200, "event": 29}, "saved": {"pack": 16771, "deadband": 0}}
    shown = {
        "uplink": {
            "kind": "mqtt", "sentence": "mqtts://centre:8883: 1.2 KiB sent, 3 items wait", "last": "2026-12-01T02:33:58.212Z",
            "lanes": {"alarm": lane}, "saved": {"pipelines": {"p": counts}, "withheld": {"gps.*: drop": 12}},
        },
        "received": {
            "envelopes": 4, "messages": 40, "again": 1, "refused": 2,
            "commands": [{"id": "c1", "site": "shore", "node": "rock", "expires": "2026-12-01T03:00:00.000Z"}],
        },
    }  # fmt: skip
    monkeypatch.setattr(node.view.uplink, "shown", lambda: shown)
    lines = call("uplink", "status").out.splitlines()
    assert lines[0] == "mqtt mqtts://centre:8883: 1.2 KiB sent, 3 items wait"
    assert "alarm           3     7          2  1,234       1" in lines
    assert "p              500    17,000     229  pack 16,771" in lines
    assert "withheld: gps.*: drop 12" in lines
    assert lines[-2] == "received: 4 envelopes, 40 messages of them; 1 that were there already, 2 refused"
    assert lines[-1] == "command c1 for shore/rock waits until 2026-12-01T03:00:00.000Z"


def test_a_node_without_a_link_says_so(call: Call, node: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node.view.uplink, "shown", lambda: {"uplink": None, "received": None})
    assert "set uplink.url" in call("uplink", "status").out
    node_file = Path("skerry.toml")
    node_file.write_text(node_file.read_text() + CONFIG.partition("[uplink]")[1] + CONFIG.partition("[uplink]")[2])
    assert call("uplink", "status").out == "uplink.url is set, but not yet in the node that runs: restart it\n"


def test_envelopes_of_files_and_directories_go_to_the_node(call: Call, node: Serving, tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    for first in (1, 4):
        (stick / f"{first}.skup").write_bytes(envelope(first, first + 2))
    (stick / "holiday.jpg").write_bytes(b"no envelope")
    assert call("uplink", "receive", "stick/1.skup").out == "in the log: 1 envelope\n"
    assert call("uplink", "receive", "stick").out == "in the log: 2 envelopes, 1 of them there already\n"
    assert [taken for taken, _ in node.view.uplink.taken] == [envelope(1, 3), envelope(1, 3), envelope(4, 6)]
    assert call("uplink", "receive", "stick").out == "in the log: 2 envelopes, there already\n"
    assert json.loads(call("uplink", "receive", "stick", "--json").out) == {"envelopes": 2, "again": 2}
    answer = call("uplink", "receive", "stick/holiday.jpg")
    assert answer.code == 1
    assert "stick/holiday.jpg" in answer.err
    assert call("uplink", "receive", "nothing").code == 1


def test_what_is_in_an_envelope_is_shown_without_a_node(call: Call, tmp_path: Path) -> None:
    (tmp_path / "e.skup").write_bytes(envelope(1, 2))
    rows = [json.loads(line) for line in call("uplink", "receive", "--show", "e.skup").out.splitlines()]
    assert [row["payload"]["score"] for row in rows] == [1.0, 2.0]
    assert rows[0]["topic"] == "sites/shore/rock/events/p/d"
    (tmp_path / "bad.skup").write_bytes(envelope(1, 2)[:-3])
    answer = call("uplink", "receive", "--show", "bad.skup")
    assert answer.code == 1
    assert "error: bad.skup: the envelope is not what was sent" in answer.err


def test_a_command_is_signed_here_and_given_to_the_node(call: Call, node: Serving, tmp_path: Path) -> None:
    key = SigningKey.new()
    (tmp_path / "centre.pem").write_text(key.pem())
    answer = call("uplink", "command", "shore/rock", "commands/valve/set", "42", "--expires", "5m")
    assert "command c1 waits for shore/rock until" in answer.out
    command = open_command(node.view.uplink.commands[0], key.public)
    assert (command.site, command.node, command.topic, command.payload) == ("shore", "rock", "commands/valve/set", b"42")
    assert command.expires - command.issued == 300_000_000
    ordered = ("uplink", "command", "shore/rock", "commands/valve/set", "42")
    answer = call(*ordered, "--wait", "0.1")
    assert (answer.code, answer.out) == (1, "no answer of shore/rock within 0.1 s; the command waits on\n")
    node.view.uplink.outcome = "refused: not allowed"
    answer = call(*ordered, "--wait", "30")
    assert (answer.code, answer.out) == (1, "shore/rock: refused: not allowed\n")
    node.view.uplink.outcome = "done"
    answer = call(*ordered, "--wait", "30", "--json")
    assert (answer.code, json.loads(answer.out)["outcome"]) == (0, "done")
    assert "write SITE/NODE" in call("uplink", "command", "rock", "commands/valve/set").err
    assert "openssl genpkey" in call("uplink", "command", "a/b", "c", "--key", "none.pem").err
    assert "no topic" in call("uplink", "command", "a/b", "c/+").err


def test_what_would_leave_is_shown_to_the_byte(call: Call, tmp_path: Path) -> None:
    (tmp_path / "skerry.toml").write_text(CONFIG)
    rows = [{"topic": "devices/d/v", "payload": {"ts": 1_764_000_000 + at, "x": at, "note": "secret"}} for at in range(3)]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    answer = json.loads(call("uplink", "preview", "p", "m.jsonl", "--json").out)
    assert [record["kind"] for record in answer["records"]].count("raw") == 3
    assert "secret" not in json.dumps(answer)
    (tmp_path / "out").mkdir()
    shown = call("uplink", "preview", "p", "m.jsonl", "--out", "out")
    assert f"{answer['bytes']:,} bytes" in shown.out
    assert sum(path.stat().st_size for path in (tmp_path / "out").iterdir()) == answer["bytes"]
    assert call("uplink", "receive", "--show", "out").code == 0
    assert "there is no pipeline" in call("uplink", "preview", "q", "m.jsonl").err
