"""What devices have sent, out of a file: CSV, or a message a line as `skerry pipeline test` reads them."""

import base64
import binascii
import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from skerry.core.clock import SECOND, from_number, from_rfc3339
from skerry.core.errors import ConfigError, RejectedError

TIME = "ts"
Values = dict[str, float | str]
Payload = Values | bytes
_Row = tuple[str | None, Payload, float | None]


class Reading(NamedTuple):
    """One message: an object, sent as JSON, or bytes, sent as they are. `before`: seconds before the end of its recording."""

    payload: Payload
    before: float | None = None


class Recording:
    """The messages of one device in a file; of all, where the file does not know that device. Read anew by each iteration.

    `.csv`: the first line names the columns; numbers are numbers, empty cells are left out, `device` says whose a row is.
    `.jsonl`: `{"topic", "payload" | "payload_base64" | "payload_file", "at"?}` a line; the topic's second level says whose it is.
    The times are those of `ts` in the message, or `at`. Raises `ConfigError`, `RejectedError`.
    """

    def __init__(self, file: Path, device: str) -> None:
        self._file = file
        self._rows = _of_jsonl if file.suffix == ".jsonl" else _of_csv
        self._device = device if any(whose == device for whose, _, _ in self._all()) else None
        self._last: float | None = None
        self.count = 0
        for _, time in self._own():
            self.count += 1
            if time is not None and (self._last is None or time > self._last):
                self._last = time

    def __iter__(self) -> Iterator[Reading]:
        for payload, time in self._own():
            yield Reading(payload, None if time is None or self._last is None else self._last - time)

    def _own(self) -> Iterator[tuple[Payload, float | None]]:
        return ((payload, time) for whose, payload, time in self._all() if self._device in (None, whose))

    def _all(self) -> Iterator[_Row]:
        try:
            yield from self._rows(self._file)
        except OSError as error:
            raise ConfigError(f"cannot be read: {error.strerror}", where=str(error.filename or self._file)) from error


def recorded_devices(file: Path) -> list[str]:
    """The devices whose messages a recording holds, as they first come in it. Raises as `Recording`."""
    rows = (_of_jsonl if file.suffix == ".jsonl" else _of_csv)(file)
    try:
        return list(dict.fromkeys(whose for whose, _, _ in rows if whose is not None))
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(error.filename or file)) from error


def _of_csv(file: Path) -> Iterator[_Row]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as opened:
            for row in csv.DictReader(opened):
                values = {name: _value(text) for name, text in row.items() if name and isinstance(text, str) and text}
                device = values.pop("device", None)
                if not values:
                    raise RejectedError("a row without a value", where=str(file), mend="its first line names the columns")
                yield None if device is None else row["device"], values, _time(values.get(TIME))
    except (csv.Error, UnicodeDecodeError) as error:
        raise RejectedError(f"is no CSV: {error}", where=str(file), mend="its first line names the columns") from error


def _of_jsonl(file: Path) -> Iterator[_Row]:
    with file.open("rb") as opened:
        for number, line in enumerate(opened, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                payload = _payload(row, file.parent)
                device = str(row["topic"]).split("/")[1]
            except (ValueError, KeyError, IndexError, TypeError) as error:
                raise RejectedError(
                    f"is no message: {error}", where=f"{file}:{number}", mend='a line is {"topic": …, "payload": …}'
                ) from error
            time = payload.get(TIME) if isinstance(payload, dict) else None
            yield device, payload, _time(time if time is not None else row.get("at"))


def _payload(row: dict[str, object], folder: Path) -> Payload:
    if "payload_base64" in row:
        try:
            return base64.b64decode(str(row["payload_base64"]), validate=True)
        except binascii.Error as error:
            raise ValueError(str(error)) from error
    if "payload_file" in row:
        return (folder / str(row["payload_file"])).read_bytes()
    payload = row["payload"]
    if isinstance(payload, dict):
        return payload
    return payload.encode() if isinstance(payload, str) else msgspec.json.encode(payload)


def _value(text: str) -> float | str:
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text


def _time(value: object) -> float | None:
    """Seconds, of a number or of an RFC 3339 string; None of anything else."""
    try:
        if isinstance(value, str):
            return from_rfc3339(value) / SECOND
        return from_number(value) / SECOND if isinstance(value, int | float) else None
    except (ValueError, OverflowError):
        return None
