"""Decoding: records as they are sent on, and envelopes of others that are refused before they take memory."""

import hashlib
import subprocess
import sys
from contextlib import suppress
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.core.errors import RejectedError
from skerry.store import pack_table
from skerry.uplink.envelope import MAGIC, VERSION, Header, encode_envelope
from skerry.uplink.item import Item
from skerry.uplink.records import Record, decode, shown
from skerry.uplink.table import MOST_NUMBERS
from tests.uplink.rig import START, after, enveloped, gatherer, happening, message, pipeline


def test_numbers_indices_and_topics() -> None:
    found = gatherer(pipeline({"select": ["event", "features", "raw", "1m"]}, source={"values": ["x", "gps.lat"]}))
    frames = [message(at, 1.5, names=["x"], gps={"lat": at / 4}, device="a b") for at in range(3)]
    items = found.feed(frames, [happening(9, 0, 1, key="a/b", state="firing")], 0) + found.finish()
    back = [record for envelope in enveloped(items) for record in decode(envelope)]
    assert [(record.kind, record.topic, record.index) for record in back] == [
        ("event", "events/p/a_b", 0), ("rollup", "1m/p/a b".replace(" ", "_"), 0),
        ("raw", "raw/p/a_b", 0), ("raw", "raw/p/a_b", 1), ("raw", "raw/p/a_b", 2),
    ]  # fmt: skip
    assert {record.node for record in back} == {"n1"}
    assert back[-1].key == "a b"
    assert msgspec.json.decode(back[-1].payload) == {"ts": after(2) / 1e6, "x": 1.5, "gps": {"lat": 0.5}}
    assert len({record.id for record in back}) == 5
    assert shown(back[0])["time"] == shown(back[0])["values"]["end"]
    assert shown(back[1])["values"]["x"]["count"] == 3


def test_names_that_stand_in_each_others_way() -> None:
    record = Record("n", "s", 1, 0, "i", "raw", "p", "k", START, {"a": 1.0, "a.b": 2.0, "c.d": 3.0})
    assert msgspec.json.decode(record.payload) == {"ts": START / 1e6, "a": 1.0, "a.b": 2.0, "c": {"d": 3.0}}
    assert msgspec.structs.replace(record, width=300, kind="rollup").topic == "300s/p/k"


@pytest.mark.parametrize("body", [b"", b"\x90", msgspec.msgpack.encode([0, 1 << 62, 0, *[None] * 14])])
@pytest.mark.parametrize("kind", ["event", "raw", "rollup"])
def test_a_body_that_is_none_is_refused(kind: Any, body: bytes) -> None:
    envelope = encode_envelope("n", "s", "e", "bulk", [(1, Item(kind, "bulk", "i", "p", 0, 1, body))])
    with pytest.raises(RejectedError, match="the envelope cannot be read"):
        decode(envelope)


def test_all_tables_of_an_envelope_together_are_bounded() -> None:
    rows = MOST_NUMBERS // 4
    times = np.arange(rows, dtype=np.int64)
    body = msgspec.msgpack.encode((0, ("x",), ["a"], [rows], pack_table(times, [np.ones(rows)])))
    items = [(at, Item("raw", "bulk", str(at), "p", 0, rows, body)) for at in (1, 2)]
    assert len(decode(encode_envelope("n", "s", "e", "bulk", items))) == 2 * rows
    items.append((3, items[0][1]))
    with pytest.raises(RejectedError, match="more than 262144 numbers"):
        decode(encode_envelope("n", "s", "e", "bulk", items))


MARKS = bytes([0, 1, 0x7F, 0x80, 0x90, 0xA1, 0xC0, 0xC1, 0xCB, 0xCF, 0xD3, 0xDB, 0xDD, 0xDF, 0xFF])
"""First bytes of msgpack's kinds."""


def plain_of(items: list[Item]) -> bytes:
    return msgspec.msgpack.encode(list(enumerate(items, start=1)))


def remade(plain: bytes, count: int) -> bytes:
    """An envelope with a right digest around any body."""
    header = msgspec.msgpack.encode(Header("n", "s", "e", "bulk", 1, count, count, "none", len(plain)))
    front = MAGIC + bytes([VERSION]) + len(header).to_bytes(2, "big") + header
    return front + hashlib.blake2b(front + plain, digest_size=16).digest() + plain


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_sender_that_lies_gets_a_sentence_and_nothing_else(data: st.DataObject) -> None:
    """Bytes of a body are changed, and the digest is made right."""
    found = gatherer(pipeline({"select": ["event", "features", "raw", "1m"]}, source={"values": ["x", "y"]}))
    events = [happening(1, 0, 1, label="worn", features={"x_mean": 1.25, "x_std": 0.1 + 0.2, "y_mean": 0.0, "y_std": 1.0})]
    items = found.feed([message(at, at / 4, 0.1 + at) for at in range(12)], events, 0) + found.finish()
    items = [msgspec.structs.replace(item, priority="bulk") for item in items]
    plain = bytearray(plain_of(items))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(plain) - 1))
        plain[at] = data.draw(st.sampled_from([*MARKS, plain[at] ^ 1]))
    with suppress(RejectedError):
        for record in decode(remade(bytes(plain), len(items))):
            assert record.topic == shown(record)["topic"]
            assert msgspec.json.decode(record.payload) is not None


HOSTILE = """
import msgspec, resource
from skerry.uplink import decode, encode_envelope, Item
from skerry.uplink.envelope import MOST_ENVELOPE
names = ([f"{at:x}" for at in range(4000)], [], [0] * 4000)
def event(features):
    return msgspec.msgpack.encode([0, 0, 0, "k", "n", 1, 0, "l", "s", "v", features, "m", "v", 0, "a", 1])
one = event(names)
items = [(at, Item("event", "bulk", "i", "p", 0, 1, one)) for at in range(1, 66)]
envelope = encode_envelope("n", "s", "e", "bulk", items)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
records = decode(envelope)
print(len(envelope), len(records), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_the_worst_that_may_be_sent_takes_a_bounded_memory() -> None:
    done = subprocess.run([sys.executable, "-c", HOSTILE], capture_output=True, text=True, check=True)
    size, records, grown = map(int, done.stdout.split())
    assert records > 50
    assert grown < 256, (size, records, grown)
