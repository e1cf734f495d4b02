"""The file of the tokens: what is written comes back, what is damaged is said, and several may change it."""

import multiprocessing
import os
import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.api.scopes import SCOPES
from skerry.api.token_file import Token, is_name, locked, mark_of, read_tokens, write_tokens
from skerry.core.errors import ConfigError, CorruptError, UnavailableError

MOMENT = 1_764_000_000_000_000
ROW = {"name": "a", "scopes": ["read"], "sha256": "0" * 64, "created": "2026-01-01T00:00:00Z"}
MILLISECONDS = st.integers(0, 4 * 10**12).map(lambda value: value * 1000)
TOKENS = st.builds(
    Token,
    name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", fullmatch=True),
    scopes=st.lists(st.sampled_from(SCOPES), min_size=1, max_size=4).map(tuple),
    sha256=st.binary(min_size=32, max_size=32).map(bytes.hex),
    created=MILLISECONDS,
    expires=st.none() | MILLISECONDS,
    used=st.none() | MILLISECONDS,
)


@given(st.lists(TOKENS, max_size=5))
def test_what_is_written_comes_back(tmp_path_factory: pytest.TempPathFactory, tokens: list[Token]) -> None:
    file = tmp_path_factory.mktemp("tokens") / "tokens.json"
    write_tokens(file, tokens)
    assert read_tokens(file) == tokens
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [each.name for each in file.parent.iterdir()] == ["tokens.json"]


def test_no_file_is_no_token(tmp_path: Path) -> None:
    assert read_tokens(tmp_path / "none.json") == []
    assert mark_of(tmp_path / "none.json") == ()


def damaged(**changes: object) -> bytes:
    return msgspec.json.encode({"tokens": [{**ROW, **changes}]})


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b'{"tokens": [',
        b'{"tokens": {}}',
        b'{"tokens": [], "more": 1}',
        damaged(name="a b"),
        damaged(name=""),
        damaged(scopes=[]),
        damaged(scopes=["root"]),
        damaged(sha256="0" * 63),
        damaged(sha256="G" * 64),
        damaged(created="yesterday"),
        damaged(created=None),
        damaged(expires="never"),
        damaged(secret="sk_x"),
    ],
)
def test_what_is_damaged_is_said(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "tokens.json"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(CorruptError, match="holds no tokens as they were written") as caught:
        read_tokens(file)
    assert caught.value.where == str(file)
    assert "make new ones" in caught.value.mend


@pytest.mark.parametrize(("mode", "may"), [(0o600, True), (0o400, True), (0o644, True), (0o620, False), (0o602, False)])
def test_a_file_that_others_may_write_is_refused(tmp_path: Path, mode: int, may: bool) -> None:
    file = tmp_path / "tokens.json"
    file.write_bytes(damaged())
    file.chmod(mode)
    if may:
        assert len(read_tokens(file)) == 1
        return
    with pytest.raises(ConfigError, match=rf"others may write to it \(mode {mode:o}\); chmod 600 "):
        read_tokens(file)


def test_a_place_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnavailableError, match="cannot be read: Is a directory"):
        read_tokens(tmp_path)
    with pytest.raises(UnavailableError, match="cannot be written: "):
        write_tokens(tmp_path / "none" / "tokens.json", [])
    with pytest.raises(UnavailableError, match="cannot be written: "), locked(tmp_path / "file" / "tokens.json"):
        pass


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    write_tokens(file, [Token("a", ("read",), "0" * 64, MOMENT)])
    (tmp_path / ".tokens.json.new").mkdir()
    with pytest.raises(UnavailableError):
        write_tokens(file, [])
    assert [token.name for token in read_tokens(file)] == ["a"]


def test_what_lies_in_its_way_is_not_written_through(tmp_path: Path) -> None:
    file, victim = tmp_path / "tokens.json", tmp_path / "victim"
    victim.write_text("not ours")
    (tmp_path / ".tokens.json.new").symlink_to(victim)
    write_tokens(file, [])
    assert victim.read_text() == "not ours"
    (tmp_path / ".tokens.json.new").touch(mode=0o644)
    write_tokens(file, [])
    assert file.stat().st_mode & 0o077 == 0


def test_the_folder_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    with locked(tmp_path / "new" / "tokens.json"):
        assert list((tmp_path / "new").iterdir()) == []
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


def _add(file: Path, number: int) -> None:
    for count in range(5):
        with locked(file):
            write_tokens(file, [*read_tokens(file), Token(f"t{number}.{count}", ("read",), "0" * 64, os.getpid())])


def test_several_processes_lose_nothing(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_add, args=(file, number)) for number in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(20)
        assert process.exitcode == 0
    assert {token.name for token in read_tokens(file)} == {f"t{number}.{count}" for number in range(3) for count in range(5)}


@pytest.mark.parametrize("change", ["content", "mode", "replaced", "removed"])
def test_the_mark_changes_with_the_file(tmp_path: Path, change: str) -> None:
    file = tmp_path / "tokens.json"
    write_tokens(file, [])
    before = mark_of(file)
    assert mark_of(file) == before
    changes: dict[str, Any] = {
        "content": lambda: file.write_bytes(damaged()),
        "mode": lambda: file.chmod(0o666),
        "replaced": lambda: write_tokens(file, []),
        "removed": file.unlink,
    }
    changes[change]()
    assert mark_of(file) != before


@pytest.mark.parametrize(
    ("text", "may"),
    [("ops", True), ("a.b_c@d-e", True), ("9", True), ("x" * 64, True)]
    + [(text, False) for text in ("", "-a", ".a", "a b", "a/b", "ä", "a\n", "x" * 65)],
)
def test_names(text: str, may: bool) -> None:
    assert is_name(text) is may


def test_a_row_shows_no_digest() -> None:
    token = Token("a", ("read", "infer"), "f" * 64, MOMENT, expires=MOMENT + 1_000_000)
    row = token.row(MOMENT)
    assert row == {
        "name": "a",
        "scopes": ["read", "infer"],
        "created": "2025-11-24T16:00:00.000Z",
        "expires": "2025-11-24T16:00:01.000Z",
        "expired": False,
        "last_used": None,
    }
    assert token.row(MOMENT + 1_000_000)["expired"] is True
