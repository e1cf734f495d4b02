"""Which field a rule is for, and what stands in its place."""

import hashlib
import hmac
import math
from typing import Any

import pytest

from skerry.core.errors import ConfigError
from skerry.core.settings import build
from skerry.uplink.config import RedactRule, UplinkConfig
from skerry.uplink.redact import Action, Fields, Privacy, matches
from tests.uplink.rig import KEY, after, gatherer, happening, message, pipeline, records


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("gps.*", "gps.lat", True),
        ("gps.*", "gps.fix.time", True),
        ("gps", "gps.lat", True),
        ("gps", "gpsx", False),
        ("gps.*", "gps", False),
        ("*.serial", "unit.serial", True),
        ("*.serial", "serial", True),
        ("*.serial", "unit.part.serial", True),
        ("*.serial", "unit.serial.number", True),
        ("*.serial", "serials", False),
        ("x?", "x1", True),
        ("x?", "x", False),
        ("a[0]", "a[0]", True),
        ("a.b", "acb", False),
        ("*", "anything.at all", True),
        ("X", "x", False),
    ],
)
def test_patterns(pattern: str, path: str, expected: bool) -> None:
    assert matches(pattern, path) is expected


def action(**rule: Any) -> Action:
    return Action(build(RedactRule, {"field": "f", **rule}, "redact"), KEY)


def test_texts() -> None:
    assert action(how="hash").text("pump-1") == hmac.new(KEY, b"pump-1", hashlib.sha256).hexdigest()[:32]
    assert Action(RedactRule("f", "hash"), bytes(32)).text("pump-1") != action(how="hash").text("pump-1")
    halls = action(how="generalise", into={"pump-1*": "hall A", "pump-?": "hall B"})
    assert [halls.text(text) for text in ("pump-12", "pump-2", "fan")] == ["hall A", "hall B", ""]
    assert action(how="drop").text("x") == action(how="round", to=1.0).text("x") == ""


@pytest.mark.parametrize(
    ("how", "to", "value", "expected"),
    [
        ("round", 0.1, 52.5163, 52.5),
        ("round", 0.1, 0.3000001, 0.3),
        ("round", 5.0, -7.4, -5.0),
        ("generalise", 10.0, 47.9, 40.0),
        ("generalise", 10.0, -0.1, -10.0),
        ("round", 1e-300, 1e300, math.nan),
        ("round", 1.0, math.inf, math.nan),
        ("generalise", 0.25, math.nan, math.nan),
    ],
)
def test_numbers(how: str, to: float, value: float, expected: float) -> None:
    assert action(how=how, to=to).number(value) == pytest.approx(expected, nan_ok=True, abs=0, rel=0)


def test_a_hashed_number_is_another_number_and_always_the_same() -> None:
    one, other = (action(how="hash").number(value) for value in (1.0, 2.0))
    assert one == action(how="hash").number(1.0) != other
    assert 0 <= one < 2**48
    assert action(how="drop").any(5) is None
    assert action(how="hash").any(None) is None
    assert action(how="round", to=10.0).any(17) == 20.0


def test_of_several_rules_the_first_counts() -> None:
    privacy = Privacy([RedactRule("gps.lat", "round", 0.5), RedactRule("gps.*")], None, KEY)
    assert [found.label if (found := privacy.of(path)) else "" for path in ("gps.lat", "gps.lon", "x")] == [
        "gps.lat: round", "gps.*: drop", "",
    ]  # fmt: skip


def fields(rules: list[str], allow: list[str] | None = None, **table: Any) -> Fields:
    return Fields(pipeline(**table), Privacy([RedactRule(rule) for rule in rules], allow, KEY))


def test_features_go_with_the_value_that_they_are_computed_of() -> None:
    table: dict[str, Any] = {"source": {"values": ["x", "gps.lat"]}, "features": ["mean", "std"]}
    window = {"kind": "count", "size": 5}
    found = fields(["gps.lat"], window=window, **table)
    assert found.feature("gps.lat_mean") is not None
    assert found.feature("x_mean") is None
    assert fields(["x_mean"], window=window, **table).feature("x_mean") is not None
    assert fields(["features.x_std"], window=window, **table).feature("x_std") is not None


def test_a_feature_that_stands_in_the_place_of_a_score_is_withheld_as_one() -> None:
    window = {"kind": "count", "size": 5}
    table: dict[str, Any] = {"source": {"values": ["x", "y"]}, "window": window, "features": ["mean"]}
    assert fields(["x"], **table).plain("score") is not None
    assert fields(["y"], **table).plain("score") is None
    assert fields(["x"], model="m@1", **table).plain("score") is None
    assert fields(["score"], model="m@1", **table).plain("score") is not None
    assert fields(["x"], source={"values": ["x", "y"]}).plain("score") is not None


def test_nobody_knows_what_a_function_computes_its_features_of() -> None:
    table: dict[str, Any] = {"window": {"kind": "count", "size": 5}, "features": "mine:features", "source": {"values": ["x", "y"]}}
    found = fields(["y"], **table)
    assert found.feature("ratio") is not None
    assert found.plain("score") is not None
    assert fields([], **table).feature("ratio") is None


def test_a_key_made_of_a_withheld_field_is_withheld() -> None:
    source = {"topic": "gateway/up", "key": "{1}-{.unit.serial}"}
    assert fields(["*.serial"], source=source).key is not None
    assert fields(["x"], source=source).key is None
    assert fields(["device"]).key is not None
    assert fields(["key"]).key is not None


def test_with_an_allow_list_only_what_it_names_leaves() -> None:
    found = gatherer(
        pipeline({"select": ["event", "features", "raw"]}, source={"values": ["x", "y"]}, model="m@1"),
        allow=["y", "state", "features.x_mean"],
    )
    event = happening(1, 0, 1, state="firing", alarm_id="alarm-1", label="worn", features={"x_mean": 1.0, "y_mean": 2.0})
    items = found.feed([message(1, 1.0, 2.0)], [event], 0) + found.finish()
    noticed, raw = records(items)
    assert set(noticed.values) == {"id", "pipeline", "start", "end", "key", "state", "features", "alarm_id"}
    assert (noticed.values["key"], noticed.values["state"], noticed.values["features"]) == ("", "firing", {"x_mean": 1.0})
    assert noticed.values["id"] != "event-1"
    assert noticed.values["alarm_id"] not in ("alarm-1", None)
    assert (raw.key, raw.values) == ("", {"y": 2.0})
    assert found.counts["withheld"]["not in allow"] >= 6
    nothing = gatherer(pipeline({"select": ["raw", "1m"]}), allow=[])
    assert nothing.feed([message(at, 1.0) for at in range(100)], [], 0) + nothing.finish() == []
    assert nothing.counts["pipelines"]["p"]["saved"]["redact"] > 0


@pytest.mark.parametrize(
    ("rule", "keys"),
    [
        ({"how": "drop"}, {"": 6}),
        ({"how": "generalise", "into": {"pump-*": "pumps"}}, {"pumps": 4, "": 2}),
        ({"how": "hash"}, None),
    ],
)
def test_devices_that_have_become_one_cannot_be_told_apart(rule: dict[str, Any], keys: dict[str, int] | None) -> None:
    found = gatherer(pipeline({"select": ["raw", "1m"]}), redact=[{"field": "key", **rule}])
    values = {"pump-1": 1.0, "pump-2": 5.0, "fan": 2.0}
    frames = [message(at, value + at, device=device) for at in range(2) for device, value in values.items()]
    back = records(found.feed(frames, [], 0) + found.finish())
    raw, minutes = ([record for record in back if record.kind == kind] for kind in ("raw", "rollup"))
    if keys is None:
        assert len({record.key for record in raw}) == len(minutes) == 3
        return
    assert {key: sum(record.key == key for record in raw) for key in keys} == keys
    assert {record.key: record.values["x"]["count"] for record in minutes} == keys
    (first,) = [record.values["x"] for record in minutes if record.key == next(iter(keys))]
    assert (first["min"], first["max"]) == (1.0, 6.0)
    for key in keys:
        times = [(record.time, record.values["x"]) for record in raw if record.key == key]
        assert times == sorted(times)


def test_fields_that_changed_or_did_not_leave_are_counted_by_rule() -> None:
    spec = pipeline({"select": ["event", "features", "raw"]}, source={"values": ["x", "y"]})
    found = gatherer(spec, redact=["x", {"field": "key", "how": "hash"}])
    items = found.feed([message(at, 1.0, 2.0) for at in range(7)], [happening(1, 0, 1)], 0) + found.finish()
    assert found.counts["withheld"]["x: drop"] == 7 + 2  # seven samples, and of the event the score and x_mean
    assert found.counts["withheld"]["key: hash"] >= 2
    noticed, *rows = records(items)
    assert noticed.key == rows[0].key == hmac.new(KEY, b"d", hashlib.sha256).hexdigest()[:32]
    assert "score" not in noticed.values
    assert noticed.time == after(1)


@pytest.mark.parametrize(
    ("config", "where", "sentence"),
    [
        ({"redact": ["a b"]}, "redact[0]", "no field"),
        ({"redact": ["time"]}, "redact[0]", "cannot be withheld"),
        ({"redact": [{"field": "x", "how": "blur"}]}, "redact", "blur"),
        ({"redact": [{"field": "x", "how": "round"}]}, "redact", "what to round to"),
        ({"redact": [{"field": "x", "how": "round", "to": -1.0}]}, "redact", "no width"),
        ({"redact": [{"field": "x", "how": "generalise"}]}, "redact", "stands in its place"),
        ({"redact": [{"field": "x", "how": "hash", "to": 1.0}]}, "redact", "takes no such key"),
        ({"redact": [{"field": "x", "into": {"a": "b"}}]}, "redact", "takes no such key"),
        ({"redact": [{"feild": "x"}]}, "redact", "field"),
        ({"allow": [""]}, "allow[0]", "no field"),
        ({"batch": {"messages": 0}}, "batch.messages", "out of range"),
        ({"batch": {"delay": "1ms"}}, "batch.delay", "out of range"),
        ({"batch": {"bytes": "4MiB"}}, "batch.bytes", "out of range"),
        ({"queue": {"size": "1KiB"}}, "queue.size", "too small"),
        ({"rate": "5"}, "rate", "not a rate"),
        ({"select": ["2m"]}, "select", "2m"),
    ],
)
def test_settings_that_are_wrong_say_where(config: dict[str, Any], where: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(UplinkConfig, config, "uplink").rules()
    assert where in str(caught.value)
    assert sentence in str(caught.value)
