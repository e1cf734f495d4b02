"""`skerry device`."""

import json
import stat
from pathlib import Path

import pytest

from tests.api.fake_view import Serving
from tests.cli.conftest import Call

pytestmark = pytest.mark.usefixtures("node")


def test_add_shows_the_password_once(call: Call, node: Serving) -> None:
    answer = call("device", "add", "pump-1", "--password", "--topics", "sub:events/#,pub:a/{device}", "--topics", "sub:b")
    assert answer.out == "added pump-1\npassword: made-for-pump-1   (not shown again)\n"
    assert node.view.known["pump-1"]["topics"] == ["sub:events/#", "pub:a/{device}", "sub:b"]
    assert json.loads(call("device", "add", "b", "--password", "--json").out)["password"] == "made-for-b"
    assert call("device", "add", "c", "--password", "-q").out == "made-for-c\n"
    for command in (["list"], ["show", "pump-1"]):
        assert "made-for" not in call("device", *command).out


def test_add_to_a_file(call: Call, tmp_path: Path) -> None:
    out = tmp_path / "pump-1.password"
    answer = call("device", "add", "pump-1", "--password", "--out", out)
    assert answer.out == f"added pump-1\npassword: in {out}\n"
    assert out.read_text() == "made-for-pump-1\n"
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    answer = call("device", "add", "b", "--password", "--out", tmp_path / "b", "--json")
    assert "password" not in json.loads(answer.out)
    assert "made-for" not in answer.out


def test_a_file_that_is_there_is_kept_and_no_device_made(call: Call, node: Serving, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("precious")
    answer = call("device", "add", "a", "--password", "--out", "out")
    assert (answer.code, answer.err) == (1, "error: out: cannot be made: File exists; name a new file\n")
    assert (tmp_path / "out").read_text() == "precious"
    assert not node.view.known


def test_no_file_is_left_when_the_device_was_refused(call: Call, tmp_path: Path) -> None:
    call("device", "add", "a", "--password")
    answer = call("device", "add", "a", "--password", "--out", "out")
    assert (answer.code, answer.err) == (1, "error: device 'a' is there already; remove it first\n")
    assert not (tmp_path / "out").exists()


def test_keys_come_later(call: Call, node: Serving) -> None:
    answer = call("device", "add", "a")
    assert answer.code == 2
    assert "log-in with a key is not part of this version; add --password" in answer.err
    assert not node.view.known


def test_list_show_revoke_remove(call: Call, node: Serving) -> None:
    assert call("device", "list").out == "no devices: add one with `skerry device add ID --password`\n"
    call("device", "add", "pump 1", "--password")
    head, row = call("device", "list").out.splitlines()
    assert head.split() == ["ID", "KIND", "REVOKED", "TOPICS"]
    assert row.split("  ")[0] == "pump 1"
    assert [each["id"] for each in json.loads(call("device", "list", "--json").out)["devices"]] == ["pump 1"]
    assert "kind: password" in call("device", "show", "pump 1").out
    assert call("device", "revoke", "pump 1").out == "revoked pump 1: it is refused from now on\n"
    assert node.view.known["pump 1"]["revoked"] is True
    assert call("device", "remove", "pump 1").out == "removed pump 1\n"
    for verb in ("show", "revoke", "remove"):
        answer = call("device", verb, "pump 1")
        assert (answer.code, answer.err) == (1, "error: there is no device 'pump 1'; see `skerry device list`\n")


def test_a_name_cannot_drive_the_terminal(call: Call, node: Serving) -> None:
    call("device", "add", "a\x1b[31m\n", "--password")
    assert "\x1b" not in call("device", "list").out
    assert "a\\x1b[31m\\n" in call("device", "list").out
    assert call("device", "remove", "a\x1b[31m\n").code == 0
