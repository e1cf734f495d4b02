"""The pipeline table: what users may write, and that every refusal names its key and what is allowed."""

import math
import tomllib
from typing import Any

import pytest

from skerry.core.errors import ConfigError
from skerry.pipeline import SinkSpec, SourceSpec, parse_pipeline

SOURCE = {"topic": "devices/+/v", "values": ["x", "y"], "time": "ts"}
DOCUMENTED = """
name = "bearing-health"
source    = { topic = "devices/+/vibration", format = "json", time = "ts", values = ["x", "y", "z"] }
window    = { kind = "tumbling", size = "1s", by = "device", lateness = "2s" }
features  = ["mean", "std", "rms", "peak", "crest", "kurtosis"]
model     = "bearing@active"
rule      = { field = "score", above = 0.8, clear_below = 0.5, for = 3, severity = "warning" }
sinks     = ["event", { kind = "mqtt", topic = "alarms/{device}" }]
resources = { memory = "256MiB", cpu = 0.5, network = "64KiB/s" }
"""


def pipeline(**more: Any) -> dict[str, Any]:
    return {"name": "p", "source": SOURCE, **more}


def refusal(table: Any) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse_pipeline(table, "pipelines[2]")
    return caught.value


def test_the_documented_pipeline_is_what_it_says() -> None:
    spec = parse_pipeline(tomllib.loads(DOCUMENTED), "pipelines[0]")
    assert spec.columns is not None
    assert spec.columns[:7] == ["x_mean", "x_std", "x_rms", "x_peak", "x_crest", "x_kurtosis", "y_mean"]
    assert spec.window.size_us == 1_000_000
    assert spec.window.lateness_us == 2_000_000
    assert spec.rule is not None
    assert (spec.rule.for_, spec.rule.clear_for, spec.rule.severity) == (3, 1, "warning")
    assert spec.sinks == (SinkSpec("event"), SinkSpec("mqtt", topic="alarms/{device}"))
    assert spec.resources.memory_bytes == 256 * 2**20


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"window": {"kind": "sliding", "size": "10s", "every": "3s"}, "features": ["mean"]},
        {"window": {"kind": "session", "gap": "30s"}},
        {"window": {"kind": "count", "size": 32, "every": 8}, "features": "my_module:features"},
        {"window": {"kind": "none"}, "model": "m"},
        {"rule": {"above": 1, "for": "30s", "clear_for": "1m"}},
        {"features": ["rms"], "rule": {"field": "y_rms", "below": 0.5}},
        {"sinks": [{"kind": "file", "path": "events.jsonl"}]},
        {"sinks": []},
        {"dedup": "id", "dedup_field": "meta.n"},
        {"dedup": "time"},
        {"source": {"topic": "zigbee2mqtt/+", "values": ["temperature", "battery.level"]}},
        {"source": {"topic": "shelly/#", "values": ["x"], "key": "{2}-{3}"}},
        {"source": {"topic": "gateway", "values": ["x"], "key": "{.device}"}},
        {"source": {"topic": "devices/+/raw", "format": "float32", "rate": 1000}},
        {"source": {"topic": "devices/+/t", "format": "text"}},
    ],
)
def test_what_users_may_write_is_taken(more: dict[str, Any]) -> None:
    assert parse_pipeline(pipeline(**more), "p").name == "p"


@pytest.mark.parametrize(
    ("more", "where", "text"),
    [
        ({"name": "a b"}, "", "allowed: 1 to 64 letters"),
        ({"name": 5}, "name", "must be a text in quotes, not 5"),
        ({"sorce": {}}, "", "did you mean 'source'"),
        ({"source": {"values": ["x"]}}, "source", "topic"),
        ({"source": "devices/+/v"}, "source", "must be a table"),
        ({"source": SOURCE | {"topic": "a/#/b"}}, "source.topic", "last level"),
        ({"source": SOURCE | {"topic": "devices/*/v"}}, "source.topic", "allowed: + and #"),
        ({"source": SOURCE | {"format": "xml"}}, "source.format", "xml"),
        ({"source": SOURCE | {"values": []}}, "source.values", 'such as ["x", "y"]'),
        ({"source": SOURCE | {"values": ["x", "x"]}}, "source.values", "twice"),
        ({"source": SOURCE | {"values": "x"}}, "source.values", "must be a list"),
        ({"source": SOURCE | {"format": "text"}}, "source.time", "the arrival counts"),
        ({"source": SOURCE | {"key": "{9}"}}, "source.key", "{9}"),
        ({"source": SOURCE | {"key": "device"}}, "source.key", "such as {2}"),
        ({"source": SOURCE | {"rate": -1}}, "source.rate", "out of range"),
        ({"source": SOURCE | {"rate": math.nan}}, "source.rate", "out of range"),
        ({"source": SOURCE | {"max_keys": 0}}, "source.max_keys", "1 or more"),
        ({"source": SOURCE | {"max_future": "1 minute"}}, "source.max_future", "allowed: a number and one of us, ms, s"),
        ({"source": SOURCE | {"max_payload": 5}}, "source.max_payload", "not 5"),
        ({"source": SOURCE | {"tme": "ts"}}, "source", "did you mean 'time'"),
        ({"window": {"kind": "tumbling"}}, "window.size", 'such as "1s"'),
        ({"features": ["mean", "kurtosi"]}, "features", "did you mean 'kurtosis'"),
        ({"features": "features"}, "features", '"module:function" or a list'),
        ({"features": 5}, "features", "5"),
        ({"rule": {"above": 1, "below": 0}}, "rule.above", "one of above and below"),
        ({"rule": {"field": "z_rms", "above": 1}, "features": ["rms"]}, "rule.field", "allowed: score, x_rms, y_rms"),
        ({"sinks": ["evnt"]}, "sinks[0].kind", "evnt"),
        ({"sinks": ["event", {"kind": "uplink", "selct": ["raw"]}]}, "sinks[1]", "did you mean 'select'?"),
        ({"sinks": [{"kind": "uplink", "select": ["2m"]}]}, "sinks[0].select", "2m"),
        ({"sinks": [{"kind": "pigeon"}]}, "sinks[0].kind", "uplink"),
        ({"sinks": [{"kind": "mqtt", "topic": "devices/{device}/v"}]}, "sinks[0].topic", "would be its own input"),
        ({"sinks": [{"kind": "mqtt"}]}, "sinks[0].topic", "needs a topic"),
        ({"sinks": [{"kind": "mqtt", "topic": "a/+"}]}, "sinks[0].topic", "wildcards"),
        ({"sinks": [{"kind": "mqtt", "topic": "my alarms/{device}"}]}, "sinks[0].topic", "no spaces"),
        ({"sinks": [{"kind": "file"}]}, "sinks[0].path", "needs a path"),
        ({"sinks": [{"kind": "mqtt", "topic": "a", "qos": 2}]}, "sinks[0].qos", "2"),
        ({"sinks": [7]}, "sinks[0]", "must be a table"),
        ({"resources": {"memory": "lots"}}, "resources.memory", "lots"),
        ({"resources": {"network": "1MiB"}}, "resources.network", "256KiB/s"),
        ({"rule": {"above": 1, "flap": "soon"}}, "rule.flap", "soon"),
        ({"dedup": "on"}, "dedup", "on"),
        ({"dedup_horizon": 0}, "dedup_horizon", "1 message"),
        ({"source": {"topic": "a/+", "format": "text"}, "dedup": "id"}, "dedup", "allowed: off, time"),
    ],
)
def test_every_refusal_names_its_key(more: dict[str, Any], where: str, text: str) -> None:
    error = refusal(pipeline(**more))
    assert error.where.startswith(".".join(filter(None, ("pipelines[2]", where))))
    assert text in str(error)


@pytest.mark.parametrize("table", [None, 5, "p", [], {}, {"name": "p"}, {"source": SOURCE}])
def test_what_is_no_pipeline_is_refused(table: Any) -> None:
    assert refusal(table).where.startswith("pipelines[2]")


@pytest.mark.parametrize(
    ("more", "same"),
    [
        ({"features": ["mean"], "model": "m", "rule": {"above": 1}, "sinks": []}, True),
        ({"source": SOURCE | {"max_keys": 5}}, True),
        ({"source": SOURCE | {"values": ["y", "x"]}}, False),
        ({"source": SOURCE | {"key": "{1}"}}, False),
        ({"source": {"topic": "devices/+/v", "values": ["x", "y"]}}, False),
        ({"window": {"kind": "tumbling", "size": "1s"}}, False),
    ],
)
def test_open_windows_are_carried_on_unless_source_or_window_changed(more: dict[str, Any], same: bool) -> None:
    before, after = parse_pipeline(pipeline(), "p"), parse_pipeline(pipeline(**more), "p")
    assert (before.window_digest == after.window_digest) is same


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb"])
def test_a_field_that_no_decoder_can_be_made_for(name: str) -> None:
    for key, more in (("values", {"values": (name,)}), ("time", {"values": ("x",), "time": name})):
        with pytest.raises(ConfigError, match=f"{key}: .* is no field that can be read"):
            SourceSpec("devices/+/v", **more)  # type: ignore[arg-type]  # fields of the struct
