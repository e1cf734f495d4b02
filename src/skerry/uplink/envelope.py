"""The envelope: items of one priority on their way to the centre, numbered by their sender. Pure.

Layout: `SKUP`, version (1 byte), length of the header (2 bytes, big-endian), header (msgpack array), digest (16 bytes: BLAKE2b
of all that stands before it, and the body), body. The body is a msgpack array of numbers and items, compressed as the header says.
What others may send is bounded before anything is unpacked.
"""

import hashlib
import itertools
from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

import msgspec
import zstandard

from skerry.core.errors import RejectedError
from skerry.uplink.item import Item, Priority

MAGIC, VERSION = b"SKUP", 1
MOST_ENVELOPE = 4 * 1024 * 1024
"""Bytes of an envelope, and of its body unpacked."""
MOST_ITEMS = 10_000
Codec = Literal["none", "zstd"]
_DIGEST = 16
_LEVEL = 9
_MOST_HEADER = 2048
_MOST_WINDOW = 8 * 1024 * 1024


class Header(msgspec.Struct, frozen=True, array_like=True):
    """What an envelope says before its body is unpacked.

    Attributes:
        epoch: of the sender's queue; with a new one its numbers begin anew.
        lane: the priority of all its items.
        first, last: the numbers of its first and last item; 0 where there is none.
        size: bytes of the body unpacked.
    """

    node: str
    site: str
    epoch: str
    lane: Priority
    first: int
    last: int
    count: int
    codec: Codec
    size: int
    version: int = VERSION


class Envelope(NamedTuple):
    """An envelope, read: items with their numbers, in order."""

    header: Header
    items: list[tuple[int, Item]]


Numbered = tuple[int, Item]
_decode_header = msgspec.msgpack.Decoder(Header).decode
_decode_body = msgspec.msgpack.Decoder(Annotated[list[Numbered], msgspec.Meta(max_length=MOST_ITEMS)]).decode


def encode_envelope(
    node: str, site: str, epoch: str, lane: Priority, items: Sequence[Numbered], compression: Codec = "zstd"
) -> bytes:
    """One envelope of up to 10,000 items of one priority, with rising numbers; without items it tests the link.

    A body that compression makes no smaller goes as it is. Raises `RejectedError` for other items and for more than 4 MiB.
    """
    numbers = [number for number, _ in items]
    if len(items) > MOST_ITEMS or any(item.priority != lane for _, item in items) or numbers != sorted(set(numbers)):
        raise RejectedError(f"{len(items)} items do not make an envelope", mend="give up to 10000 of one priority, in order")
    plain = msgspec.msgpack.encode(items)
    if len(plain) > MOST_ENVELOPE:
        raise RejectedError(f"an envelope of {len(plain)} bytes; {MOST_ENVELOPE} are allowed", mend="send fewer items in one")
    packed = zstandard.ZstdCompressor(level=_LEVEL, write_content_size=False).compress(plain) if compression == "zstd" else plain
    codec: Codec = "zstd" if len(packed) < len(plain) else "none"
    first, last = (numbers[0], numbers[-1]) if numbers else (0, 0)
    header = msgspec.msgpack.encode(Header(node, site, epoch, lane, first, last, len(items), codec, len(plain)))
    front = MAGIC + bytes([VERSION]) + len(header).to_bytes(2, "big") + header
    body = packed if codec == "zstd" else plain
    return front + _digest(front, body) + body


def digest_of(envelope: bytes) -> str:
    """The envelope's name (hex): what proves that it was taken. Raises `RejectedError` as `read_header` does."""
    return _open(envelope)[1].hex()


def read_header(envelope: bytes) -> Header:
    """What it says of itself. Raises `RejectedError` for what is no whole envelope of a version that is known here."""
    return _open(envelope)[0]


def read_envelope(envelope: bytes) -> Envelope:
    """Header and items. Raises `RejectedError` for what is none, was changed on its way, or would unpack to more than it may."""
    header, _, body = _open(envelope)
    plain = _plain(header, body)
    try:
        items = _decode_body(plain)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RejectedError(f"the envelope's items cannot be read: {error}") from error
    numbers = [number for number, _ in items]
    ends = (numbers[0], numbers[-1]) if numbers else (0, 0)
    if (
        (len(items), *ends) != (header.count, header.first, header.last)
        or any(later <= before for before, later in itertools.pairwise(numbers))
        or any(item.priority != header.lane for _, item in items)
    ):
        raise RejectedError("the envelope's items are not those that its header names")
    return Envelope(header, items)


def _open(envelope: bytes) -> tuple[Header, bytes, bytes]:
    if len(envelope) > MOST_ENVELOPE + _MOST_HEADER:
        raise RejectedError(f"an envelope of {len(envelope)} bytes; {MOST_ENVELOPE} are allowed")
    start = len(MAGIC) + 3
    if envelope[: len(MAGIC)] != MAGIC or len(envelope) < start:
        raise RejectedError("this is no envelope of skerry's uplink")
    if envelope[len(MAGIC)] != VERSION:
        raise RejectedError(
            f"an envelope of version {envelope[len(MAGIC)]}; this skerry reads version {VERSION}", mend="use a newer skerry here"
        )
    end = start + int.from_bytes(envelope[start - 2 : start], "big")
    front, digest, body = envelope[:end], envelope[end : end + _DIGEST], envelope[end + _DIGEST :]
    if end - start > _MOST_HEADER or len(digest) < _DIGEST or digest != _digest(front, body):
        raise RejectedError("the envelope is not what was sent: cut off or changed on its way", mend="have it sent again")
    try:
        return _decode_header(front[start:]), digest, body
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RejectedError(f"the envelope's header cannot be read: {error}") from error


def _plain(header: Header, body: bytes) -> bytes:
    if not 0 < header.size <= MOST_ENVELOPE:
        raise RejectedError(f"the envelope would unpack to {header.size} bytes; {MOST_ENVELOPE} are allowed")
    if header.codec == "none":
        plain = body
    else:
        try:
            # a frame that names its own size would be given that much, whatever is allowed
            if zstandard.frame_content_size(body) not in (-1, header.size):
                raise RejectedError("the envelope unpacks to another size than its header says")
            plain = zstandard.ZstdDecompressor(max_window_size=_MOST_WINDOW).decompress(body, max_output_size=header.size)
        except zstandard.ZstdError as error:
            raise RejectedError(f"the envelope cannot be unpacked: {error}") from error
    if len(plain) != header.size:
        raise RejectedError("the envelope unpacks to another size than its header says")
    return plain


def _digest(front: bytes, body: bytes) -> bytes:
    return hashlib.blake2b(front + body, digest_size=_DIGEST).digest()
