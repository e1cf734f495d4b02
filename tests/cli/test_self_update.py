"""`skerry self-update --check`: the real pip, over a directory of wheels, and where nobody answers."""

import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from skerry.cli.self_update import _release, look
from tests.cli.conftest import Call


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is all that pip looks into."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An index that takes connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
        monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{listening.getsockname()[1]}/")
        yield


def offer(folder: Path, *versions: str) -> None:
    for each in versions:
        (folder / f"skerry-{each}-py3-none-any.whl").touch()


def test_a_newer_one_is_there(call: Call, wheels: Path) -> None:
    offer(wheels, "0.0.9", "99.10.0", "99.9.0")
    answer = call("self-update", "--check")
    assert (answer.code, answer.err) == (0, "")
    assert "is installed; 99.10.0 is there; " in answer.out
    told = json.loads(call("--json", "self-update", "--check").out)
    assert (told["newest"], told["newer"], told["why"]) == ("99.10.0", True, "")


def test_there_is_no_newer_one(wheels: Path) -> None:
    offer(wheels, "0.0.9")
    found = look("0.1.0")
    assert (found.newest, found.newer) == ("0.0.9", False)


def test_nobody_knows_skerry_there(call: Call, wheels: Path) -> None:
    answer = call("self-update", "--check")
    assert (answer.code, answer.err) == (0, "")
    assert "cannot look for a newer one: No matching distribution found for skerry; nothing depends on it" in answer.out


@pytest.mark.usefixtures("silent")
def test_no_answer_takes_bounded_time() -> None:
    found = look("0.1.0", seconds=1.0)
    assert (found.newest, found.newer, found.why) == (None, None, "no answer within 1 s")


def test_no_interpreter_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert look("0.1.0").why == "No such file or directory"


def test_without_check_it_says_that_it_changes_nothing(call: Call) -> None:
    answer = call("self-update")
    assert answer.code == 2
    assert answer.err.startswith("error: self-update: skerry does not change itself; --check looks")


def test_versions_are_compared_as_numbers() -> None:
    assert _release("1.10") > _release("1.9.9")
    assert _release("1.0") == _release("1") == _release("1.0.0rc1")
    assert _release("not installed") == ()
