"""An event on its way: what a pipeline put out, less what is withheld, as an array without names. Pure."""

import math
from typing import Any

import msgspec

from skerry.core.clock import from_rfc3339, to_rfc3339
from skerry.core.errors import CorruptError
from skerry.uplink.redact import Action, Fields
from skerry.uplink.short import Features, Number, PackedFeatures, long, pack_features, short, unpack_features


class Known(msgspec.Struct, gc=False):
    """An event as the pipelines put it out, with all that may leave of it; what is not named here does not."""

    id: str
    pipeline: str
    key: str
    node: str
    start: str
    end: str
    count: int
    score: float | None
    label: str | int | None
    state: str
    severity: str | None
    features: Features
    model: str | None
    version: str | None
    latency_ms: float
    alarm_id: str | None = None
    flaps: int | None = None


class _Body(msgspec.Struct, array_like=True, gc=False):
    """`withheld`: a bit for each field of `_NAMES` that is not there. Times in milliseconds."""

    withheld: int
    start: int
    end: int
    key: str | None
    node: str | None
    count: float | None
    score: Number
    label: str | float | None
    state: str | None
    severity: str | None
    features: PackedFeatures
    model: str | None
    version: str | None
    latency_ms: Number
    alarm_id: str | None = None
    flaps: float | None = None


_NAMES = (
    "key", "node", "count", "score", "label", "state", "severity", "features", "model", "version", "latency_ms", "alarm_id",
    "flaps",
)  # fmt: skip
_ORDER = [field.name for field in msgspec.structs.fields(Known)]
_PLAIN = ("node", "count", "score", "label", "state", "severity", "model", "version", "latency_ms", "flaps")
_read = msgspec.json.Decoder(Known).decode
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Body).decode


def read_event(payload: bytes) -> Known | None:
    """The event of a message of the event stream; None for what is none."""
    try:
        event = _read(payload)
        from_rfc3339(event.start), from_rfc3339(event.end)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return event


def encode_event(event: Known, fields: Fields) -> bytes:
    """The body of an event's item, with nothing in it that is withheld."""
    values: dict[str, Any] = {name: getattr(event, name) for name in _NAMES}
    actions = {name: fields.plain(name) for name in _PLAIN}
    for name, action in actions.items():
        values[name] = _shown(fields, action, values[name])
    values["key"] = fields.shown_key(event.key)
    values["alarm_id"] = event.alarm_id and fields.shown_id(event.alarm_id)
    values["features"] = _shown_features(event.features, fields)
    withheld = sum(1 << at for at, name in enumerate(_NAMES) if actions.get(name) is not None and values[name] is None)
    values |= {"features": pack_features(values["features"]), "score": short(values["score"])}
    values["latency_ms"] = short(values["latency_ms"])
    return _encode(_Body(withheld, from_rfc3339(event.start) // 1000, from_rfc3339(event.end) // 1000, **values))


def features_of(body: bytes) -> int:
    """How many features an event has, told before they are unpacked. Raises `CorruptError`."""
    return len(_unpacked(body).features[2])


def decode_event(identity: str, pipeline: str, body: bytes) -> dict[str, Any]:
    """The event as the pipeline put it out, without the fields that were withheld. Raises `CorruptError`."""
    found = _unpacked(body)
    try:
        times = {"start": to_rfc3339(found.start * 1000), "end": to_rfc3339(found.end * 1000)}
    except (OverflowError, ValueError) as error:
        raise CorruptError(f"an event of the uplink has no time: {error}") from error
    values: dict[str, Any] = {"id": identity, "pipeline": pipeline, **times}
    for at, name in enumerate(_NAMES):
        if not found.withheld >> at & 1:
            value = getattr(found, name)
            if name == "features":
                value = unpack_features(value)
            elif name in ("score", "latency_ms"):
                value = long(value)
            values[name] = int(value) if name in ("count", "flaps") and isinstance(value, float) and value.is_integer() else value
    return {name: values[name] for name in _ORDER if name in values}


def _unpacked(body: bytes) -> _Body:
    try:
        return _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptError(f"an event of the uplink cannot be read: {error}") from error


def _shown(fields: Fields, action: Action | None, value: Any) -> Any:
    if action is None or value is None:
        return value
    fields.withhold(action)
    return None if action.drops else action.any(value)


def _shown_features(features: Features, fields: Fields) -> Features:
    shown: Features = {}
    for name, value in features.items():
        action = fields.feature(name)
        if action is None:
            shown[name] = value
            continue
        fields.withhold(action)
        if not action.drops and value is not None and not math.isnan(found := action.number(value)):
            shown[name] = found
    return shown
