"""Envelopes: what was put in comes out, and what is none is refused with a sentence before it takes memory."""

import hashlib
import resource
import struct
from typing import Any

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from skerry.core.errors import CorruptError, RejectedError
from skerry.uplink.envelope import (
    MAGIC,
    MOST_ENVELOPE,
    MOST_ITEMS,
    VERSION,
    Header,
    digest_of,
    encode_envelope,
    read_envelope,
    read_header,
)
from skerry.uplink.item import PRIORITIES, Item, Priority, decode_item, encode_item

EVENT = Item("event", "alarm", "a-1", "pump", 1_700_000_000_000_000, 1, b"body")


def numbered(bodies: list[bytes], lane: Priority = "bulk") -> list[tuple[int, Item]]:
    return [(3 * at + 1, Item("raw", lane, f"i{at}", "p", at, 1, body)) for at, body in enumerate(bodies)]


def made(header: Any, body: bytes, version: int = 1) -> bytes:
    """An envelope with a right digest, whatever it says."""
    packed = msgspec.msgpack.encode(header)
    front = MAGIC + bytes([version]) + struct.pack(">H", len(packed)) + packed
    return front + hashlib.blake2b(front + body, digest_size=16).digest() + body


def header(**changes: Any) -> Header:
    return msgspec.structs.replace(Header("n", "s", "e", "alarm", 1, 1, 1, "zstd", 100), **changes)


@given(st.lists(st.binary(max_size=200), max_size=30), st.sampled_from(PRIORITIES), st.sampled_from(["none", "zstd"]))
def test_what_was_put_in_comes_out(bodies: list[bytes], lane: Priority, compression: Any) -> None:
    items = numbered(bodies, lane)
    envelope = encode_envelope("node-1", "site", "e1", lane, items, compression)
    found = read_envelope(envelope)
    assert found.items == items
    said = read_header(envelope)
    assert said == found.header
    assert (said.node, said.site, said.epoch, said.lane, said.count, said.version) == (
        "node-1",
        "site",
        "e1",
        lane,
        len(items),
        VERSION,
    )
    assert (said.first, said.last) == ((items[0][0], items[-1][0]) if items else (0, 0))
    assert len(digest_of(envelope)) == 32


def test_what_compression_makes_no_smaller_goes_as_it_is() -> None:
    assert read_header(encode_envelope("n", "s", "e", "alarm", [(1, EVENT)])).codec == "none"
    many = numbered([b"the same again"] * 50)
    assert read_header(encode_envelope("n", "s", "e", "bulk", many)).codec == "zstd"
    assert read_header(encode_envelope("n", "s", "e", "bulk", many, "none")).codec == "none"


@pytest.mark.parametrize(
    "items",
    [
        [(2, EVENT), (1, EVENT)],
        [(1, EVENT), (1, EVENT)],
        [(1, msgspec.structs.replace(EVENT, priority="bulk"))],
        [(at, EVENT) for at in range(1, MOST_ITEMS + 2)],
        [(1, msgspec.structs.replace(EVENT, body=bytes(MOST_ENVELOPE)))],
    ],
)
def test_what_makes_no_envelope_is_refused_by_its_sender(items: list[tuple[int, Item]]) -> None:
    with pytest.raises(RejectedError):
        encode_envelope("n", "s", "e", "alarm", items)


def test_each_changed_or_missing_byte_is_seen() -> None:
    envelope = encode_envelope("n", "s", "e", "bulk", numbered([b"some text"] * 20))
    for at in range(len(envelope)):
        with pytest.raises(RejectedError):
            read_envelope(envelope[:at])
        changed = bytearray(envelope)
        changed[at] ^= 0x10
        with pytest.raises(RejectedError):
            read_envelope(bytes(changed))
    with pytest.raises(RejectedError, match="cut off or changed"):
        read_envelope(envelope + b"x")


def test_a_newer_version_says_what_to_do() -> None:
    with pytest.raises(RejectedError, match=r"version 3; this skerry reads versions 1 and 2; use a newer skerry here"):
        read_envelope(made(header(), b"", version=3))


@pytest.mark.parametrize(
    ("said", "body", "sentence"),
    [
        (header(size=1 << 40), b"", "would unpack to 1099511627776 bytes"),
        (header(size=-1), b"", "would unpack to -1 bytes"),
        (header(size=100), zstandard.ZstdCompressor().compress(bytes(1 << 28)), "another size than its header says"),
        (header(size=100), zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1 << 28)), "cannot be unpacked"),
        (header(size=100), b"rubbish", "cannot be unpacked"),
        (header(codec="none", size=5), b"\xdd\xff\xff\xff\xff", "cannot be read"),
        (header(codec="none", size=5), b"\xdd\x00\x00\xff\xff", "cannot be read"),
        (header(codec="none", size=1), b"\x90", "not those that its header names"),
        (header(codec="none", size=4), b"\x90", "another size"),
    ],
)
def test_a_bomb_is_refused_without_taking_memory(said: Header, body: bytes, sentence: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(RejectedError, match=sentence):
        read_envelope(made(said, body))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024


@pytest.mark.parametrize(
    ("said", "body", "sentence"),
    [
        (["n", "s", "e", 3, 1, 0, 1], b"x", "names no lane"),
        (["n", "s", "e", -1, 1, 0, 1], b"x", "names no lane"),
        (["n", "s", "e", 0, 1, 0, MOST_ITEMS + 1], b"x", "too many items"),
        (["n", "s", "e", 0, 1, 0, 1, 1 << 40], b"x", "would unpack to 1099511627776 bytes"),
        (["n", "s", "e", 0, 1, 0, 1], b"", "would unpack to 0 bytes"),
        (["n", "s", "e", 0, 1, 0, 1], b"rubbish", "cannot be read"),
        (["n", "s", "e", 0, 0, 0, 0], b"rubbish", "holds more than its header names"),
        # one long name for all: it would be there ten thousand times
        (
            ["n", "s", "e", 0, 1, MOST_ITEMS - 1, MOST_ITEMS],
            msgspec.msgpack.encode([1, 1, b"\x01", "p" * 100_000, 1, 1, 0, 1, [b""] * MOST_ITEMS]),
            "more than it may",
        ),
    ],
)
def test_short_headers_and_columns_take_no_memory_either(said: list[Any], body: bytes, sentence: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(RejectedError, match=sentence):
        read_envelope(made(said, body, version=2))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024


def test_an_envelope_of_version_1_is_read_as_ever() -> None:
    items = [(3, EVENT), (5, msgspec.structs.replace(EVENT, id="a-2"))]
    body = msgspec.msgpack.encode(items)
    said = header(codec="none", size=len(body), first=3, last=5, count=2)
    assert read_envelope(made(said, body)) == (said, items)
    assert read_header(made(said, body)).version == 1


def test_a_wrong_count_or_lane_is_seen() -> None:
    body = msgspec.msgpack.encode([(1, EVENT), (2, EVENT)])
    right = header(codec="none", size=len(body), last=2, count=2)
    assert len(read_envelope(made(right, body)).items) == 2
    for wrong in ({"count": 1}, {"last": 3}, {"first": 0}, {"lane": "bulk"}):
        with pytest.raises(RejectedError, match="not those that its header names"):
            read_envelope(made(msgspec.structs.replace(right, **wrong), body))


@given(st.binary(max_size=300))
def test_rubbish_is_refused(rubbish: bytes) -> None:
    for data in (rubbish, MAGIC + rubbish, MAGIC + b"\x01" + rubbish):
        with pytest.raises(RejectedError):
            read_envelope(data)


def test_an_item_comes_back_from_the_queue() -> None:
    assert decode_item(encode_item(EVENT)) == EVENT
    with pytest.raises(CorruptError, match="cannot be read"):
        decode_item(b"\x93")
