"""The few MQTT 3.1.1 packets that load and sink need, as bytes."""

from collections.abc import Iterator

PUBLISH, PUBACK, CONNACK, SUBACK = 0x30, 0x40, 0x20, 0x90
DISCONNECT, PINGREQ = b"\xe0\x00", b"\xc0\x00"
DUP = 0x08


def length(size: int) -> bytes:
    """The remaining-length field (MQTT 3.1.1, 2.2.3)."""
    field = bytearray()
    while True:
        size, low = divmod(size, 128)
        field.append(low | 128 if size else low)
        if not size:
            return bytes(field)


def text(value: str) -> bytes:
    encoded = value.encode()
    return len(encoded).to_bytes(2, "big") + encoded


def connect(client_id: str, username: str = "", password: str = "", keep_alive: int = 60, clean: bool = False) -> bytes:
    """CONNECT with a session that is kept, or a clean one."""
    flags = 2 * clean | (0x80 if username else 0) | (0x40 if password else 0)
    body = text("MQTT") + bytes([4, flags]) + keep_alive.to_bytes(2, "big") + text(client_id)
    body += (text(username) if username else b"") + (text(password) if password else b"")
    return b"\x10" + length(len(body)) + body


def subscribe(topic: str, mid: int = 1) -> bytes:
    """SUBSCRIBE with QoS 1."""
    body = mid.to_bytes(2, "big") + text(topic) + b"\x01"
    return b"\x82" + length(len(body)) + body


def publish_head(topic: str, payload_size: int) -> bytes:
    """All of a QoS 1 PUBLISH that comes before the packet id."""
    name = text(topic)
    return bytes([PUBLISH | 2]) + length(len(name) + 2 + payload_size) + name


def puback(mid: bytes) -> bytes:
    return b"\x40\x02" + mid


def split(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """First bytes and bodies of the whole packets in `data`, and the rest."""
    found = []
    at = 0
    while (packet := _whole(data, at)) is not None:
        start, end = packet
        found.append((data[at], data[start:end]))
        at = end
    return found, data[at:]


def _whole(data: bytes, at: int) -> tuple[int, int] | None:
    size, shift, position = 0, 0, at + 1
    while position < len(data):
        size |= (data[position] & 127) << shift
        shift += 7
        position += 1
        if not data[position - 1] & 128:
            return (position, position + size) if position + size <= len(data) else None
    return None


def mids(data: bytes) -> Iterator[int]:
    """Packet ids of a run of PUBACKs."""
    for at in range(2, len(data), 4):
        yield data[at] << 8 | data[at + 1]
