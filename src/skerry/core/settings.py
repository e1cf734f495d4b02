"""Settings from TOML and environment into frozen structs, with the origin of every value.

A room owns a frozen `msgspec.Struct` with defaults; `load_tables` reads the file and the overrides, `build` turns one table
into the room's struct and says file, key, value and what is allowed when it does not fit.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin

import msgspec

from skerry.core.errors import ConfigError, suggestion
from skerry.core.toml_lines import line_of

PREFIX = "SKERRY_"
Table = dict[str, Any]
S = TypeVar("S", bound=msgspec.Struct)
_LINE = re.compile(r" \(at line (\d+), column (\d+)\)$")
_UNKNOWN = re.compile(r"unknown (?:key|section) '([^']+)'")
_EXPECTED = re.compile(r"[Ee]xpected `([^`]+)`, got `\w+`")
_LACKS = re.compile(r"[Oo]bject missing required field `([^`]+)`")
_WORDS = {
    "str": "a text in quotes", "int": "a whole number", "float": "a number", "bool": "true or false", "array": "a list in [ ]",
    "object": "a table",
}  # fmt: skip


class Tables(msgspec.Struct):
    """The raw tables, and where each dotted key came from: the file, or a variable."""

    values: Table
    origins: dict[str, str]
    path: Path | None
    content: str = ""

    def placed(self, error: ConfigError) -> ConfigError:
        """The same error with the line of its key in the file, or with the variable that the value came from."""
        file, _, key = error.where.partition(": ")
        if file != place(self.path):
            return error
        unknown = _UNKNOWN.match(error.message)
        whole = f"{key}.{unknown[1]}".lstrip(".") if unknown else key
        names = {name for each, name in self.origins.items() if each == whole or each.startswith((f"{whole}.", f"{whole}["))}
        line = line_of(self.content, whole)
        if len(names) == 1 and not names <= {str(self.path)}:
            file = names.pop()
        elif line:
            file = f"{file}:{line}"
        return ConfigError(error.message, where=f"{file}: {key}" if key else file, mend=error.mend, allowed=error.allowed)


def load_tables(path: Path | None, environ: Mapping[str, str] | None = None) -> Tables:
    """Read the TOML file (if any) and lay `SKERRY_<SECTION>__<KEY>` over it.

    A variable's value is read as TOML where it parses as one (`2`, `true`, `["a"]`), else as a string.
    Raises `ConfigError` naming file, line and what was wrong.
    """
    values: Table = {}
    content = ""
    if path is not None:
        try:
            content = path.read_text(encoding="utf-8")
            values = tomllib.loads(content)
        except OSError as error:
            raise ConfigError(f"cannot be read: {error.strerror}", where=str(path), mend="make one with `skerry init`") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            at = _LINE.search(str(error))
            said = f"{_LINE.sub('', str(error))}, column {at[2]}" if at else str(error)
            raise ConfigError(f"is not valid TOML: {said}", where=f"{path}:{at[1]}" if at else str(path)) from error
    origins = {key: str(path) for key in _flat(values)}
    for name, text in sorted((os.environ if environ is None else environ).items()):
        if name.startswith(PREFIX) and "__" in name:
            _override(values, origins, name, text)
    return Tables(values, origins, path, content)


def _override(values: Table, origins: dict[str, str], name: str, text: str) -> None:
    keys = [part.lower() for part in name.removeprefix(PREFIX).split("__")]
    table = values
    for key in keys[:-1]:
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise ConfigError(f"{'.'.join(keys)} is not inside a table", where=name)
    try:
        table[keys[-1]] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        table[keys[-1]] = text
    origins[".".join(keys)] = name


def _flat(value: Any, prefix: str = "") -> list[str]:
    if isinstance(value, dict):
        return [key for name, inner in value.items() for key in _flat(inner, f"{prefix}.{name}" if prefix else name)]
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return [key for at, inner in enumerate(value) for key in _flat(inner, f"{prefix}[{at}]")]
    return [prefix]


def build(kind: type[S], table: object, where: str) -> S:
    """One struct from one table. Raises `ConfigError` with the key, the value and what is allowed."""
    if not isinstance(table, dict):
        raise ConfigError(f"must be a table, not {table!r}", where=where)
    known = {field.encode_name for field in msgspec.structs.fields(kind)}
    for key in table:
        if key not in known:
            raise ConfigError(f"unknown key {key!r}{suggestion(key, known)}", where=where, allowed=", ".join(sorted(known)))
    for field in msgspec.structs.fields(kind):
        inner = table.get(field.encode_name)
        if isinstance(inner, dict) and isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            build(field.type, inner, f"{where}.{field.encode_name}")  # for its errors: they name the whole place
    try:
        return msgspec.convert(table, kind, strict=True)
    except msgspec.ValidationError as error:
        raise _explain(error, kind, table, where) from error
    except ConfigError as error:
        raise error.at(where) from error


def _explain(error: msgspec.ValidationError, kind: type[msgspec.Struct], table: Table, where: str) -> ConfigError:
    if isinstance(error.__cause__, ConfigError):
        return error.__cause__.at(where)
    text, _, path = str(error).partition(" - at `$")
    key = path.rstrip("`").lstrip(".")
    value: Any = table
    for part in re.findall(r"[^.\[\]]+", key):
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list | tuple) and part.isdigit():
            value = value[int(part)]
    place_of = f"{where}.{key}" if key else where
    known = _choices(kind, key)
    if known and isinstance(value, str):
        return ConfigError(f"{value!r} is not known{suggestion(value, known)}", where=place_of, allowed=", ".join(known))
    if lacks := _LACKS.fullmatch(text):
        return ConfigError(f"needs the key {lacks[1]!r}", where=place_of)
    shown = f", not {value!r}" if key and value is not None else ""
    if expected := _EXPECTED.fullmatch(text):
        kinds = [_WORDS.get(word, word) for word in expected[1].split(" | ") if word != "null"]
        return ConfigError(f"must be {' or '.join(kinds)}{shown}", where=place_of)
    return ConfigError(text[:1].lower() + text[1:] + (shown and f" (it is {value!r})"), where=place_of)


def _choices(kind: type[msgspec.Struct], key: str) -> list[str]:
    """The words that a key takes, where it takes words of a list."""
    found: Any = kind
    for part in re.findall(r"[A-Za-z_]+", key):
        fields = {field.encode_name: field.type for field in msgspec.structs.fields(found)} if _is_struct(found) else {}
        found = fields.get(part)
    if get_origin(found) in (list, tuple):
        found = get_args(found)[0]
    options = found.__args__ if isinstance(found, UnionType) else (found,)
    return [word for option in options if get_origin(option) is Literal for word in get_args(option) if isinstance(word, str)]


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def place(path: Path | None) -> str:
    """How messages name the configuration file."""
    return str(path) if path else "defaults"
