"""Server-sent events, both ways (HTML Living Standard, section "Server-sent events")."""

import msgspec

CONTENT_TYPE = "text/event-stream"


class Message(msgspec.Struct, frozen=True):
    """One event of a stream. `id` is the last one that the stream named, also when this event has none."""

    data: str
    event: str = "message"
    id: str = ""


def message(data: bytes, *, event: str = "", id: str = "") -> bytes:
    """The bytes of one event; lines of the data become `data:` fields."""
    parts = [b"id: " + id.encode()] if id else []
    if event:
        parts.append(b"event: " + event.encode())
    parts += [b"data: " + line for line in data.split(b"\n")]
    return b"\n".join(parts) + b"\n\n"


def comment(text: str = "") -> bytes:
    """Bytes that clients skip: a heartbeat."""
    return f": {text}\n\n".encode()


class MessageParser:
    """Turns lines, one at a time and without their ends, into events. Sans-I/O."""

    def __init__(self) -> None:
        self.last_id = ""
        self._event = ""
        self._data: list[str] = []

    def feed(self, line: str) -> Message | None:
        """Take one line; an empty one ends an event, which is returned if it has data."""
        if not line:
            data, event = self._data, self._event
            self._data, self._event = [], ""
            return Message("\n".join(data), event or "message", self.last_id) if data else None
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._event = value
        elif field == "id" and "\0" not in value:
            self.last_id = value
        return None
