"""The numbers of a message that no pipeline describes: every number of a JSON object by its path, or one number as text. Pure."""

import math
from typing import Any

import msgspec

from skerry.core.clock import from_number, from_rfc3339

TIMES = ("ts", "time", "timestamp")
"""Fields that hold a sample's time, the first that is there and reads as one: Unix seconds or milliseconds, or RFC 3339."""
VALUE = "value"
"""What a message that is one number is called."""
MOST_FIELDS, _DEEPEST = 256, 8
_FIRST, _LAST = 10**15, 10**17  # September 2001, and the greatest that is read as seconds, in microseconds
_decode = msgspec.json.Decoder().decode
Found = list[tuple[int, dict[str, float]]]
"""Samples: time in microseconds (-1: the arrival) and numbers by path."""


def numbers_of(payload: bytes) -> Found | None:
    """The samples of a payload: an object, an array of objects, or one number; None where it is none of these.

    Booleans, texts, nulls and arrays within an object are no numbers; at most 256 numbers of one object are read.
    """
    try:
        item = _decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    items = item if isinstance(item, list) else [item]
    found: Found = []
    for each in items:
        if isinstance(each, dict):
            field, time = _time_of(each)
            rest = {name: value for name, value in each.items() if name != field} if field else each
            numbers: dict[str, float] = {}
            _collect(rest, "", numbers, 0)
            found.append((time, numbers))
        elif (value := _number(each)) is not None:
            found.append((-1, {VALUE: value}))
        else:
            return None
    return found


def _time_of(item: dict[str, Any]) -> tuple[str, int]:
    for field in TIMES:
        value = item.get(field)
        try:
            if isinstance(value, str):
                time = from_rfc3339(value)
            elif _number(value) is not None:
                time = from_number(value)  # type: ignore[arg-type]  # a number, as the line above found
            else:
                continue
        except (ValueError, OverflowError):
            continue
        if _FIRST <= time < _LAST:
            return field, time
    return "", -1


def _collect(item: dict[str, Any], path: str, numbers: dict[str, float], depth: int) -> None:
    for name, value in item.items():
        if len(numbers) >= MOST_FIELDS:
            return
        if isinstance(value, dict):
            if depth < _DEEPEST:
                _collect(value, f"{path}{name}.", numbers, depth + 1)
        elif (number := _number(value)) is not None:
            numbers[f"{path}{name}"] = number


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
