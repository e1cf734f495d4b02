"""`[[connectors]]`: which there are, of which kind, in which direction; kinds of others are found by their entry points."""

from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

import msgspec

from skerry.connector.contract import Place, Sink, Source
from skerry.core.errors import ConfigError, suggestion
from skerry.core.settings import build
from skerry.pipeline import check_name

GROUP = "skerry.connectors"
MOST_CONNECTORS = 100
Direction = Literal["in", "out"]
_OWN: dict[tuple[str, Direction], str] = {
    ("file", "in"): "file:FileIn",
    ("homeassistant", "out"): "homeassistant:HomeAssistant",
    ("http", "in"): "http:HttpIn",
    ("http", "out"): "http:HttpOut",
    ("sparkplug", "in"): "sparkplug:SparkplugIn",
    ("modbus", "in"): "modbus:ModbusIn",
    ("opcua", "in"): "opcua:OpcUaIn",
    ("mqtt", "in"): "mqtt:MqttIn",
    ("mqtt", "out"): "mqtt:MqttOut",
}
"""Kinds of this package: module and class below `skerry.connector.kinds`, imported when one is used."""
_COMMON = ("name", "kind", "direction", "enabled")


class ConnectorSpec(msgspec.Struct, frozen=True):
    """One connector: what every kind has, and the table of its own keys."""

    name: str
    kind: str
    direction: Direction
    enabled: bool = True
    table: dict[str, Any] = {}


class _Head(msgspec.Struct, frozen=True):
    """The keys that every kind has."""

    name: str
    kind: str
    direction: str = ""
    enabled: bool = True


def parse_connectors(tables: Sequence[Any], where: str) -> tuple[ConnectorSpec, ...]:
    """All of the configuration, checked each for itself and together. Raises `ConfigError`."""
    found = tuple(parse_connector(table, f"{where}[{at}]") for at, table in enumerate(tables))
    if len(found) > MOST_CONNECTORS:
        raise ConfigError(f"{len(found)} are too many", where=where, allowed=f"at most {MOST_CONNECTORS}")
    names = [each.name for each in found]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"connector {name!r} is there twice", where=where)
    _check_loops(found, where)
    return found


def parse_connector(table: Any, where: str) -> ConnectorSpec:
    """One table. Raises `ConfigError` with the key, the value and what is allowed."""
    if not isinstance(table, dict):
        raise ConfigError(f"must be a table, not {table!r}", where=where)
    head = build(_Head, {key: value for key, value in table.items() if key in _COMMON}, where)
    check_name(head.name, f"{where}.name")
    directions = [each for each in get_args(Direction) if _find(head.kind, each) is not None]
    if not directions:
        known = sorted(known_kinds())
        message = f"{head.kind!r} is not known{suggestion(head.kind, known)}"
        raise ConfigError(message, where=f"{where}.kind", allowed=", ".join(known))
    if head.direction not in ("", *get_args(Direction)):
        raise ConfigError(f"{head.direction!r} is not known", where=f"{where}.direction", allowed="in, out")
    if not head.direction and len(directions) > 1:
        raise ConfigError("say whether it brings in or out", where=f"{where}.direction", allowed="in, out")
    direction = next((each for each in directions if head.direction in ("", each)), None)
    if direction is None:
        raise ConfigError(f"{head.kind} does not go {head.direction}", where=f"{where}.direction", allowed=directions[0])
    spec = ConnectorSpec(
        head.name, head.kind, direction, head.enabled, {key: value for key, value in table.items() if key not in _COMMON}
    )
    settings_of(spec, where)
    return spec


def settings_of(spec: ConnectorSpec, where: str) -> msgspec.Struct:
    """The settings of its kind. Raises `ConfigError`."""
    kind = _kind(spec)
    try:
        made: msgspec.Struct = build(kind.Settings, spec.table, where)
        return made
    except ConfigError as error:
        if error.message.startswith("unknown key"):
            allowed = f"{', '.join(_COMMON)}, {error.allowed}"
            raise ConfigError(error.message, where=error.where, allowed=allowed) from error
        raise


def open_connector(spec: ConnectorSpec, place: Place) -> Source | Sink:
    """The connector itself; nothing is connected yet. Raises `ConfigError`."""
    made: Source | Sink = _kind(spec)(settings_of(spec, f"connector {spec.name}"), place)
    return made


def twins_of(spec: ConnectorSpec, specs: Sequence[ConnectorSpec]) -> tuple[str, ...]:
    """The names of those that bring in from the address that `spec` brings out to."""
    return tuple(
        each.name for each in specs if spec.direction == "out" and each.direction == "in" and _address(each) == _address(spec)
    )


def _address(spec: ConnectorSpec) -> tuple[str | None, int | None]:
    parts = urlsplit(str(spec.table.get("url", "")))
    return parts.hostname, parts.port


def known_kinds() -> set[str]:
    """The names of all kinds, those of other packages too."""
    return {kind for kind, _ in _OWN} | {each.name.partition(".")[0] for each in entry_points(group=GROUP)}


def _kind(spec: ConnectorSpec) -> Any:
    found = _find(spec.kind, spec.direction)
    if found is None:
        mend = "install the package that brings it"
        raise ConfigError(f"there is no kind {spec.kind!r}", where=f"connector {spec.name}", mend=mend)
    return found


def _find(kind: str, direction: Direction) -> Any:
    """The class, None where there is none. Raises `ConfigError` for one of another package that cannot be loaded."""
    own = _OWN.get((kind, direction))
    if own is not None:
        module, _, name = own.partition(":")
        return getattr(import_module(f"skerry.connector.kinds.{module}"), name)
    for each in entry_points(group=GROUP):
        if each.name not in (kind, f"{kind}.{direction}"):
            continue
        try:
            found = each.load()
        except Exception as error:
            raise ConfigError(f"cannot be loaded: {error}", where=f"{GROUP}: {each.value}") from error
        if hasattr(found, "read" if direction == "in" else "send"):
            return found
    return None


def _check_loops(specs: Sequence[ConnectorSpec], where: str) -> None:
    """A bridge that reads what another one writes on the same broker would go round for ever."""
    from skerry.connector.kinds.mqtt import overlap  # late: only where there are bridges

    for at, spec in enumerate(specs):
        for other in specs:
            if (spec.kind, spec.direction, other.kind, other.direction) != ("mqtt", "in", "mqtt", "out"):
                continue
            shared = overlap(spec.table, other.table)
            if shared:
                raise ConfigError(
                    f"{spec.name!r} would read what {other.name!r} writes on the same broker ({shared}): a loop",
                    where=f"{where}[{at}].topics",
                    mend="read other topics, or write below a prefix that is not read",
                )
