"""What leaves: events, raw samples and roll-ups as the sink says, counted, and the same over any cut and any restart."""

import json
import math
import random
from typing import Any

import pytest

from skerry.broker import Frame
from skerry.core.clock import SECOND
from skerry.core.errors import ConfigError, CorruptError
from skerry.pipeline import RETRY_PREFIX
from skerry.uplink.gather import Gatherer
from skerry.uplink.item import Item
from tests.fixtures.frames import frame, sample
from tests.uplink.rig import START, after, gatherer, happening, message, pipeline, records

XYZ = {"values": ["x", "y", "z"]}


def balanced(found: Gatherer, name: str = "p") -> dict[str, Any]:
    """The counts, when the books are right."""
    counts: dict[str, Any] = found.counts["pipelines"][name]
    samples = sum(size for kind, size in counts["queued"].items() if kind != "event")
    assert counts["bytes_in"] == samples + sum(counts["saved"].values()) + counts["waiting"]
    return counts


def test_events_alone_need_no_log_and_come_out_as_they_went_in() -> None:
    found = gatherer(pipeline({"select": ["event", "features"]}))
    assert not found.reads_log
    given = [happening(1, 0, 1), happening(2, 1, 2, state="firing", severity="critical", alarm_id="a", flaps=0, label="worn")]
    items = found.feed([], given, after(3))
    assert [item.priority for item in items] == ["normal", "alarm"]
    back = {record.id: record for record in records(items)}
    for each in given:
        event = json.loads(each[3])
        assert back[event["id"]].values == event
        assert list(back[event["id"]].values) == list(event)
        assert json.loads(back[event["id"]].payload) == event
        assert back[event["id"]].topic == "events/p/d"
    assert found.counts["pipelines"]["p"]["items"] == {"event": 2}


def test_what_is_no_event_and_events_of_others_do_not_leave() -> None:
    found = gatherer(pipeline())
    timeless = happening(4, 0, 1)[3].replace(b'"start": "2', b'"start": "x')
    wrong = [frame(1, b"{}"), frame(2, b"\xff"), happening(3, 0, 1, state=7), frame(4, timeless)]
    assert found.feed([], [*wrong, happening(5, 0, 1, pipeline="q")], 0) == []
    assert found.counts["undecodable"] == 4


def test_raw_samples_leave_in_items_of_so_many_or_after_so_long() -> None:
    found = gatherer(pipeline({"select": ["raw"]}, source=XYZ), batch={"messages": 10, "delay": "5s"})
    assert found.reads_log
    frames = [message(at, at / 10, -at / 10, 0.1 + 0.2, at=at / 100, device="ab"[at % 2]) for at in range(25)]
    items = found.feed(frames, [], 0)
    assert [item.rows for item in items] == [10, 10, 5]
    back = records(items)
    rows = sorted((record.time, record.key, *record.values.values()) for record in back)
    assert rows == sorted((after(at / 100), "ab"[at % 2], at / 10, -at / 10, 0.1 + 0.2) for at in range(25))
    assert back[0].topic == "raw/p/a"
    assert json.loads(back[0].payload) == {"ts": START / 1e6, "x": 0.0, "y": 0.0, "z": 0.1 + 0.2}
    assert found.feed([message(30, 1, 2, 3, at=1)], [], 0) == []
    assert balanced(found)["waiting"] > 0
    assert found.feed([], [], after(5.9)) == []
    assert [item.rows for item in found.feed([], [], after(6.1))] == [1]
    assert balanced(found)["waiting"] == 0


def test_a_value_that_no_decimal_gives_leaves_bit_for_bit() -> None:
    found = gatherer(pipeline({"select": ["raw"]}))
    values = [-0.0, 5e-324, 1e300, 0.1 + 0.2, -1 / 3]
    back = records(found.feed([message(at, value) for at, value in enumerate(values)], [], 0) + found.finish())
    assert [record.values["x"].hex() for record in back] == [value.hex() for value in values]


def test_minutes_are_rolled_up_once_they_are_over() -> None:
    found = gatherer(pipeline({"select": ["1m", "1h"]}, source=XYZ))
    frames = [message(at, at, 0.1, -at, device=device) for at in range(120) for device in "ab"]
    items = found.feed(frames, [], 0)
    assert [(item.kind, item.priority, item.rows) for item in items] == [("rollup", "normal", 2)]
    back = {record.key: record for record in records(items)}
    assert set(back) == {"a", "b"}
    row = back["a"]
    assert (row.time, row.width, row.topic) == (START, 60, "1m/p/a")
    assert row.values["x"] == {"count": 60, "min": 0.0, "max": 59.0, "sum": 1770.0, "last": 59.0, "mean": 29.5}
    assert row.values["y"]["sum"] == 6.0  # and not 5.999999999999998, as a plain sum is
    assert json.loads(row.payload)["z"]["min"] == -59.0
    rest = found.finish()
    assert sorted(record.width for record in records(rest)) == [60, 60, 3600, 3600]
    balanced(found)


def test_a_late_sample_opens_its_minute_anew() -> None:
    found = gatherer(pipeline({"select": ["1m"]}))
    first = found.feed([message(at, at) for at in range(75)], [], 0)
    again = found.feed([message(200, 7.0, at=30)], [], 0) + found.feed([], [], after(60))
    assert [record.values["x"]["count"] for record in records(first)] == [60]
    assert records(again) == []
    rows = records(found.feed([], [], after(131)))
    assert sorted((record.time, record.values["x"]["count"]) for record in rows) == [(START, 1), (after(60), 15)]


@pytest.mark.parametrize(
    ("sink", "kept", "rule"),
    [
        ({"deadband": 0.5}, [0, 0.6, 1.2, 5.0], "deadband"),
        ({"deadband": "50%"}, [0, 0.1, 0.4, 0.65, 1.2, 5.0], "deadband"),
        ({"deadband": {"x": "0.5"}}, [0, 0.6, 1.2, 5.0], "deadband"),
        ({"on_change": True}, [0, 0.1, 0.4, 0.6, 0.65, 1.2, 5.0], "on_change"),
        ({"decimate": 3}, [0, 0.4, 1.2], "decimate"),
        ({"decimate": 3, "deadband": 1.0}, [0, 1.2], "decimate"),
    ],
)
def test_only_what_moved_leaves(sink: dict[str, Any], kept: list[float], rule: str) -> None:
    found = gatherer(pipeline({"select": ["raw"], **sink}))
    values = [0, 0.1, 0.1, 0.4, 0.6, 0.65, 1.2, 1.2, 5.0]
    items = found.feed([message(at, value) for at, value in enumerate(values)], [], 0) + found.finish()
    assert [record.values["x"] for record in records(items)] == kept
    assert balanced(found)["saved"][rule] > 0


def test_raw_samples_around_an_alarm_and_no_others() -> None:
    found = gatherer(pipeline({"select": ["event"], "around": {"before": "3s", "after": "2s"}}))
    items: list[Item] = []
    for at in range(200):
        events = [happening(1, 40, 41, state="firing", alarm_id="a")] if at == 42 else []
        items += found.feed([message(at, at), message(at, -at, device="e")], events, 0)
    raw = [record for record in records(items) if record.kind == "raw"]
    assert [(record.key, record.values["x"]) for record in raw] == [("d", float(at)) for at in range(37, 44)]
    counts = balanced(found)
    assert counts["saved"]["around"] > 0
    assert found.feed([], [happening(2, 300, 301, state="cleared", alarm_id="a"), happening(3, 300, 301)], after(301))
    assert [record for record in records(found.finish()) if record.kind == "raw"] == []


def test_what_gives_no_samples_is_counted() -> None:
    found = gatherer(pipeline({"select": ["raw"]}, source={"max_payload": "1KiB"}))
    frames = [
        frame(1, b"{"), frame(2, b'{"ts": 1}'), frame(3, bytes(2000)), frame(4, sample(START / 1e6 + 1e9, 1.0)),
        frame(5, sample(START / 1e6, 1.0), prefix=RETRY_PREFIX + "p."), message(6, 1.0),
    ]  # fmt: skip
    assert [item.rows for item in found.feed(frames, [], 0) + found.finish()] == [1]
    counts = balanced(found)
    assert counts["messages"] == 5
    assert counts["passed_over"] == {"undecodable": 1, "wrong-shape": 1, "oversized": 1, "future": 1}


def test_a_key_out_of_the_payload() -> None:
    found = gatherer(pipeline({"select": ["raw"]}, source={"topic": "gateway/up", "key": "{1}-{.dev}"}))
    frames = [frame(at, sample(START / 1e6, 1.0, dev=dev), "gateway/up") for at, dev in enumerate("ab")]
    items = found.feed([*frames, frame(3, sample(START / 1e6, 1.0), "gateway/up")], [], 0) + found.finish()
    assert {record.key for record in records(items)} == {"gateway-a", "gateway-b"}
    assert found.counts["pipelines"]["p"]["passed_over"] == {"unknown-key": 1}


def test_only_pipelines_with_an_uplink_sink_and_numbers_of_what_has_some() -> None:
    assert gatherer().feed([message(1, 1.0)], [happening(1, 0, 1)], 0) == []
    picture = {"topic": "c/+", "format": "string", "values": [], "time": ""}
    with pytest.raises(ConfigError, match=r"sinks\[1\].select: images and texts have no numbers"):
        pipeline({"select": ["raw"]}, source=picture, model="m@1")
    assert not gatherer(pipeline(source=picture, model="m@1")).reads_log  # what [uplink] selects besides does not fit
    assert not gatherer(pipeline({"select": ["event"]}, source=picture, model="m@1")).reads_log
    with pytest.raises(ConfigError, match="no value of the pipeline"):
        pipeline({"select": ["raw"], "deadband": {"w": 1.0}})


SINKS: list[dict[str, Any]] = [
    {"select": ["event", "features", "1m", "raw"], "deadband": 0.4, "decimate": 2},
    {"select": ["event", "1m", "1h"], "around": {"before": "5s", "after": "5s"}},
]


@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.parametrize("seed", range(4))
def test_a_gatherer_restored_at_any_place_does_what_it_would_have_done(sink: dict[str, Any], seed: int) -> None:
    chance = random.Random(seed)
    spec = pipeline(sink, source=XYZ)
    steps: list[tuple[list[Frame], list[Frame], int]] = []
    at = 0
    while at < 400:
        size = chance.randint(0, 30)
        frames = [message(n, *(chance.random() for _ in "xyz"), device=chance.choice("abc")) for n in range(at, at + size)]
        alarm = [happening(at, at - 3, at, key=chance.choice("abc"), state="firing")] if chance.random() < 0.2 else []
        at += size or 2
        steps.append((frames, alarm, after(at)))
    options: dict[str, Any] = {"batch": {"messages": 40, "delay": "20s"}, "redact": [{"field": "y", "how": "round", "to": 0.1}]}
    straight, stepped = gatherer(spec, **options), gatherer(spec, **options)
    expected = [item for step in steps for item in straight.feed(*step)] + straight.finish()
    found: list[Item] = []
    for step in steps:
        snapshot = stepped.snapshot()
        if chance.random() < 0.3:
            stepped.feed(*step)  # a step that is lost
        if chance.random() < 0.5:
            stepped = gatherer(spec, **options)
        stepped.restore(snapshot)
        found += stepped.feed(*step)
    found += stepped.finish()
    assert found == expected
    assert stepped.counts == straight.counts
    assert len({item.id for item in found}) == len(found)
    balanced(stepped)


def test_changed_rules_do_not_let_out_what_was_gathered_under_others() -> None:
    before = gatherer(pipeline({"select": ["raw"]}, source=XYZ))
    before.feed([message(1, 1.0, 2.0, 3.0)], [], 0)
    later = gatherer(pipeline({"select": ["raw"]}, source=XYZ), redact=["z"])
    later.restore(before.snapshot())
    items = later.feed([message(2, 4.0, 5.0, 6.0)], [], 0) + later.finish()
    assert [record.values for record in records(items)] == [{"x": 4.0, "y": 5.0}]
    assert later.counts["pipelines"]["p"]["messages"] == 2


@pytest.mark.parametrize("rubbish", [b"", b"x", b"(\xb5/\xfd\x04\x00\x09\x00\x00\x90"])
def test_a_checkpoint_that_is_none_is_refused(rubbish: bytes) -> None:
    with pytest.raises(CorruptError, match="checkpoint cannot be read"):
        gatherer(pipeline()).restore(rubbish)


def test_a_stretch_without_a_number_says_so() -> None:
    found = gatherer(pipeline({"select": ["1m"]}), redact=[{"field": "x", "how": "round", "to": 1e-300}])
    (row,) = records(found.feed([message(1, 1e300)], [], 0) + found.finish())
    assert row.values["x"]["count"] == 0
    assert math.isnan(row.values["x"]["min"])
    assert row.values["x"]["mean"] is None
    assert after(1) // SECOND == START // SECOND + 1


def test_features_leave_where_they_are_asked_for() -> None:
    events = [happening(1, 0, 1, features={"x_mean": 1.25})]
    for select, features in ((["event"], {}), (["event", "features"], {"x_mean": 1.25})):
        found = records(gatherer(pipeline({"select": select})).feed([], events, 0))
        assert [record.values["features"] for record in found] == [features]
    with pytest.raises(ConfigError, match="features leave with events only"):
        pipeline({"select": ["features", "1m"]})
    with pytest.raises(ConfigError, match="features leave with events only"):
        gatherer(pipeline(), select=["features"])
