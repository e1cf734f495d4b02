"""From frames to series: names, times, what is passed over and why, and which of two sources counts."""

import json
from typing import Any

import pytest

from skerry.broker import Frame
from skerry.historian.intake import Intake
from skerry.pipeline import MQTT_PREFIX, QOS0_PREFIX, PipelineSpec
from tests.fixtures.frames import ARRIVAL, frame, sample, spec_of

AT = ARRIVAL / 1e6


def intake(*specs: PipelineSpec, topics: tuple[str, ...] = (), known: tuple[str, ...] = (), most: int = 100) -> Intake:
    return Intake(list(specs), topics, known, most)


def taken(found: Intake, *frames: Frame) -> dict[str, list[tuple[int, float]]]:
    found.take(list(frames))
    count = found.count
    gathered = found.hand_over()
    assert count == sum(len(samples.times) for samples in gathered.values())
    assert found.count == 0
    return {name: list(zip(each.times, each.values, strict=True)) for name, each in gathered.items()}


def event(sequence: int, **more: Any) -> Frame:
    body = {
        "pipeline": "p", "key": "d", "end": "2026-11-24T20:00:00.123Z", "score": 0.5, "features": {"x_mean": 2.0, "x_std": None},
        **more,
    }  # fmt: skip
    return frame(sequence, json.dumps(body).encode())


def test_a_value_is_named_by_device_channel_and_field() -> None:
    found = intake(spec_of(source={"topic": "devices/+/vibration", "values": ["x", "axis.y"]}))
    payload = json.dumps({"ts": AT, "x": 1.5, "axis": {"y": -2}}).encode()
    assert taken(found, frame(1, payload, "devices/pump-1/vibration")) == {
        "pump-1/vibration/x": [(ARRIVAL, 1.5)],
        "pump-1/vibration/axis.y": [(ARRIVAL, -2.0)],
    }


def test_other_topics_keep_their_whole_name_and_others_messages_are_none_of_ours() -> None:
    found = intake(spec_of(source={"topic": "zigbee2mqtt/+", "time": ""}))
    rows = taken(found, frame(5, b'{"x": 1}', "zigbee2mqtt/kitchen"), frame(6, b'{"x": 2}', "devices/kitchen/v"))
    assert rows == {"zigbee2mqtt/kitchen/x": [(ARRIVAL + 5000, 1.0)]}
    assert found.passed_over == {}


def test_a_topic_that_serves_many_devices_has_their_key_in_the_name() -> None:
    found = intake(spec_of(source={"topic": "gateway/up", "key": "{1}-{.dev}"}))
    rows = taken(found, frame(1, sample(AT, 1.0, dev="a"), "gateway/up"), frame(2, sample(AT, 2.0, dev=7), "gateway/up"))
    assert rows == {"gateway/up/gateway-a/x": [(ARRIVAL, 1.0)], "gateway/up/gateway-7/x": [(ARRIVAL, 2.0)]}
    assert taken(found, frame(3, sample(AT, 3.0), "gateway/up")) == {}
    assert found.passed_over == {"unknown-key": 1}


def test_of_two_sources_of_one_value_the_first_counts() -> None:
    timed, untimed = spec_of(), spec_of(source={"time": "", "values": ["x", "y"]})
    found = intake(timed, untimed, topics=("devices/#",))
    payload = json.dumps({"ts": AT, "x": 1, "y": 2, "z": 3}).encode()
    assert taken(found, frame(9, payload)) == {
        "d/v/x": [(ARRIVAL, 1.0)],
        "d/v/y": [(ARRIVAL + 9000, 2.0)],
        "d/v/z": [(ARRIVAL, 3.0)],
    }


def test_several_samples_of_one_message_and_arrival_times() -> None:
    numbers = b"".join(value.to_bytes(4, "little") for value in (0x3F800000, 0x40000000))  # 1.0 and 2.0
    found = intake(spec_of(source={"format": "float32", "time": "", "rate": 1000.0, "values": ["x"]}))
    assert taken(found, frame(4, numbers)) == {"d/v/x": [(ARRIVAL + 3000, 1.0), (ARRIVAL + 4000, 2.0)]}


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"{", "undecodable"),
        (b"{}", "wrong-shape"),
        (b'{"ts": 1, "x": NaN}', "nan"),
        (sample(AT + 120, 1.0), "future"),
        (sample(AT, 1.0, pad="x" * 2000), "oversized"),
    ],
)
def test_what_gives_no_sample_is_counted_by_reason(payload: bytes, reason: str) -> None:
    found = intake(spec_of(source={"max_payload": "1KiB"}))
    assert taken(found, frame(1, payload)) == {}
    assert found.passed_over == {reason: 1}


def test_topics_take_every_number_but_no_events_of_pipelines() -> None:
    found = intake(topics=("#",))
    rows = taken(
        found,
        frame(1, b'{"a": 1, "b": {"c": 2}}', "devices/d/v"),
        frame(2, b"7.5", "plain"),
        frame(3, b'{"score": 1}', "events/p/d"),
        frame(4, b"on", "devices/lamp/state"),
        frame(5, sample(AT + 120, 1.0), "devices/d/late"),
    )
    first = [(ARRIVAL + 1000, 1.0)]
    assert rows == {"d/v/a": first, "d/v/b.c": [(ARRIVAL + 1000, 2.0)], "plain/value": [(ARRIVAL + 2000, 7.5)]}
    assert found.passed_over == {"undecodable": 1, "future": 1}


def test_all_ways_into_the_log_lead_to_one_series() -> None:
    found = intake(spec_of())
    frames = [
        frame(1, sample(AT, 1.0), prefix=MQTT_PREFIX),
        frame(2, sample(AT + 1, 2.0), prefix=QOS0_PREFIX),
        frame(3, sample(AT + 2, 3.0), prefix="skerry.retry.p."),
        frame(4, b"\x80", "$window", prefix="skerry.retry.p.", header=b"NATS/1.0\r\nSkerry-Window: 1\r\n\r\n"),
    ]
    assert [value for _, value in taken(found, *frames)["d/v/x"]] == [1.0, 2.0, 3.0]
    assert found.passed_over == {}


def test_what_is_tried_again_without_a_time_of_its_own_is_no_second_sample() -> None:
    found = intake(spec_of(source={"time": ""}), topics=("devices/#",))
    rows = taken(found, frame(1, b'{"x": 1}'), frame(2, b'{"x": 1}', prefix="skerry.retry.p."))
    assert rows == {"d/v/x": [(ARRIVAL + 1000, 1.0)]}


def test_pictures_are_no_series() -> None:
    camera = spec_of(source={"format": "string", "time": "", "values": []}, model="m@1")
    assert taken(intake(camera), frame(1, b"hello")) == {}


def test_series_and_the_length_of_their_names_are_bounded() -> None:
    found = intake(topics=("devices/#",), known=("d/v/a",), most=2)
    rows = taken(found, frame(1, b'{"a": 1, "b": 2, "c": 3, "d": 4}'), frame(2, b'{"b": 5}'))
    assert {name: len(each) for name, each in rows.items()} == {"d/v/a": 1, "d/v/b": 2}
    assert found.passed_over == {"too many series": 2}
    long = intake(topics=("devices/#",))
    assert taken(long, frame(1, json.dumps({"x" * 600: 1, "a\0b": 2, "ok": 3}).encode())).keys() == {"d/v/ok"}
    assert long.passed_over == {"name too long": 2}


def test_an_event_s_score_and_features_are_series_of_their_pipeline() -> None:
    found = intake(spec_of())
    found.take_events([event(7), event(8, score=None, key="a/b"), event(9, pipeline="other"), frame(10, b"{"), event(11, end="x")])
    gathered = found.hand_over()
    base = 1_795_550_400_123_000
    assert {name: list(zip(each.times, each.values, strict=True)) for name, each in gathered.items()} == {
        "p/d/score": [(base + 7, 0.5)],
        "p/d/x_mean": [(base + 7, 2.0)],
        "p/a/b/x_mean": [(base + 8, 2.0)],
    }
    assert found.passed_over == {"undecodable": 2}
