"""Payloads into rows: one typed decoder a source, made once, so that a message costs one call."""

import json
import math
import struct
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import cbor2
import msgspec

from skerry.core.clock import from_number, from_rfc3339
from skerry.pipeline.spec import SourceSpec
from skerry.window.state import Row

UNDECODABLE = "undecodable"
WRONG_SHAPE = "wrong-shape"
NAN = "nan"
FUTURE = "future"
OVERSIZED = "oversized"
UNKNOWN_KEY = "unknown-key"
LAST_TIME = 10**17
"""Times are below it, microseconds: the greatest that are read as seconds."""

Decoded = tuple[list[Row], object]
"""Rows (time in microseconds, or −1 for the arrival, then the values) and the id that re-sends share, if one is read."""
Decode = Callable[[bytes], Decoded]


class Undecoded(Exception):
    """A payload that gives no rows: the reason for the dead letter and its detail."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def _time(value: float | str) -> float:
    try:
        time = from_rfc3339(value) if isinstance(value, str) else from_number(value)
    except (ValueError, OverflowError) as error:
        raise Undecoded(WRONG_SHAPE, f"{value!r} is not a time") from error
    if not 0 <= time < LAST_TIME:
        raise Undecoded(WRONG_SHAPE, f"{value!r} lies before 1970 or after 5138")
    return float(time)


def _finite(row: Row) -> Row:
    if not all(map(math.isfinite, row)):
        raise Undecoded(NAN, "a value is not a finite number")
    return row


def _struct_type(source: SourceSpec, id_field: str) -> Any:
    """A struct with the time, the values and the id as its fields, nested where a name has dots."""
    wanted: dict[str, Any] = {}
    if source.time:
        _put(wanted, source.time, float | str)
    for name in source.values:
        _put(wanted, name, float)
    if id_field and not _has(wanted, id_field):
        _put(wanted, id_field, str | int | float)
    return _define("Sample", wanted)


def _put(tree: dict[str, Any], path: str, kind: Any) -> None:
    *parents, leaf = path.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
    tree[leaf] = kind


def _has(tree: Any, path: str) -> bool:
    for part in path.split("."):
        if not isinstance(tree, dict) or part not in tree:
            return False
        tree = tree[part]
    return True


def _define(name: str, tree: dict[str, Any]) -> Any:
    fields, rename = [], {}
    for at, (field, kind) in enumerate(tree.items()):
        rename[f"f{at}"] = field
        fields.append((f"f{at}", _define(f"{name}_{at}", kind) if isinstance(kind, dict) else kind))
    return msgspec.defstruct(name, fields, rename=rename, gc=False)


def _getter(tree_type: Any, path: str) -> str:
    """Attribute path of a field in a struct made by `_define`."""
    attributes = []
    for part in path.split("."):
        field = next(field for field in msgspec.structs.fields(tree_type) if field.encode_name == part)
        attributes.append(field.name)
        tree_type = field.type
    return ".".join(attributes)


def _one_or_more(kind: Any) -> Any:
    return kind | list.__class_getitem__(kind)


def _object_decoder(source: SourceSpec, id_field: str) -> Decode:
    sample: Any = _struct_type(source, id_field)
    read = _reader(source.format, _one_or_more(sample))
    paths = ([source.time] if source.time else []) + list(source.values)
    attributes = [_getter(sample, path) for path in paths]
    pick: Callable[[Any], Any] = attrgetter(*attributes)
    if len(attributes) == 1:
        single = attrgetter(attributes[0])
        pick = lambda item: (single(item),)  # noqa: E731 - a one-line adapter of attrgetter's one-name form
    id_of: Callable[[Any], object] = attrgetter(_getter(sample, id_field)) if id_field else lambda item: None
    timed = bool(source.time)

    def row(item: Any) -> Row:
        values: Row = pick(item)
        if timed:
            time = values[0]
            if time.__class__ is float and 0.0 <= time < 1e11:
                values = (float(round(time * 1e6)), *values[1:])
            else:
                values = (_time(time), *values[1:])
        else:
            values = (-1.0, *values)
        total = sum(values)
        if total - total != 0.0:
            _finite(values)
        return values

    def decode(payload: bytes) -> Decoded:
        try:
            item = read(payload)
        except (msgspec.ValidationError, RecursionError) as error:
            raise Undecoded(WRONG_SHAPE, str(error)) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Undecoded(NAN if _holds_nan(payload, source.format) else UNDECODABLE, str(error)) from error
        if item.__class__ is list:
            if not item:
                raise Undecoded(WRONG_SHAPE, "an array without samples")
            return [row(one) for one in item], id_of(item[0])
        return [row(item)], id_of(item)

    return decode


def _holds_nan(payload: bytes, kind: str) -> bool:
    """Whether it is JSON but for NaN or Infinity, which many libraries write and the standard does not have."""
    if kind != "json" or not (b"NaN" in payload or b"Infinity" in payload):
        return False
    try:
        json.loads(payload)
    except (ValueError, RecursionError):
        return False
    return True


def _reader(kind: str, target: Any) -> Callable[[bytes], Any]:
    if kind == "json":
        return msgspec.json.Decoder(target).decode
    if kind == "msgpack":
        return msgspec.msgpack.Decoder(target).decode

    def cbor(payload: bytes) -> Any:
        try:
            plain = cbor2.loads(payload)
        except Exception as error:
            raise msgspec.DecodeError(f"not CBOR: {error}") from error
        return msgspec.convert(plain, target)

    return cbor


def _float32_decoder(source: SourceSpec) -> Decode:
    width = len(source.names)
    step = 1e6 / source.rate if source.rate else 0.0

    def decode(payload: bytes) -> Decoded:
        if not payload or len(payload) % (4 * width):
            raise Undecoded(WRONG_SHAPE, f"{len(payload)} bytes are not whole samples of {width} x float32")
        numbers = struct.unpack(f"<{len(payload) // 4}f", payload)
        samples = len(numbers) // width
        rows = [_finite((-1.0 - (samples - 1 - at) * step, *numbers[at * width : (at + 1) * width])) for at in range(samples)]
        return rows, None

    return decode


def _text_decoder(source: SourceSpec) -> Decode:
    width = len(source.names)

    def decode(payload: bytes) -> Decoded:
        parts = payload.replace(b",", b" ").split()
        try:
            numbers = tuple(float(part) for part in parts)
        except ValueError as error:
            raise Undecoded(UNDECODABLE, "not a number") from error
        if len(numbers) != width:
            raise Undecoded(WRONG_SHAPE, f"{len(numbers)} numbers, not {width}")
        return [_finite((-1.0, *numbers))], None

    return decode


def _tensor_decoder(source: SourceSpec) -> Decode:
    """One row without values; in the place of the id is the tensor, as these formats have no ids."""
    from skerry.pipeline.picture import NotATensorError, to_tensor  # late: few pipelines need it

    convert = to_tensor(source)

    def decode(payload: bytes) -> Decoded:
        try:
            return [(-1.0,)], convert(payload)
        except NotATensorError as error:
            raise Undecoded(UNDECODABLE, str(error)) from error

    return decode


def decoder(source: SourceSpec, id_field: str = "") -> Decode:
    """The decode function of a source. It raises `Undecoded`.

    A row's time is microseconds since the epoch; −1 (and less, by microseconds before) means the arrival.
    """
    if source.tensors:
        return _tensor_decoder(source)
    if source.format == "float32":
        return _float32_decoder(source)
    if source.format == "text":
        return _text_decoder(source)
    return _object_decoder(source, id_field)


_LEAST, _MOST = -(2**63), 2**64  # what other formats can write; the text of a larger number may not be had


def payload_fields(payload: bytes, kind: str, names: list[str]) -> list[str] | None:
    """Fields of an object payload as text, for keys out of the payload; None where one is missing."""
    try:
        item = _reader(kind, Any)(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    item = item[0] if isinstance(item, list) and item else item
    found = []
    for name in names:
        value: Any = item
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if isinstance(value, str) and value:
            found.append(value)
        elif isinstance(value, int) and not isinstance(value, bool) and _LEAST <= value < _MOST:
            found.append(str(value))
        else:
            return None
    return found
