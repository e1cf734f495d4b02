"""`skerry token`: on a running node, and on the file where none runs."""

import json
import os
import re
import stat
from pathlib import Path

import pytest

from skerry.api import TokenStore
from skerry.core.clock import SystemClock
from tests.api.fake_view import Serving
from tests.cli.conftest import TOML, Call

SECRET = r"sk_[A-Za-z0-9_-]{43}"


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """The token file of a node that does not run."""
    (tmp_path / "skerry.toml").write_text(TOML)
    return tmp_path / "data" / "tokens.json"


def test_a_token_is_shown_once(call: Call, node: Serving) -> None:
    answer = call("token", "create", "ops", "--scope", "operate", "--scope", "infer", "--expires", "90d")
    assert answer.code == 0
    assert re.fullmatch(rf"created ops: operate, infer, until \S+Z\ntoken: {SECRET}   \(not shown again\)\n", answer.out)
    made = json.loads(call("token", "create", "a", "--scope", "read,infer", "--json").out)
    assert re.fullmatch(SECRET, made["token"])
    assert (made["scopes"], made["expires"]) == (["read", "infer"], None)
    assert re.fullmatch(rf"{SECRET}\n", call("token", "create", "b", "--scope", "read", "-q").out)
    for command in (["token", "list"], ["token", "list", "--json"], ["logs"]):
        assert "sk_" not in call(*command).out


def test_a_token_in_a_file(call: Call, node: Serving, tmp_path: Path) -> None:
    answer = call("token", "create", "ops", "--scope", "read", "--out", "ops.token")
    assert answer.out == "created ops: read\ntoken: in ops.token\n"
    assert re.fullmatch(rf"{SECRET}\n", (tmp_path / "ops.token").read_text())
    assert stat.S_IMODE((tmp_path / "ops.token").stat().st_mode) == 0o600
    made = json.loads(call("token", "create", "b", "--scope", "read", "--out", "b.token", "--json").out)
    assert made["token_file"] == "b.token"
    assert "token" not in made


def test_a_file_that_is_there_is_kept_and_no_token_made(call: Call, node: Serving, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("precious")
    answer = call("token", "create", "a", "--scope", "read", "--out", "out")
    assert (answer.code, answer.err) == (1, "error: out: cannot be made: File exists; name a new file\n")
    assert (tmp_path / "out").read_text() == "precious"
    assert json.loads(call("token", "list", "--json").out) == {"tokens": []}
    answer = call("token", "create", "a", "--scope", "raed", "--out", "new")
    assert (answer.code, answer.err) == (
        1,
        "error: scopes: 'raed' is no scope, did you mean 'read'?; allowed: read, operate, infer, uplink, ingest, admin\n",
    )
    assert not (tmp_path / "new").exists()


def test_list_and_revoke(call: Call, node: Serving) -> None:
    assert call("token", "list").out == "no tokens: make one with `skerry token create NAME --scope read`\n"
    call("token", "create", "ops", "--scope", "operate")
    head, row = call("token", "list").out.splitlines()
    assert head.split("  ")[0] == "NAME"
    assert row.split()[:2] == ["ops", "operate"]
    assert row.endswith("never    not yet")
    assert call("token", "revoke", "ops").out == "revoked ops: it is refused from now on\n"
    answer = call("token", "revoke", "ops")
    assert (answer.code, answer.err) == (1, "error: there is no token 'ops'; see `skerry token list`\n")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["a"], 2, "Missing option '--scope'"),
        (["a", "--scope", ""], 1, "scopes: a token needs a scope"),
        (["a b", "--scope", "read"], 1, "name: 'a b' will not do as a name"),
        (["a", "--scope", "read", "--expires", "soon"], 2, "expires_in: 'soon' is not a duration"),
        (["a", "--scope", "read", "--expires", "0s"], 1, "expires_in: '0s' will not do; 1s to 100y"),
    ],
)
@pytest.mark.parametrize("running", [True, False])
def test_what_will_not_do(
    call: Call, request: pytest.FixtureRequest, running: bool, arguments: list[str], code: int, said: str
) -> None:
    request.getfixturevalue("node" if running else "stopped")
    answer = call("token", "create", *arguments)
    assert answer.code == code
    assert said in answer.err


def test_without_a_node_the_file_is_changed_and_audited(call: Call, stopped: Path, tmp_path: Path) -> None:
    answer = call("token", "create", "ops", "--scope", "admin", "-q")
    assert answer.code == 0
    store = TokenStore(stopped, SystemClock())
    found = store.find(answer.out.strip())
    assert found is not None
    assert (found.name, found.scopes) == ("ops", ("admin",))
    listed = call("token", "list")
    assert listed.out.splitlines()[1].split()[:2] == ["ops", "admin"]
    assert listed.err == f"no node is running: this is what {stopped} says\n"
    assert call("token", "revoke", "ops", "--json").out == '{"revoked":"ops"}\n'
    assert len(TokenStore(stopped, SystemClock())) == 0
    assert call("token", "revoke", "ops").code == 1
    lines = [json.loads(line) for line in (tmp_path / "data" / "logs" / "audit.log").read_text().splitlines()]
    assert [(line["event"], line["by"], line["name"]) for line in lines] == [
        ("token created", f"unix:{os.getuid()}", "ops"),
        ("token revoked", f"unix:{os.getuid()}", "ops"),
    ]


def test_without_a_node_the_configured_file_is_taken(call: Call, tmp_path: Path) -> None:
    (tmp_path / "skerry.toml").write_text(f'{TOML}[api]\nlisten = "0.0.0.0:8080"\ntoken_file = "keys/tokens.json"\n')
    assert call("token", "create", "ops", "--scope", "read").code == 0
    assert stat.S_IMODE((tmp_path / "keys" / "tokens.json").stat().st_mode) == 0o600
    assert not (tmp_path / "data" / "tokens.json").exists()


def test_a_damaged_file_is_said(call: Call, stopped: Path) -> None:
    stopped.parent.mkdir()
    stopped.write_text("{")
    for command in (["list"], ["create", "a", "--scope", "read"], ["revoke", "a"]):
        answer = call("token", *command)
        assert answer.code == 1
        assert f"error: {stopped}: holds no tokens as they were written" in answer.err
    assert stopped.read_text() == "{"


def test_a_node_elsewhere_that_does_not_answer_is_3_and_no_file_is_made(call: Call, stopped: Path, free_port: int) -> None:
    answer = call("token", "create", "a", "--scope", "read", "--url", f"http://127.0.0.1:{free_port}")
    assert answer.code == 3
    assert not stopped.exists()
