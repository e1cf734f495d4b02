"""`skerry config`."""

import json
from pathlib import Path

import pytest

from tests.api.fake_view import Serving
from tests.cli.conftest import TOML, Call


def test_check(call: Call, tmp_path: Path) -> None:
    (tmp_path / "skerry.toml").write_text(TOML)
    answer = call("config", "check")
    assert (answer.code, answer.out) == (0, "skerry.toml: well formed; 0 pipelines, 0 models\n")
    assert json.loads(call("config", "check", "--json").out) == {"ok": True, "file": "skerry.toml", "pipelines": [], "models": []}
    (tmp_path / "skerry.toml").write_text('[node]\nnmae = "box"\n')
    answer = call("config", "check")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("error: skerry.toml:2: node: unknown key 'nmae', did you mean 'name'?")


def test_show(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "skerry.toml").write_text(TOML)
    monkeypatch.setenv("SKERRY_NODE__SITE", "pier")
    plain = call("config", "show").out.splitlines()
    assert 'node.name = "box"' in plain
    assert 'node.site = "pier"' in plain
    shown = call("config", "show", "--origin").out.splitlines()
    assert 'node.name = "box"  # skerry.toml' in shown
    assert 'node.site = "pier"  # SKERRY_NODE__SITE' in shown
    assert 'api.loopback = "all"  # default' in shown
    rows = json.loads(call("config", "show", "--json").out)["config"]
    assert {"key": "node.site", "value": "pier", "origin": "SKERRY_NODE__SITE"} in rows


def test_schema(call: Call) -> None:
    schema = json.loads(call("config", "schema").out)
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert "pipelines" in str(schema)


def test_reload(call: Call, node: Serving) -> None:
    assert call("config", "reload").out == "changed: pipelines\nneeds a restart: broker\n"
    node.view.wrong_file = True
    answer = call("config", "reload")
    assert (answer.code, answer.err) == (2, "error: skerry.toml: node: unknown key 'nmae'; allowed: name, site\n")
