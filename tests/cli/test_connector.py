"""`skerry connector`: what it prints, and what it looks at by itself."""

import json
from pathlib import Path

import pytest

from tests.api.fake_view import Serving
from tests.cli.conftest import Call

CONFIG = """\
[[connectors]]
name = "hall"
kind = "mqtt"
direction = "in"
url = "mqtt://127.0.0.1:%d"
topics = [{ from = "a/+" }]
"""


def test_all_are_listed(call: Call, node: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = call("connector", "list").out.splitlines()
    assert lines[0].split() == ["NAME", "KIND", "DIRECTION", "STATE", "MOVED", "REFUSED", "ERRORS", "LAST"]
    assert lines[1].split() == ["hall", "mqtt", "in", "running", "3", "0", "0", "-"]
    assert json.loads(call("connector", "list", "--json").out)["connectors"][1]["name"] == "push"
    row = {**node.view.connectors.shown()["connectors"][0], "trouble": "mqtt://b:1883: no answer", "refused": {"too large": 2}}
    monkeypatch.setattr(node.view.connectors, "shown", lambda: {"connectors": [row]})
    lines = call("connector", "list").out.splitlines()
    assert lines[1].split()[5] == "2"
    assert lines[2] == "hall: mqtt://b:1883: no answer"
    monkeypatch.setattr(node.view.connectors, "shown", lambda: {"connectors": []})
    assert "no connectors" in call("connector", "list").out


def test_the_other_side_is_looked_at_without_a_node(call: Call, free_port: int, tmp_path: Path) -> None:
    (tmp_path / "skerry.toml").write_text(CONFIG % free_port)
    answer = call("connector", "test", "hall")
    assert answer.code == 1
    assert f"{free_port}" in answer.err
    answer = call("connector", "test", "hal")
    assert answer.code == 2
    assert "there is no connector 'hal', did you mean 'hall'?" in answer.err
