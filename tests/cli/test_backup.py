"""`skerry backup`: what it asks for, says and refuses; the rest is in tests/backup and tests/system/test_backup.py."""

import json
from pathlib import Path

import pytest

from skerry.cli import main

WORDS = "twelve stones in a row"


@pytest.fixture
def config(tmp_path: Path) -> list[str]:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "uptime.json").write_text("{}")
    (tmp_path / "skerry.toml").write_text("[node]\nname = 'rock'\n")
    return ["--config", str(tmp_path / "skerry.toml")]


def test_create_and_verify_say_what_there_is(config: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(tmp_path / "a.backup")
    assert main([*config, "backup", "create", file]) == 0
    said = capsys.readouterr()
    assert "wrote" in said.out
    assert "--with-secrets" in said.out
    assert said.err == "", "no progress where there is no terminal"
    assert main([*config, "backup", "verify", file]) == 0
    assert "whole: rock" in capsys.readouterr().out
    assert main([*config, "--json", "backup", "verify", file]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["node"], found["format"], found["secrets"]) == ("rock", 1, False)


def test_a_passphrase_is_needed_for_secrets(
    config: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = str(tmp_path / "a.backup")
    monkeypatch.delenv("SKERRY_PASSPHRASE", raising=False)
    assert main([*config, "backup", "create", file, "--with-secrets"]) == 2
    assert "a passphrase is needed" in capsys.readouterr().err
    monkeypatch.setenv("SKERRY_PASSPHRASE", WORDS)
    assert main([*config, "backup", "create", file, "--with-secrets"]) == 0
    assert main(["--config", str(tmp_path / "there" / "skerry.toml"), "backup", "restore", file]) == 0
    assert "restored rock" in capsys.readouterr().out


def test_another_computer_is_refused(config: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*config, "--url", "https://far:1", "backup", "create", str(tmp_path / "a")]) == 2
    assert "own computer" in capsys.readouterr().err


def test_what_is_no_backup_is_refused(config: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("verify", "restore"):
        assert main([*config, "backup", command, str(tmp_path / "skerry.toml")]) == 1
        assert "is no backup of skerry" in capsys.readouterr().err
