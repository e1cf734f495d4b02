"""From TOML and environment to structs, with file, key, value and what is allowed in every refusal."""

from pathlib import Path
from typing import Literal

import msgspec
import pytest

from skerry.core.errors import ConfigError
from skerry.core.settings import build, load_tables, place


class Inner(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    level: int = 1


class Room(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    kind: Literal["a", "b"] = "a"
    size: float = 1.0
    inner: Inner = Inner()
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.name == "bad":
            raise ConfigError("'bad' is no name", where="name", allowed="anything else")


def test_a_table_becomes_a_struct() -> None:
    table = {"name": "n", "size": 2, "inner": {"level": 3}, "names": ["x"]}
    assert build(Room, table, "room") == Room("n", "a", 2.0, Inner(3), ("x",))


@pytest.mark.parametrize(
    ("table", "where", "words"),
    [
        (
            {"name": "n", "kid": "a"},
            "room",
            ["unknown key 'kid'", "did you mean 'kind'", "allowed: inner, kind, name, names, size"],
        ),
        ({"name": 5}, "room.name", ["a text in quotes", "not 5"]),
        ({}, "room", ["name"]),
        ({"name": "n", "kind": "c"}, "room.kind", ["'c'"]),
        ({"name": "n", "size": "2"}, "room.size", ["'2'"]),
        ({"name": "n", "size": True}, "room.size", ["True"]),
        ({"name": "n", "inner": {"level": "x"}}, "room.inner.level", ["'x'"]),
        ({"name": "n", "names": ["x", 5]}, "room.names[1]", ["a text in quotes"]),
        ({"name": "bad"}, "room.name", ["no name", "allowed: anything else"]),
        ([], "room", ["must be a table"]),
        (None, "room", ["must be a table"]),
    ],
)
def test_a_refusal_names_key_and_value(table: object, where: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        build(Room, table, "room")
    assert caught.value.where == where
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_the_environment_lies_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "skerry.toml"
    path.write_text('[room]\nname = "file"\nsize = 1\n[[models]]\nname = "m"\n')
    environ = {
        "SKERRY_ROOM__SIZE": "2.5",
        "SKERRY_ROOM__NAMES": '["a"]',
        "SKERRY_OTHER__DEEP__FLAG": "true",
        "SKERRY_ROOM__KIND": "plain text",
        "HOME": "x",
    }
    tables = load_tables(path, environ)
    assert tables.values["room"] == {"name": "file", "size": 2.5, "names": ["a"], "kind": "plain text"}
    assert tables.values["other"] == {"deep": {"flag": True}}
    assert tables.origins["room.size"] == "SKERRY_ROOM__SIZE"
    assert tables.origins["room.name"] == tables.origins["models[0].name"] == str(path)
    assert place(path) == str(path)


def test_a_variable_cannot_go_through_a_value(tmp_path: Path) -> None:
    path = tmp_path / "skerry.toml"
    path.write_text("room = 5\n")
    with pytest.raises(ConfigError, match=r"SKERRY_ROOM__SIZE: room\.size"):
        load_tables(path, {"SKERRY_ROOM__SIZE": "1"})


@pytest.mark.parametrize(("content", "words"), [(b"a = \n", ":1: is not valid"), (b"\xff", "TOML"), (b"a = 1\na = 2\n", "TOML")])
def test_a_file_that_is_no_toml_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "skerry.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=words) as caught:
        load_tables(path, {})
    assert caught.value.where.startswith(str(path))


def test_a_file_that_is_not_there_is_named_and_none_is_enough(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="skerry init"):
        load_tables(tmp_path / "none.toml", {})
    assert load_tables(None, {}).values == {}
