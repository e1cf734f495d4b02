"""The first frames of a WebSocket's client (RFC 6455, section 5.2), read and written anew. Pure."""

import struct

import msgspec

from skerry.broker.connect_packet import MOST, Odd

_FINAL, _BINARY, _CONTINUED = 0x80, 0x02, 0x00
_MASKED = 0x80


class Frame(msgspec.Struct, frozen=True):
    """A frame: its content, where the next one begins, and whether it ends its message."""

    content: bytes
    end: int
    final: bool


def read_frame(data: bytes, begin: int = 0, *, goes_on: bool = False) -> Frame | None:
    """The frame that begins there, of a binary message; None while it is not there whole. `goes_on`: the one before was not final.

    Raises `Odd` for any other frame: a compressed or a control one, or one out of turn."""
    if len(data) <= begin:
        return None
    if data[begin] & ~_FINAL != (_CONTINUED if goes_on else _BINARY):
        raise Odd
    if len(data) < begin + 2:
        return None
    if not data[begin + 1] & _MASKED:
        raise Odd
    size, at = data[begin + 1] & 0x7F, begin + 2
    if size >= 126:
        form = ">H" if size == 126 else ">Q"
        at += struct.calcsize(form)
        if len(data) < at:
            return None
        (size,) = struct.unpack_from(form, data, begin + 2)
    if size > MOST:
        raise Odd
    end = at + 4 + size
    if len(data) < end:
        return None
    return Frame(_unmasked(data[at + 4 : end], data[at : at + 4]), end, bool(data[begin] & _FINAL))


def frame(content: bytes, *, final: bool = True) -> bytes:
    """The first frame of a binary message, masked with nothing, as a client's has to be masked."""
    size, first = len(content), _BINARY | (_FINAL if final else 0)
    if size < 126:
        head = bytes([first, _MASKED | size])
    elif size < 1 << 16:
        head = bytes([first, _MASKED | 126]) + struct.pack(">H", size)
    else:
        head = bytes([first, _MASKED | 127]) + struct.pack(">Q", size)
    return head + bytes(4) + content


def answer_frame(content: bytes) -> bytes:
    """A short binary message (under 126 bytes) as a server sends it."""
    return bytes([_FINAL | _BINARY, len(content)]) + content


def _unmasked(content: bytes, mask: bytes) -> bytes:
    size = len(content)
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    return (int.from_bytes(content, "big") ^ key).to_bytes(size, "big")
