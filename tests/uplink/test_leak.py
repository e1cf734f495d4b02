"""What is marked occurs nowhere in what left: not as text, not as a number, in no encoding, compressed or not."""

import json
import struct
from typing import Any

import zstandard
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from skerry.broker import Frame
from tests.fixtures.frames import frame, sample
from tests.uplink.rig import START, after, gatherer, happening, message, pipeline
from tests.uplink.search import encodings, found_in, numbers

SECRET = "Xk7-serial-Qz94"
WINDOW = {"kind": "count", "size": 5}


def everything(redact: Any, allow: Any = None, **table: Any) -> Any:
    """All that can leave of a pipeline."""
    sink = {"select": ["event", "features", "1m", "1h", "raw"], "on_change": True}
    more = {} if allow is None else {"allow": allow}
    return gatherer(pipeline(sink, **table), redact=redact, **more)


def test_the_search_finds_what_is_there() -> None:
    found = everything([], source={"key": "{.unit.serial}"}, window=WINDOW, features=["mean"])
    value = 1234567.8901
    frames = [frame(at, sample(START / 1e6 + at, value + at, unit={"serial": SECRET})) for at in range(5)]
    items = found.feed(frames, [happening(1, 0, 1, key=SECRET, features={"x_mean": value})], 0) + found.finish()
    assert SECRET.encode() in found_in(items, list(encodings(SECRET)))
    assert {repr(value).encode(), struct.pack("<d", value), struct.pack(">d", value)} <= set(found_in(items, list(numbers(value))))


@settings(max_examples=40, deadline=None)
@given(
    st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=9, max_size=30).map(lambda text: "Zq" + text),
    st.sampled_from(
        [
            (["*.serial"], None),
            (["key", "*.serial"], None),
            ([{"field": "*.serial", "how": "hash"}], None),
            ([{"field": "device", "how": "generalise", "into": {"*": "a pump"}}], None),
            ([{"field": "key", "how": "round", "to": 1.0}], None),
            ([], ["x", "score", "state", "features.*"]),
        ]
    ),
)
def test_a_marked_text_is_nowhere(secret: str, rules: tuple[Any, Any]) -> None:
    """The serial is the device's key: in topics, ids, alarms and tables; in the payload besides, and as a model's label."""
    redact, allow = rules
    found = everything([*redact, "label"], allow, source={"topic": "devices/+/v", "key": "{2}-{.unit.serial}"})
    key = f"{secret}-{secret}"
    frames: list[Frame] = []
    for at in range(8):
        payload = sample(START / 1e6 + at, float(at), unit={"serial": secret}, operator=secret)
        frames.append(frame(at, payload, f"devices/{secret}/v", arrival=after(at)))
    events = [happening(1, 0, 1, id=f"p:{key}:1", key=key, state="firing", alarm_id=f"{key}-a", label=secret, severity="warning")]
    items = found.feed(frames, events, 0) + found.feed([], [], after(8000)) + found.finish()
    assert {item.kind for item in items} == {"event", "raw", "rollup"}
    assert found_in(items, list(encodings(secret))) == []


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(
        st.floats(1e5, 1e12, allow_subnormal=False),
        st.floats(-1e9, -1e5),
        st.decimals(100_000, 10_000_000, places=3).map(float),
    ),
    st.sampled_from(
        [
            (["gps.lat"], None),
            (["gps.*"], None),
            (["gps"], None),
            ([{"field": "gps.*", "how": "hash"}], None),
            ([{"field": "gps.lat", "how": "round", "to": 1e6}], None),
            ([{"field": "*.lat", "how": "generalise", "to": 1e7}], None),
            ([], ["x", "state", "key"]),
        ]
    ),
)
def test_a_marked_number_is_nowhere(value: float, rules: tuple[Any, Any]) -> None:
    """It is a sample's value, a roll-up's minimum, maximum and last, a feature of an event, and the score without a model."""
    # a value that is what it is rounded to, or next to it, may leave
    assume(all(1 < form % 1e6 < 1e6 - 1 for form in (value, struct.unpack("<f", struct.pack("<f", value))[0])))
    redact, allow = rules
    names = ["gps.lat", "x"]
    found = everything(redact, allow, source={"values": names}, window=WINDOW, features=["mean", "max"])
    frames = []
    for at in range(8):
        payload = json.dumps({"ts": START / 1e6 + at, "gps": {"lat": value}, "x": 0.25 * at}).encode()
        frames.append(frame(at, payload, arrival=after(at)))
    features = {"gps.lat_mean": value, "gps.lat_max": value, "x_mean": 0.5}
    items = found.feed(frames, [happening(1, 0, 1, score=value, features=features)], 0) + found.finish()
    assert {item.kind for item in items} == {"event", "raw", "rollup"}
    assert found_in(items, list(numbers(value))) == []


def test_a_marked_number_is_not_in_the_checkpoint_either() -> None:
    found = everything(["y"], source={"values": ["x", "y"]})
    found.feed([message(at, 1.0, 7654321.125) for at in range(5)], [], 0)
    plain = zstandard.ZstdDecompressor().decompress(found.snapshot())
    assert [needle for needle in numbers(7654321.125) if needle in plain] == []
