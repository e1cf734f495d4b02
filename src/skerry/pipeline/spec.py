"""A pipeline as the configuration writes it, checked when it is read."""

import hashlib
import math
import re
from typing import Any, Literal

import msgspec

from skerry.core.errors import ConfigError, suggestion
from skerry.core.settings import build
from skerry.core.units import at_key, parse_duration, parse_rate, parse_size
from skerry.pipeline.forward import ForwardSpec
from skerry.pipeline.rule import RuleSpec
from skerry.pipeline.shed import HISTORY_RAW, SHADOW, check_steps
from skerry.pipeline.topics import KeyTemplate, check_filter, check_name, may_match, topic_level
from skerry.window.names import check_names, column_names
from skerry.window.spec import WindowSpec

Format = Literal["json", "msgpack", "cbor", "float32", "text", "image", "string"]
TENSOR_FORMATS = ("image", "string")
"""Formats whose messages are a tensor each, the model's input as it is: no windows, no features."""


def check_field(name: str, where: str) -> None:
    """Raise `ConfigError` for a field that the decoders cannot be made for."""
    if any(sign < " " or sign in '\\"' for sign in name):
        raise ConfigError(f"{name!r} is no field that can be read", where=where, allowed='no \\, no ", no control characters')


class SourceSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`{ topic = "devices/+/vibration", format = "json", time = "ts", values = ["x", "y", "z"] }`.

    Attributes:
        topic: MQTT topic filter.
        format: json, msgpack, cbor (an object or an array of objects), float32 (raw little-endian numbers, one column a value),
            text (numbers between spaces or commas); image (a JPEG or PNG, the model's input is float32 pixels), string (UTF-8, the
            model's input is a string `[N, 1]`): both need a model, and neither windows nor features.
        time: field with the event time (Unix seconds or milliseconds, or RFC 3339); without it the arrival at the broker counts.
        values: fields to read, dots for nested ones; their order is the order of the columns.
        key: what the samples are grouped by, from topic levels `{1}`, `{2}` … and payload fields `{.name}`; a message without
            one, or with one of more than 256 bytes, is a dead letter (`unknown-key`).
        rate: float32 without time: samples per second within one message.
        max_future: a time further ahead of its arrival is a dead letter (`future`).
        max_payload: a longer payload is a dead letter (`oversized`).
        max_keys: bound of the number of devices; further ones are dead letters (`unknown-key`).
        width, height, layout, color: image: the tensor, `[N, C, height, width]` or `[N, height, width, C]`; GRAY has one channel.
        mean, std: image: a number, or one a channel in the order of `color`: `(pixel / 255 - mean) / std`.
        max_pixels: image: a picture with more in its header is a dead letter (`undecodable`) before it is decoded.
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
    width: int = 0
    height: int = 0
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    color: Literal["RGB", "BGR", "GRAY"] = "RGB"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    max_pixels: int = 16_777_216

    def __post_init__(self) -> None:
        check_filter(self.topic)
        if not self.values and self.format in ("json", "msgpack", "cbor"):
            raise ConfigError("name the fields to read", where="values", allowed='such as ["x", "y"]')
        for where, names in (("values", self.values), ("time", (self.time,))):
            for name in names:
                check_field(name, where)
        if len(set(self.values)) != len(self.values):
            raise ConfigError("a field is named twice", where="values")
        if self.time and self.format in ("float32", "text"):
            raise ConfigError(f"{self.format} carries no time", where="time", mend="leave it out: the arrival counts")
        if self.rate and not 1e-6 <= self.rate <= 1e9:
            raise ConfigError(f"{self.rate} is out of range", where="rate", allowed="0 (not known), or 1e-6 to 1e9 a second")
        if self.max_keys < 1:
            raise ConfigError("must be 1 or more", where="max_keys")
        fields = KeyTemplate(self.key, self.topic).fields
        if self.tensors:
            self._check_tensors(fields)
        if self.format == "image":
            self._check_image()
        elif self.width or self.height or self.mean or self.std:
            raise ConfigError("only a picture has width, height, mean and std", where="format", allowed='format = "image"')
        at_key("max_future", parse_duration, self.max_future)
        at_key("max_payload", parse_size, self.max_payload)

    def _check_tensors(self, key_fields: list[str]) -> None:
        for where, given in (("values", self.values), ("time", self.time), ("rate", self.rate)):
            if given:
                raise ConfigError(f"{self.format} has no fields", where=where, mend="leave it out: the message is the input")
        if key_fields:
            raise ConfigError(f"{self.format} has no fields for a key", where="key", allowed="levels of the topic, such as {2}")

    def _check_image(self) -> None:
        for where, size in (("width", self.width), ("height", self.height)):
            if not 1 <= size <= 4096:
                raise ConfigError(f"{size} is no size in pixels", where=where, allowed="1 to 4096, as the model's input has it")
        channels = self.tensor_shape[0 if self.layout == "NCHW" else 2]
        for where, numbers in (("mean", self.mean), ("std", self.std)):
            if len(numbers) not in (0, 1, channels) or not all(map(math.isfinite, numbers)):
                raise ConfigError(f"must be 1 or {channels} finite numbers", where=where, allowed="one a channel")
        if any(number <= 0 for number in self.std):
            raise ConfigError("must be above 0", where="std")
        if self.max_pixels < 1:
            raise ConfigError("must be 1 or more", where="max_pixels")

    @property
    def tensors(self) -> bool:
        """Whether a message is a tensor."""
        return self.format in TENSOR_FORMATS

    @property
    def tensor_shape(self) -> tuple[int, ...]:
        """Shape of one message's tensor, without the batch dimension."""
        if self.format == "string":
            return (1,)
        channels = 1 if self.color == "GRAY" else 3
        return (channels, self.height, self.width) if self.layout == "NCHW" else (self.height, self.width, channels)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the value columns; a tensor has none."""
        return () if self.tensors else self.values or ("value",)

    @property
    def max_future_us(self) -> int:
        return parse_duration(self.max_future)

    @property
    def max_payload_bytes(self) -> int:
        return parse_size(self.max_payload)


class SinkSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`"event"`, `"history"`, `"uplink"`; `{ kind = "mqtt", topic = "alarms/{device}" }`, `{ kind = "file", path = "e.jsonl" }`.

    An uplink sink's other keys are those of `forward`, beside `kind`.
    """

    kind: Literal["event", "mqtt", "file", "history", "uplink"]
    topic: str = ""
    path: str = ""
    qos: Literal[0, 1] = 1
    retain: bool = False
    forward: ForwardSpec | None = None

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


class DriftSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the drift of the model's features is watched: `{ bound = 0.25, learn = 500, event = true }`.

    Attributes:
        bound: PSI above which a feature counts as drifted; under 0.8 of it that is over. Above what the rows vary by themselves.
        learn: rows from which the reference is learned where the model's metadata has none; 0: then nothing is watched.
        window: rows that one judgement looks at.
        event: whether a drift that begins or is over becomes an event.
    """

    bound: float = 0.25
    learn: int = 500
    window: int = 500
    event: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.bound < math.inf:
            raise ConfigError(f"{self.bound} is no PSI", where="bound", allowed="a number above 0, such as 0.25")
        if self.learn and not 100 <= self.learn <= 100_000:
            raise ConfigError(f"{self.learn} is out of range", where="learn", allowed="0 (do not learn), or 100 to 100000 rows")
        if not 100 <= self.window <= 1_000_000:
            raise ConfigError(f"{self.window} is out of range", where="window", allowed="100 to 1000000 rows")
        if self.learn and self.bound < (least := 22.5 * (1 / self.learn + 1 / self.window)):
            # PSI of ten bins is 9 * (1 / learn + 1 / window) when nothing moves; twice that must be under 0.8 of the bound
            raise ConfigError(
                f"{self.bound} is within what {self.learn} learned and {self.window} judged rows vary by themselves",
                where="bound",
                allowed=f"{least:.2f} or more, or a larger learn or window",
            )


class PipelineSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One `[[pipelines]]` table. `model`, `rule`, `window` and `features` are optional.

    Attributes:
        features: names of `skerry.window.features`, or one Python function `module:function` with the signature of
            `skerry.window.features.compute` less the names: `(values [total, V], offsets [n + 1]) -> [n, F]`.
        model: `name@version` or `name@active`.
        dedup: drop a publisher's re-sends: `time` (same key, time and payload), `id` (the field `dedup_field`).
        dedup_horizon: how many messages a key are remembered for it.
        paused: starts paused.
        priority: who is admitted first and degraded last when the node is short: -100 to 100, higher is more important.
        shed: what it goes without then, in this order: `history-raw`, `shadow`, `sample:0.5` (that share of the keys is scored).
        drift: with it a drift of the model's features is an event; without it drift is only measured.
        capabilities: what a node must have, by its `[node] capabilities`, to run it.
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
    drift: DriftSpec | None = None
    priority: int = 0
    shed: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_name(self.name, "name")
        for at, capability in enumerate(self.capabilities):
            check_name(capability, f"capabilities[{at}]")
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
            raise ConfigError("re-sends are told by their time stamp, and source.time names none", where="dedup", allowed="off, id")
        check_field(self.dedup_field, "dedup_field")
        if self.dedup == "id" and self.source.format not in ("json", "msgpack", "cbor"):
            raise ConfigError(f"{self.source.format} has no fields", where="dedup", allowed="off, time")
        if self.source.tensors:
            self._check_tensors()
        if self.dedup_horizon < 1:
            raise ConfigError("must be 1 message or more", where="dedup_horizon")
        if self.rule is not None:
            self._check_rule_field(self.rule)
        if not -100 <= self.priority <= 100:
            raise ConfigError(f"{self.priority} is out of range", where="priority", allowed="-100 to 100")
        self._check_shed()
        for at, sink in enumerate(self.sinks):
            if sink.forward is not None:
                try:
                    sink.forward.check(self.source.names, self.source.tensors)
                except ConfigError as error:
                    raise error.at(f"sinks[{at}]") from error
            if sink.kind == "mqtt" and may_match(self.source.topic, sink.topic):
                raise ConfigError(
                    f"what the pipeline puts out on {sink.topic!r} would be its own input ({self.source.topic!r}), without end",
                    where=f"sinks[{at}].topic",
                    mend="publish on a topic that the source does not read",
                )

    def _check_shed(self) -> None:
        check_steps(self.shed)
        if HISTORY_RAW in self.shed and not any(sink.kind == "history" for sink in self.sinks):
            raise ConfigError("nothing of it goes into the history", where="shed", mend=f"leave {HISTORY_RAW} out")
        if SHADOW in self.shed and not self.model:
            raise ConfigError("it has no model that a shadow could run beside", where="shed", mend=f"leave {SHADOW} out")

    def _check_tensors(self) -> None:
        kind = self.source.format
        if self.window.kind != "none":
            raise ConfigError(f"{kind} messages are scored one by one", where="window", mend='leave it out, or kind = "none"')
        if self.features:
            raise ConfigError(f"{kind} messages have no features", where="features", mend="leave them out: they are the input")
        if not self.model:
            raise ConfigError(f"{kind} messages need a model", where="model", allowed='such as "camera@active"')

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


_TABLES = (
    ("source", SourceSpec), ("window", WindowSpec), ("rule", RuleSpec), ("resources", ResourcesSpec), ("drift", DriftSpec),
)  # fmt: skip


def parse_pipeline(table: Any, where: str) -> PipelineSpec:
    """A pipeline from its TOML table. Raises `ConfigError` with the key, the value and what is allowed."""
    if isinstance(table, dict):
        table = dict(table)
        for key, kind in _TABLES:
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
    if isinstance(sink, dict) and sink.get("kind") == "uplink" and "forward" not in sink:
        rest = {key: value for key, value in sink.items() if key != "kind"}
        build(ForwardSpec, rest, where)
        sink = {"kind": "uplink", "forward": rest}
    build(SinkSpec, sink, where)
    return sink
