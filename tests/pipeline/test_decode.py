"""Payloads of every format: what they give, what they are refused for, and that no bytes whatever do anything else."""

import json
import math
import struct
from typing import Any

import cbor2
import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from skerry.pipeline.decode import LAST_TIME, NAN, UNDECODABLE, WRONG_SHAPE, Decode, Undecoded, decoder, payload_fields
from skerry.pipeline.spec import SourceSpec

PACK = {"json": lambda item: json.dumps(item).encode(), "msgpack": msgspec.msgpack.encode, "cbor": cbor2.dumps}
OBJECTS = sorted(PACK)
T = 1_795_545_600


def source(**more: Any) -> SourceSpec:
    return msgspec.convert({"topic": "devices/+/v", "values": ["x", "y"], **more}, SourceSpec)


def refusal(decode: Decode, payload: bytes) -> str:
    with pytest.raises(Undecoded) as caught:
        decode(payload)
    assert len(caught.value.detail) > 3
    return caught.value.reason


@pytest.mark.parametrize("format", OBJECTS)
def test_an_object_gives_a_row_and_an_array_gives_several(format: str) -> None:
    decode, pack = decoder(source(format=format, time="ts")), PACK[format]
    assert decode(pack({"ts": T + 0.25, "y": 2, "x": 1.5, "other": [None, {"a": True}]})) == ([(T * 1e6 + 250_000, 1.5, 2.0)], None)
    rows = decode(pack([{"ts": T, "x": 1, "y": 2}, {"ts": T + 1, "x": 3, "y": 4}]))[0]
    assert rows == [(T * 1e6, 1.0, 2.0), (T * 1e6 + 1e6, 3.0, 4.0)]


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(OBJECTS),
    st.integers(0, T * 10**6),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(2**53), 2**53),
)
def test_values_and_times_go_through_unchanged(format: str, micros: int, x: float, y: int) -> None:
    ((time, *values),), _ = decoder(source(format=format, time="ts"))(PACK[format]({"ts": micros / 1e6, "x": x, "y": y}))
    assert (round(time), time.is_integer()) == (micros, True)
    assert values == [x, float(y)]


@pytest.mark.parametrize(
    ("value", "micros"),
    [
        (T, T * 10**6),
        (T + 0.000001, T * 10**6 + 1),
        (T * 1000, T * 10**6),
        (T * 1000 + 0.5, T * 10**6 + 500),
        (0, 0),
        (99_999_999_999, 99_999_999_999 * 10**6),
        (100_000_000_000, 100_000_000_000 * 1000),
        ("2026-11-24T18:00:00Z", 1_795_543_200 * 10**6),
        ("2026-11-24T19:00:00.123456+01:00", 1_795_543_200 * 10**6 + 123_456),
        ("2026-11-24T18:00:00.5", 1_795_543_200 * 10**6 + 500_000),
    ],
)
@pytest.mark.parametrize("format", OBJECTS)
def test_times_are_seconds_milliseconds_or_rfc_3339(format: str, value: float | str, micros: int) -> None:
    assert decoder(source(format=format, time="ts"))(PACK[format]({"ts": value, "x": 1, "y": 2}))[0][0][0] == micros


@pytest.mark.parametrize(
    "value", [-1, -0.5, -1e12, 1e300, 1e17, "1969-12-31T23:59:59Z", "6000-01-01T00:00:00Z", "noon", "", "5", "2026-13-01"]
)
@pytest.mark.parametrize("format", OBJECTS)
def test_what_is_no_time_or_none_of_this_age_is_refused(format: str, value: float | str) -> None:
    assert refusal(decoder(source(format=format, time="ts")), PACK[format]({"ts": value, "x": 1, "y": 2})) == WRONG_SHAPE


def test_without_a_time_the_arrival_counts() -> None:
    assert decoder(source())(b'{"x": 1, "y": 2}') == ([(-1.0, 1.0, 2.0)], None)


def test_fields_may_be_nested_and_share_their_parents() -> None:
    nested = source(values=["gps.lat", "gps.at.alt", "x"], time="head.ts")
    payload = {"gps": {"at": {"alt": 3}, "lat": 1}, "head": {"ts": 5, "n": 1}, "x": 9}
    assert decoder(nested)(json.dumps(payload).encode())[0] == [(5e6, 1.0, 3.0, 9.0)]
    assert refusal(decoder(nested), b'{"gps": {"lat": 1, "at": 2}, "head": {"ts": 5}, "x": 1}') == WRONG_SHAPE
    assert refusal(decoder(nested), b'{"gps": {"lat": 1}, "head": {"ts": 5}, "x": 1}') == WRONG_SHAPE


def test_the_id_of_a_message_is_read_with_it() -> None:
    decode = decoder(source(), "id")
    for value in ("a", 7, 7.5):
        assert decode(json.dumps({"x": 1, "y": 2, "id": value}).encode())[1] == value
    assert decode(b'[{"x": 1, "y": 2, "id": "m"}, {"x": 1, "y": 2, "id": "n"}]')[1] == "m"
    assert refusal(decode, b'{"x": 1, "y": 2}') == WRONG_SHAPE
    assert decoder(source(), "x")(b'{"x": 1, "y": 2}')[1] == 1.0
    assert decoder(source(), "meta.n")(b'{"x": 1, "y": 2, "meta": {"n": 4}}')[1] == 4


@pytest.mark.parametrize("format", OBJECTS)
@pytest.mark.parametrize(
    "item",
    [
        {},
        [],
        [[]],
        5,
        None,
        "text",
        True,
        {"x": 1},
        {"x": 1, "y": None},
        {"x": 1, "y": True},
        {"x": 1, "y": "2"},
        [{"x": 1, "y": 2}, 5],
    ],
)
def test_what_has_not_the_fields_is_of_wrong_shape(format: str, item: Any) -> None:
    assert refusal(decoder(source(format=format)), PACK[format](item)) == WRONG_SHAPE


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("format", OBJECTS)
def test_what_is_not_finite_is_refused_as_such(format: str, number: float) -> None:
    assert refusal(decoder(source(format=format)), PACK[format]({"x": 1, "y": number})) == NAN
    assert refusal(decoder(source(format=format)), PACK[format]([{"x": 1, "y": 2}, {"x": number, "y": -number}])) == NAN


@pytest.mark.parametrize(
    "payload", [b"", b"{", b"NaN,", b'{"x": 1, "y": 2} 3', b"\xff\xfe", b'{"x": NaN', b'{"x": 1, "y": "\xff"}']
)
def test_what_is_no_json_is_undecodable(payload: bytes) -> None:
    assert refusal(decoder(source()), payload) in (UNDECODABLE, WRONG_SHAPE)


def test_the_sum_of_great_values_is_no_reason_to_refuse_them() -> None:
    assert decoder(source())(b'{"x": 1.7e308, "y": 1.7e308}')[0] == [(-1.0, 1.7e308, 1.7e308)]


@pytest.mark.parametrize(
    ("format", "payload"),
    [
        ("json", b'{"deep": ' + b"[" * 100_000 + b"]" * 100_000 + b', "x": 1, "y": 2}'),
        ("json", b'{"deep": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b', "x": 1, "y": 2}'),
        ("json", b"[" * 100_000),
        ("json", b"NaN" + b"[" * 100_000),
        ("msgpack", b"\x83\xa4deep" + b"\x91" * 100_000 + b"\xc0\xa1x\x01\xa1y\x02"),
        ("cbor", b"\xa3ddeep" + b"\x81" * 100_000 + b"\xf6ax\x01ay\x02"),
    ],
)
def test_nesting_without_end_ends_in_a_dead_letter(format: str, payload: bytes) -> None:
    refusal(decoder(source(format=format)), payload)
    assert payload_fields(payload, format, ["x.y"]) is None


rubbish = st.binary(max_size=60) | st.text(max_size=40).map(str.encode)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64) | st.floats() | st.text(max_size=5) | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "y", "ts", "id", "z"]), inner, max_size=4),
    max_leaves=8,
)


def cbor_or_nothing(item: Any) -> bytes:
    return cbor2.dumps(item)


@settings(max_examples=150, deadline=None)
@given(rubbish | plain.map(cbor_or_nothing), st.sampled_from(["json", "msgpack", "cbor", "float32", "text"]), st.booleans())
@example(b"\xa3ax\xc1\x00ay\x01bts\xc1\xfb\x7f\xf0\x00\x00\x00\x00\x00\x00", "cbor", True)
@example(b"\xa1\xf7\xf7", "cbor", False)
@example(b"\xd9\x01\x02\x81\x01", "cbor", False)
@example(b"\xd8\x1c\xa1ax\xd8\x1d\x00", "cbor", False)
@example(b"\xc4\x82\x1b\x7f\xff\xff\xff\xff\xff\xff\xff\x01", "cbor", False)
def test_any_bytes_give_finite_rows_or_are_refused(payload: bytes, format: str, timed: bool) -> None:
    objects = format in OBJECTS
    decode = decoder(source(format=format, **({"time": "ts"} if timed and objects else {})), "id" if timed and objects else "")
    rows, reason = [], ""
    try:
        rows = decode(payload)[0]
    except Undecoded as error:
        reason = error.reason
    assert bool(rows) != (reason in (UNDECODABLE, WRONG_SHAPE, NAN))
    assert all(len(row) == 3 and all(map(math.isfinite, row)) for row in rows)
    assert all(0 <= row[0] < LAST_TIME if timed and objects else row[0] < 0 for row in rows)
    if objects:
        found = payload_fields(payload, format, ["x", "y.z"])
        assert found is None or all(text.encode() for text in found)


def test_float32_is_rows_of_columns_back_in_time_by_the_rate() -> None:
    payload = struct.pack("<6f", 1, 2, 3, 4, 5, 6)
    assert [row[1:] for row in decoder(source(format="float32"))(payload)[0]] == [(1.0, 2.0), (3.0, 4.0), (5.0, 6.0)]
    times = [row[0] for row in decoder(source(format="float32", rate=1000.0))(payload)[0]]
    assert times == [-2001.0, -1001.0, -1.0]
    assert [row[0] for row in decoder(source(format="float32"))(payload)[0]] == [-1.0] * 3


@pytest.mark.parametrize("payload", [b"", b"123", struct.pack("<3f", 1, 2, 3), b"x" * 9])
def test_float32_of_a_wrong_length_is_refused(payload: bytes) -> None:
    assert refusal(decoder(source(format="float32")), payload) == WRONG_SHAPE


def test_float32_that_is_not_finite_is_refused() -> None:
    assert refusal(decoder(source(format="float32")), struct.pack("<2f", 1, math.inf)) == NAN


@pytest.mark.parametrize("payload", [b"1.5 -2", b"1.5,-2", b" 1.5 , -2 \n", b"15e-1\t-2.0"])
def test_text_is_numbers_between_spaces_or_commas(payload: bytes) -> None:
    assert decoder(source(format="text"))(payload) == ([(-1.0, 1.5, -2.0)], None)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", WRONG_SHAPE),
        (b"1", WRONG_SHAPE),
        (b"1 2 3", WRONG_SHAPE),
        (b"1 two", UNDECODABLE),
        (b"1 nan", NAN),
        (b"inf 1", NAN),
        (b"\xff 1", UNDECODABLE),
    ],
)
def test_text_that_is_not_these_numbers_is_refused(payload: bytes, reason: str) -> None:
    assert refusal(decoder(source(format="text")), payload) == reason


def test_one_number_needs_no_name() -> None:
    single = source(format="text", values=[])
    assert single.names == ("value",)
    assert decoder(single)(b"21.5") == ([(-1.0, 21.5)], None)


@pytest.mark.parametrize("format", OBJECTS)
def test_key_fields_are_texts_and_whole_numbers(format: str) -> None:
    pack = PACK[format]
    item = {"id": "a", "n": 7, "deep": {"id": "b"}, "flag": True, "none": None, "part": 1.5, "empty": ""}
    assert payload_fields(pack(item), format, ["id", "n", "deep.id"]) == ["a", "7", "b"]
    assert payload_fields(pack([item, {}]), format, ["id"]) == ["a"]
    for name in ("flag", "none", "part", "empty", "deep", "id.more", "missing"):
        assert payload_fields(pack(item), format, [name]) is None
