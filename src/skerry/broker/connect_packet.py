"""The CONNECT packet of MQTT 3.1.1 (section 3.1) and 3.1, read and written anew with other credentials. Pure."""

import struct

import msgspec

MOST = 512 * 1024
_CONNECT = 0x10
_LEVELS = (3, 4)
# CONNACK of MQTT 3.1.1, section 3.2.2.3: unacceptable protocol version
_OTHER_VERSION = b"\x20\x02\x00\x01"
_WILL, _PASSWORD, _USERNAME = 0x04, 0x40, 0x80


class ConnectPacket(msgspec.Struct, frozen=True):
    """A client's first packet. `repr` leaves the password out.

    Attributes:
        head: from the protocol's name to the level.
        body: from the keep-alive to the last field before the credentials.
        length: bytes of the packet.
    """

    head: bytes
    flags: int
    body: bytes
    username: str
    password: str
    length: int

    def __repr__(self) -> str:
        return f"ConnectPacket({self.username!r}, {self.length} bytes)"

    def with_credentials(self, username: str, password: str) -> bytes:
        """The packet with these in place of its own."""
        flags = self.flags | _USERNAME | _PASSWORD
        content = b"".join((self.head, bytes([flags]), self.body, _field(username.encode()), _field(password.encode())))
        return bytes([_CONNECT]) + _varint(len(content)) + content


class Odd(Exception):
    """It is no CONNECT that this node's broker takes, or none at all. `answer`: what its client is told, empty for nothing."""

    def __init__(self, answer: bytes = b"") -> None:
        super().__init__()
        self.answer = answer


def read_connect(data: bytes | bytearray) -> ConnectPacket | None:
    """The packet at the beginning of the data; None while it is not there whole. Raises `Odd`."""
    if data and data[0] != _CONNECT:
        raise Odd
    start, size = _size(data)
    if not start or len(data) < start + size:
        return None
    packet = bytes(data[start : start + size])
    try:
        _, after = _take(packet, 0)
        level, flags = packet[after], packet[after + 1]
        if level not in _LEVELS:
            raise Odd(_OTHER_VERSION)
        at = after + 4
        for _ in range(3 if flags & _WILL else 1):
            _, at = _take(packet, at)
        body = packet[after + 2 : at]
        username = password = b""
        if flags & _USERNAME:
            username, at = _take(packet, at)
        if flags & _PASSWORD:
            password, at = _take(packet, at)
        if at != len(packet):
            raise Odd
        return ConnectPacket(packet[: after + 1], flags, body, username.decode(), password.decode(), start + size)
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise Odd from error


def _size(data: bytes | bytearray) -> tuple[int, int]:
    """Where the packet's content begins, and its length; 0 while that cannot be told. Raises `Odd`."""
    size = 0
    for at in range(1, 5):
        if at >= len(data):
            return 0, 0
        size |= (data[at] & 0x7F) << 7 * (at - 1)
        if data[at] < 0x80:
            if size > MOST:
                raise Odd
            return at + 1, size
    raise Odd


def _take(packet: bytes, at: int) -> tuple[bytes, int]:
    (length,) = struct.unpack_from(">H", packet, at)
    end = at + 2 + length
    if end > len(packet):
        raise Odd
    return packet[at + 2 : end], end


def _field(content: bytes) -> bytes:
    return struct.pack(">H", len(content)) + content


def _varint(number: int) -> bytes:
    found = b""
    while True:
        number, digit = divmod(number, 128)
        found += bytes([digit | (0x80 if number else 0)])
        if not number:
            return found
