"""Searches what left for a text or a number, in every form in which it could hide there."""

import base64
import json
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress

import msgspec
import zstandard

from skerry.uplink.envelope import Header, read_header
from skerry.uplink.item import Item, encode_item
from skerry.uplink.records import decode
from skerry.uplink.table import decode_table
from tests.uplink.rig import enveloped


def encodings(text: str) -> Iterator[bytes]:
    """A text in the forms that it could hide in."""
    for raw in (text.encode(), text.encode("utf-16-le"), text.encode("utf-16-be"), text[::-1].encode()):
        yield raw
        yield raw.hex().encode()
        yield raw.hex().upper().encode()
        for pad in range(3):  # wherever it stands in a longer text that is encoded
            found = base64.b64encode(bytes(pad) + raw)[4 if pad else 0 : -4]
            yield found
            yield found.translate(bytes.maketrans(b"+/", b"-_"))


def numbers(value: float) -> Iterator[bytes]:
    """A number as its bits, as text, and packed."""
    for form in ("<d", ">d", "<f", ">f"):
        yield struct.pack(form, value)
    yield repr(value).encode()
    yield json.dumps(value).encode()
    yield msgspec.msgpack.encode(value)
    for places in (0, 1, 2, 3, 6):
        if abs(whole := round(value * 10**places)) > 1 << 24:
            yield str(whole).encode()
            yield struct.pack("<q", whole)[:5]
            yield struct.pack(">q", whole)[3:]
            yield struct.pack("<q", whole << 1)[:5]
            yield msgspec.msgpack.encode(8 * whole + places)[1:]


def layers(items: Sequence[Item]) -> Iterator[bytes]:
    """What left, and what was queued, each as it is and unpacked as far as it goes."""
    for item in items:
        yield encode_item(item)
        yield item.body
        if item.kind != "event":
            table = decode_table(item.body)
            yield repr((table.names, table.keys)).encode()
            for column in table.columns:
                yield column.tobytes()
                yield column.astype(">f8").tobytes()
                yield repr(column.tolist()).encode()
            yield from frames_within(item.body)
    for compression in ("none", "zstd"):
        for envelope in enveloped(items, compression):
            yield envelope
            header: Header = read_header(envelope)
            yield repr(header).encode()
            for record in decode(envelope):
                yield repr(record).encode()
                yield record.payload
                yield record.topic.encode()


def frames_within(body: bytes) -> Iterator[bytes]:
    """Each zstd frame in a body, unpacked."""
    at = body.find(b"\x28\xb5\x2f\xfd")
    while at >= 0:
        unpacker = zstandard.ZstdDecompressor().decompressobj()
        with suppress(zstandard.ZstdError):
            yield unpacker.decompress(body[at:])
        at = body.find(b"\x28\xb5\x2f\xfd", at + 4)


def found_in(items: Sequence[Item], needles: list[bytes]) -> list[bytes]:
    assert items
    whole = list(layers(items))
    return [needle for needle in needles for layer in whole if needle in layer]
