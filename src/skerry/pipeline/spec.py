"""A pipeline as the configuration writes it, checked when it is read."""

import hashlib
import math
import re
from typing import Any, Literal

import msgspec

from skerry.core.errors import ConfigError, suggestion
from skerry.core.settings import build
from skerry.core.units import at_key, parse_duration, parse_rate, parse_size
from skerry.pipeline.rule import RuleSpec
from skerry.pipeline.topics import KeyTemplate, check_filter, check_name, topic_level
from skerry.window.names import check_names, column_names
from skerry.window.spec import WindowSpec

Format = Literal["json", "msgpack", "cbor", "float32", "text"]


class SourceSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`{ topic = "devices/+/vibration", format = "json", time = "ts", values = ["x", "y", "z"] }`.

    Attributes:
        topic: MQTT topic filter.
        format: json, msgpack, cbor (an object or an array of objects), float32 (raw little-endian numbers, one column a value),
            text (numbers between spaces or commas).
        time: field with the event time (Unix seconds or milliseconds, or RFC 3339); without it the arrival at the broker counts.
        values: fields to read, dots for nested ones; their order is the order of the columns.
        key: what the samples are grouped by, from topic levels `{1}`, `{2}` … and payload fields `{.name}`; a message without
            one, or with one of more than 256 bytes, is a dead letter (`unknown-key`).
        rate: float32 without time: samples per second within one message.
        max_future: a time further ahead of its arrival is a dead letter (`future`).
        max_payload: a longer payload is a dead letter (`oversized`).
        max_keys: bound of the number of devices; further ones are dead letters (`unknown-key`).
    """

    topic: str
    format: Format = "json"
    time: str = ""
    values: tuple[str, ...] = ()
    key: str = "{2}"
    rate: float = 0.0
    max_future: str = "1m"
    max_payload: str = "1MiB"
    max_keys: int = 100_000

    def __post_init__(self) -> None:
        check_filter(self.topic)
        if not self.values and self.format in ("json", "msgpack", "cbor"):
            raise ConfigError("name the fields to read", where="values", allowed='such as ["x", "y"]')
        if len(set(self.values)) != len(self.values):
            raise ConfigError("a field is named twice", where="values")
        if self.time and self.format in ("float32", "text"):
            raise ConfigError(f"{self.format} carries no time", where="time", mend="leave it out: the arrival counts")
        if self.rate and not 1e-6 <= self.rate <= 1e9:
            raise ConfigError(f"{self.rate} is out of range", where="rate", allowed="0 (not known), or 1e-6 to 1e9 a second")
        if self.max_keys < 1:
            raise ConfigError("must be 1 or more", where="max_keys")
        KeyTemplate(self.key, self.topic)
        at_key("max_future", parse_duration, self.max_future)
        at_key("max_payload", parse_size, self.max_payload)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the value columns."""
        return self.values or ("value",)

    @property
    def max_future_us(self) -> int:
        return parse_duration(self.max_future)

    @property
    def max_payload_bytes(self) -> int:
        return parse_size(self.max_payload)


class SinkSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`"event"`, or `{ kind = "mqtt", topic = "alarms/{device}" }`, `{ kind = "file", path = "events.jsonl" }`."""

    kind: Literal["event", "mqtt", "file"]
    topic: str = ""
    path: str = ""
    qos: Literal[0, 1] = 1
    retain: bool = False

    def __post_init__(self) -> None:
        if self.kind == "mqtt" and not self.topic:
            raise ConfigError("an mqtt sink needs a topic", where="topic", allowed='such as "alarms/{device}"')
        if self.kind == "mqtt" and any(mark in self.topic for mark in "+#"):
            raise ConfigError("a topic to publish on has no wildcards", where="topic")
        if any(level != topic_level(level) for level in self.topic.split("/")):
            raise ConfigError(f"the broker refuses {self.topic!r}", where="topic", allowed="no spaces or control characters")
        unknown = sorted(set(re.findall(r"\{([^{}]*)\}", self.topic)) - set(PLACEHOLDERS))
        if unknown:
            raise ConfigError(
                f"{unknown[0]!r} is not known{suggestion(unknown[0], PLACEHOLDERS)}", where="topic", allowed=", ".join(PLACEHOLDERS)
            )
        if self.kind == "file" and not self.path:
            raise ConfigError("a file sink needs a path", where="path")


PLACEHOLDERS = ("device", "key", "pipeline", "state", "severity")
"""What a sink's topic may name between braces."""
LATER_SINKS = ("history", "uplink")


class ResourcesSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a pipeline may use: `{ memory = "256MiB", cpu = 0.5, network = "64KiB/s" }`."""

    memory: str = "256MiB"
    cpu: float = 1.0
    network: str = ""

    def __post_init__(self) -> None:
        at_key("memory", parse_size, self.memory)
        if self.network:
            at_key("network", parse_rate, self.network)
        if not 0 < self.cpu < math.inf:
            raise ConfigError(f"{self.cpu} is no number of cores", where="cpu", allowed="a number above 0")

    @property
    def memory_bytes(self) -> int:
        return parse_size(self.memory)


class PipelineSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One `[[pipelines]]` table. `model`, `rule`, `window` and `features` are optional.

    Attributes:
        features: names of `skerry.window.features`, or one Python function `module:function` with the signature of
            `skerry.window.features.compute` less the names: `(values [total, V], offsets [n + 1]) -> [n, F]`.
        model: `name@version` or `name@active`.
        dedup: drop a publisher's re-sends: `time` (same key, time and payload), `id` (the field `dedup_field`).
        dedup_horizon: how many messages a key are remembered for it.
        paused: starts paused.
    """

    name: str
    source: SourceSpec
    window: WindowSpec = WindowSpec()
    features: tuple[str, ...] | str = ()
    model: str = ""
    rule: RuleSpec | None = None
    sinks: tuple[SinkSpec, ...] = (SinkSpec("event"),)
    resources: ResourcesSpec = ResourcesSpec()
    dedup: Literal["off", "time", "id"] = "off"
    dedup_field: str = "id"
    dedup_horizon: int = 1024
    paused: bool = False

    def __post_init__(self) -> None:
        check_name(self.name, "name")
        if isinstance(self.features, str):
            if ":" not in self.features:
                raise ConfigError(
                    f"{self.features!r} is no Python function", where="features", allowed='"module:function" or a list'
                )
        else:
            try:
                check_names(self.features)
            except ConfigError as error:
                raise error.at("features") from error
        if self.dedup == "time" and not self.source.time:
            raise ConfigError(
                "re-sends are told by their time stamp, and source.time names none", where="dedup", allowed="off, id"
            )
        if self.dedup == "id" and self.source.format not in ("json", "msgpack", "cbor"):
            raise ConfigError(f"{self.source.format} has no fields", where="dedup", allowed="off, time")
        if self.dedup_horizon < 1:
            raise ConfigError("must be 1 message or more", where="dedup_horizon")
        if self.rule is not None:
            self._check_rule_field(self.rule)

    def _check_rule_field(self, rule: RuleSpec) -> None:
        columns = self.columns
        if rule.field != "score" and columns is not None and rule.field not in columns:
            raise ConfigError(
                f"the rule's field {rule.field!r} is neither score nor a feature",
                where="rule.field",
                allowed=", ".join(["score", *columns]),
            )

    @property
    def columns(self) -> list[str] | None:
        """Names of the feature columns; None where a user's function makes them."""
        if isinstance(self.features, str):
            return None
        return column_names(self.features, self.source.names)

    @property
    def window_digest(self) -> str:
        """Changes when open windows of before cannot be carried on."""
        text = repr((self.source.format, self.source.names, self.source.key, self.source.time, self.window))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def parse_pipeline(table: Any, where: str) -> PipelineSpec:
    """A pipeline from its TOML table. Raises `ConfigError` with the key, the value and what is allowed."""
    if isinstance(table, dict):
        table = dict(table)
        for key, kind in (("source", SourceSpec), ("window", WindowSpec), ("rule", RuleSpec), ("resources", ResourcesSpec)):
            if key in table:
                build(kind, table[key], f"{where}.{key}")
        if "sinks" in table:
            if not isinstance(table["sinks"], list):
                raise ConfigError("must be a list", where=f"{where}.sinks", allowed='such as ["event"]')
            table["sinks"] = [_sink(sink, f"{where}.sinks[{at}]") for at, sink in enumerate(table["sinks"])]
    spec: PipelineSpec = build(PipelineSpec, table, where)
    return spec


def _sink(sink: Any, where: str) -> Any:
    if isinstance(sink, str):
        sink = {"kind": sink}
    if isinstance(sink, dict) and sink.get("kind") in LATER_SINKS:
        raise ConfigError(f"the sink {sink['kind']!r} is not part of this version", where=where, allowed="event, mqtt, file")
    build(SinkSpec, sink, where)
    return sink
