"""`skerry doctor`: one line each, and an exit code that scripts can go by."""

import json
from pathlib import Path

import pytest

from tests.api.fake_view import Serving
from tests.cli.conftest import TOML, Call

QUIET = TOML + '[broker]\nmqtt = "127.0.0.1:0"\n[api]\nlisten = "127.0.0.1:0"\n'


def test_all_is_well(call: Call, tmp_path: Path) -> None:
    (tmp_path / "skerry.toml").write_text(QUIET)
    answer = call("doctor")
    assert (answer.code, answer.err) == (0, "")
    lines = answer.out.splitlines()
    assert lines[0] == "ok    node: does not run now"
    assert lines[1] == "ok    configuration: skerry.toml: well formed, 0 pipelines"
    assert all(line.startswith(("ok    ", "warn  ")) for line in lines)


def test_one_object_for_scripts(call: Call, tmp_path: Path) -> None:
    (tmp_path / "skerry.toml").write_text(QUIET)
    answer = json.loads(call("--json", "doctor").out)
    assert answer["ok"] is True
    assert answer["findings"][0] == {"check": "node", "level": "ok", "says": "does not run now", "mend": ""}


def test_a_fault_in_the_configuration_is_a_finding_and_exit_1(call: Call, tmp_path: Path) -> None:
    (tmp_path / "skerry.toml").write_text(QUIET.replace("127.0.0.1:0", "nowhere", 1))
    answer = call("doctor")
    assert (answer.code, answer.err) == (1, "")
    assert answer.out.startswith("fail  configuration: skerry.toml:5: broker.mqtt: 'nowhere' is not an address; allowed: host:port")
    assert call("--json", "doctor").code == 1


def test_what_a_running_node_says_of_itself_is_there_too(call: Call, node: Serving) -> None:
    lines = call("doctor").out.splitlines()
    assert lines[0].startswith(("ok    node: runs and is ready", "warn  node: runs and is not ready: "))


def test_without_a_configuration(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SKERRY_DASHBOARD__ENABLED", raising=False)  # a variable is a configuration too
    answer = call("doctor")
    assert answer.code == 1
    assert "fail  configuration: there is no configuration: " in answer.out
    assert "make one with `skerry init`" in answer.out
