"""The payload of Sparkplug B in protocol buffers: the fields of the public schema that carry metrics, no others. Pure.

Wire format: protobuf.dev, "Encoding". Fields: Sparkplug 3.0.0, chapter 6.4 (Payload, Metric, data types).
"""

import struct
from collections.abc import Iterator

import msgspec

Value = bool | int | float | str
MOST_METRICS = 20_000
"""Metrics of one payload."""
_SIGNED = {1: 8, 2: 16, 3: 32, 4: 64}
_UNSIGNED = {5: 8, 6: 16, 7: 32, 8: 64, 13: 64}
FLOAT, DOUBLE, BOOLEAN, TEXTS = 9, 10, 11, (12, 14, 15)


class BadPayload(ValueError):
    """What came is no payload of Sparkplug B."""


class Metric(msgspec.Struct):
    """One metric as it came. `raw` is what the value's field holds, None: no value, or one of a kind that is not taken."""

    name: str = ""
    alias: int | None = None
    timestamp: int | None = None
    datatype: int = 0
    null: bool = False
    raw: int | float | str | None = None

    def value(self, datatype: int) -> Value | None:
        """The value as its data type says; None where there is none, or of another kind (data sets, templates, bytes)."""
        raw, kind = self.raw, self.datatype or datatype
        if self.null or raw is None:
            return None
        if kind in TEXTS:
            return raw if isinstance(raw, str) else None
        if isinstance(raw, str):
            return None
        if kind in (FLOAT, DOUBLE):
            return float(raw)
        if kind == BOOLEAN:
            return bool(raw)
        if kind in _SIGNED and isinstance(raw, int):
            bits = _SIGNED[kind]
            low = raw & ((1 << bits) - 1)
            return low - (1 << bits) if low >> (bits - 1) else low
        if kind in _UNSIGNED and isinstance(raw, int):
            return raw & ((1 << _UNSIGNED[kind]) - 1)
        return None


class Payload(msgspec.Struct):
    """A payload: time in milliseconds, metrics, sequence number 0 to 255 (None: it has none)."""

    timestamp: int | None = None
    seq: int | None = None
    metrics: list[Metric] = []


def decode(data: bytes) -> Payload:
    """Raises `BadPayload`."""
    payload = Payload(metrics=[])
    for field, value in _fields(data):
        if field == 1 and isinstance(value, int):
            payload.timestamp = value
        elif field == 2 and isinstance(value, bytes):
            if len(payload.metrics) >= MOST_METRICS:
                raise BadPayload(f"more than {MOST_METRICS} metrics")
            payload.metrics.append(_metric(value))
        elif field == 3 and isinstance(value, int):
            payload.seq = value
    return payload


def _metric(data: bytes) -> Metric:
    metric = Metric()
    for field, value in _fields(data):
        if isinstance(value, bytes):
            if field == 1:
                metric.name = _text(value)
            elif field == 12 and len(value) == 4:
                metric.raw = struct.unpack("<f", value)[0]
            elif field == 13 and len(value) == 8:
                metric.raw = struct.unpack("<d", value)[0]
            elif field == 15:
                metric.raw = _text(value)
        elif field == 2:
            metric.alias = value
        elif field == 3:
            metric.timestamp = value
        elif field == 4:
            metric.datatype = value
        elif field == 7:
            metric.null = bool(value)
        elif field in (10, 11, 14):
            metric.raw = value
    return metric


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise BadPayload("a text that is not UTF-8") from error


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Numbers of fields and what they hold: an int for varints, bytes for all else."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        field, wire = key >> 3, key & 7
        value: int | bytes
        if wire == 0:
            value, at = _varint(data, at)
        else:
            size = {1: 8, 5: 4}.get(wire, -1)
            if wire == 2:
                size, at = _varint(data, at)
            if size < 0 or at + size > len(data):
                raise BadPayload("it is cut short" if size >= 0 else f"wire type {wire}")
            value, at = data[at : at + size], at + size
        yield field, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise BadPayload("it is cut short")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (1 << 64) - 1, at
    raise BadPayload("a number of more than 64 bits")


def rebirth(timestamp: int) -> bytes:
    """The payload of an NCMD that asks a node to be born again (Sparkplug 3.0.0, 6.4.20: `Node Control/Rebirth`)."""
    name = b"Node Control/Rebirth"
    metric = b"\x0a" + _number(len(name)) + name + b"\x18" + _number(timestamp) + b"\x20" + _number(BOOLEAN) + b"\x70\x01"
    return b"\x08" + _number(timestamp) + b"\x12" + _number(len(metric)) + metric


def _number(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
