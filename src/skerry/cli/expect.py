"""Events as they came against events as they were expected. Pure but for reading the file."""

from pathlib import Path
from typing import Any

import msgspec

from skerry.core.errors import RejectedError
from skerry.core.units import counted

Event = dict[str, Any]
_MOST = 20


def read_expected(file: Path) -> list[Event]:
    """The events of a file: what `pipeline test --json` printed, or one event a line. Raises `RejectedError`."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise RejectedError(
            f"cannot be read: {error.strerror}", where=str(file), mend="name the file of expected events"
        ) from error
    whole = _decoded(content)
    if isinstance(whole, dict) and "events" in whole:
        whole = whole["events"]
    elif not isinstance(whole, list):
        whole = [_line(line, f"{file}:{at}") for at, line in enumerate(content.splitlines(), 1) if line.strip()]
    if not isinstance(whole, list) or not all(isinstance(event, dict) for event in whole):
        raise RejectedError("holds something else than events", where=str(file))
    return list(whole)


def _decoded(content: bytes) -> Any:
    try:
        return msgspec.json.decode(content)
    except msgspec.MsgspecError:
        return None


def _line(line: bytes, where: str) -> Any:
    try:
        return msgspec.json.decode(line)
    except msgspec.MsgspecError as error:
        raise RejectedError(f"is no JSON: {error}", where=where, mend="one event a line, or the answer of `--json`") from error


def plain(events: list[Event]) -> list[Event]:
    """The events as JSON has them, so that they compare with what was read from a file."""
    return list(msgspec.json.decode(msgspec.json.encode(events)))


def differences(expected: list[Event], came: list[Event]) -> list[str]:
    """What differs, a sentence each; empty when all is as expected.

    Where each event has an id of its own they are compared by it and in every field; else by place, and an expected event
    without an id only in the fields that it names.
    """
    wanted, got = _by_id(expected), _by_id(came)
    if wanted is None or got is None:
        said = _by_place(expected, came)
    else:
        said = _compared(wanted, got)
    if not said and wanted and expected != came:
        at = next(at for at, (one, other) in enumerate(zip(expected, came, strict=True)) if one != other)
        said.append(f"the order differs: event {at + 1} should be {_name(expected[at])}, it is {_name(came[at])}")
    return [*said[:_MOST], f"and {len(said) - _MOST} more"] if len(said) > _MOST else said


def _compared(wanted: dict[str, Event], got: dict[str, Event]) -> list[str]:
    said = [f"missing: {_name(wanted[each])}" for each in wanted if each not in got]
    said += [f"not expected: {_name(got[each])}" for each in got if each not in wanted]
    for each, event in wanted.items():
        if each in got:
            said += _fields(_name(event), event, got[each])
    return said


def _by_place(expected: list[Event], came: list[Event]) -> list[str]:
    said: list[str] = []
    for at, (one, other) in enumerate(zip(expected, came, strict=False), 1):
        said += _fields(f"event {at}", one, other if "id" in one else {key: other[key] for key in one if key in other})
    if len(expected) != len(came):
        said.append(f"{counted(len(expected), 'event')} expected, {len(came)} came")
    return said


def _by_id(events: list[Event]) -> dict[str, Event] | None:
    """None unless each event has an id of its own."""
    found = {str(event["id"]): event for event in events if event.get("id")}
    return found if len(found) == len(events) else None


def _fields(name: str, expected: Event, came: Event, prefix: str = "") -> list[str]:
    said: list[str] = []
    for key in dict.fromkeys([*expected, *came]):
        one, other = expected.get(key, _NOTHING), came.get(key, _NOTHING)
        if isinstance(one, dict) and isinstance(other, dict):
            said += _fields(name, one, other, f"{prefix}{key}.")
        elif one != other:
            said.append(f"{name}: {prefix}{key} should be {_show(one)}, it is {_show(other)}")
    return said


def _name(event: Event) -> str:
    return f"{event.get('key', '?')} {event.get('start', event.get('id', '?'))} ({event.get('state', '?')})"


_NOTHING = object()


def _show(value: object) -> str:
    return "absent" if value is _NOTHING else msgspec.json.encode(value).decode()
