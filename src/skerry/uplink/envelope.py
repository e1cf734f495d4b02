"""The envelope: items of one priority on their way to the centre, numbered by their sender. Pure.

Layout: `SKUP`, version (1 byte), length of the header (2 bytes, big-endian), header (msgpack array), digest (16 bytes: BLAKE2b
of all that stands before it, and the body), body. The body is the items as columns (`skerry.uplink.pack`), compressed where that
makes it smaller; of version 1, which is read and no more written, a msgpack array of numbers and items. What others may send is
bounded before anything is unpacked.
"""

import hashlib
import itertools
from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

import msgspec
import zstandard

from skerry.core.errors import CorruptError, RejectedError
from skerry.uplink.columns import MOST_ITEMS
from skerry.uplink.item import PRIORITIES, Item, Priority
from skerry.uplink.pack import Numbered, pack, unpack

MAGIC, VERSION = b"SKUP", 2
MOST_ENVELOPE = 4 * 1024 * 1024
"""Bytes of an envelope, and of its body unpacked."""
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
    version: int = 1


class _Short(msgspec.Struct, frozen=True, array_like=True):
    """A header as version 2 writes it: the lane's place in `PRIORITIES`, how far the last number is behind the first, the body's
    size unpacked, 0 where it is not compressed."""

    node: str
    site: str
    epoch: str
    lane: int
    first: int
    more: int
    count: int
    size: int = 0


class Envelope(NamedTuple):
    """An envelope, read: items with their numbers, in order."""

    header: Header
    items: list[tuple[int, Item]]


_decode_header = msgspec.msgpack.Decoder(Header).decode
_decode_short = msgspec.msgpack.Decoder(_Short).decode
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
    size = sum(len(item.body) + len(item.id) + len(item.pipeline) for _, item in items)
    plain = pack(items, node) if items else b""
    if max(size, len(plain)) > MOST_ENVELOPE:
        raise RejectedError(f"an envelope of {size} bytes; {MOST_ENVELOPE} are allowed", mend="send fewer items in one")
    body = plain
    if compression == "zstd" and plain:
        packed = zstandard.ZstdCompressor(level=_LEVEL, write_content_size=False).compress(plain)
        body = min(packed, plain, key=len)
    first, last = (numbers[0], numbers[-1]) if numbers else (0, 0)
    short = _Short(node, site, epoch, PRIORITIES.index(lane), first, last - first, len(items), 0 if body is plain else len(plain))
    header = msgspec.msgpack.encode(short)
    front = MAGIC + bytes([VERSION]) + len(header).to_bytes(2, "big") + header
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
        items = _items(header, plain)
    except (CorruptError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
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
    version = envelope[len(MAGIC)]
    if not 1 <= version <= VERSION:
        raise RejectedError(
            f"an envelope of version {version}; this skerry reads versions 1 and {VERSION}", mend="use a newer skerry here"
        )
    end = start + int.from_bytes(envelope[start - 2 : start], "big")
    front, digest, body = envelope[:end], envelope[end : end + _DIGEST], envelope[end + _DIGEST :]
    if end - start > _MOST_HEADER or len(digest) < _DIGEST or digest != _digest(front, body):
        raise RejectedError("the envelope is not what was sent: cut off or changed on its way", mend="have it sent again")
    try:
        header = _decode_header(front[start:]) if version == 1 else _header_of(_decode_short(front[start:]), len(body))
        return header, digest, body
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RejectedError(f"the envelope's header cannot be read: {error}") from error


def _header_of(short: _Short, size: int) -> Header:
    """What version 2 says, in full. Raises `RejectedError`."""
    if not 0 <= short.lane < len(PRIORITIES) or not 0 <= short.count <= MOST_ITEMS:
        raise RejectedError("the envelope's header cannot be read: it names no lane, or too many items")
    codec: Codec = "zstd" if short.size else "none"
    return Header(
        short.node, short.site, short.epoch, PRIORITIES[short.lane], short.first, short.first + short.more, short.count, codec,
        short.size or size, VERSION,
    )  # fmt: skip


def _items(header: Header, plain: bytes) -> list[Numbered]:
    if header.version == 1:
        found: list[Numbered] = _decode_body(plain)
        return found
    if not header.count:
        if plain:
            raise CorruptError("it holds more than its header names")
        return []
    return unpack(plain, header.first, header.count, header.lane, header.node, MOST_ENVELOPE)


def _plain(header: Header, body: bytes) -> bytes:
    if header.version > 1 and not header.count and not body:
        return b""
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
