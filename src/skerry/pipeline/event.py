"""What a pipeline puts out: events and dead letters, with ids computed from their input."""

import base64
from typing import Any

import msgspec

from skerry.broker import Frame, position
from skerry.core.clock import to_rfc3339
from skerry.pipeline.topics import MAX_KEY, MAX_SUBJECT, key_token, topic_of
from skerry.window.state import Closed

EVENTS = "skerry_events"
EVENTS_PREFIX = "skerry.events."
DEAD = "skerry_deadletters"
DEAD_PREFIX = "skerry.dead."
WINDOW_HEADER = b"Skerry-Window: 1\r\n"
"""Marks a whole window that is tried again; a device cannot set headers."""
MAX_LETTER = 4 * 1024 * 1024
"""Bytes of a dead letter's payload; the server takes messages of 8 MiB."""


class Event(msgspec.Struct, gc=False, omit_defaults=False):
    """One event. Times are RFC 3339 UTC with ms; `count` is the samples of the window; `latency_ms` from the broker's
    acknowledgement of the message that closed the window to the event (0 offline)."""

    id: str
    pipeline: str
    key: str
    node: str
    start: str
    end: str
    count: int
    score: float | None
    label: str | int | None
    state: str
    severity: str | None
    features: dict[str, float]
    model: str | None
    version: str | None
    latency_ms: float
    alarm_id: str | None = None
    flaps: int | None = None


class DeadLetter(msgspec.Struct, array_like=True, gc=False):
    """One message (or the messages of one window) that no event can come of.

    `sequence` is its place in the log, `arrival` its arrival there in microseconds (of a window: its end). For a window
    `payload` is a `WindowLetter` in msgpack and `messages` may be more than one. `mark` tells windows apart that end together.
    """

    sequence: int
    reason: str
    detail: str
    topic: str
    key: str
    arrival: int
    payload: bytes
    messages: int = 1
    window: bool = False
    mark: str = ""

    @property
    def identity(self) -> str:
        """The same for the same message or window in every replay."""
        return f"{self.key}@{self.arrival}{self.mark}" if self.window else f"{self.sequence}{self.mark}"


class WindowLetter(msgspec.Struct, array_like=True):
    """A window that failed in a feature function or in the model, whole, so that it can be tried again."""

    key: str
    start: int
    end: int
    flat: list[float]
    samples: int
    messages: int
    index: int


def message_letter(frame: Frame, reason: str, detail: str, key: str) -> DeadLetter:
    """The dead letter of a message; one that cannot be stored whole, or not be put back into the log, is only named."""
    where, payload, topic = position(frame[1]), frame[3], topic_of(frame[0])
    if len(payload) > MAX_LETTER or len(frame[0]) > MAX_SUBJECT:
        payload, topic = b"", topic[:MAX_KEY]
    return DeadLetter(where.stream, reason, detail[:300], topic, key, where.arrival, payload)


def window_letter(window: Closed, reason: str, detail: str, sequence: int) -> DeadLetter:
    """The dead letter of a window; one that is too large to be stored is named without its samples."""
    body = WindowLetter(window.key, window.start, window.end, window.flat, window.samples, window.messages, window.index)
    packed = _pack(body)
    mark = f"#{window.index}" * bool(window.index) + f"!{window.retried}" * bool(window.retried)
    payload = packed if len(packed) <= MAX_LETTER else b""
    return DeadLetter(sequence, reason, detail[:300], "", window.key, window.end, payload, window.messages, True, mark)


def window_of(payload: bytes, sequence: int) -> Closed:
    """The window of a letter that came back in the log at `sequence`. Raises `msgspec.MsgspecError`."""
    letter = _unpack_window(payload)
    times, counts = (letter.start, letter.end), (letter.samples, letter.messages)
    return Closed(letter.key, *times, letter.flat, *counts, index=letter.index, retried=sequence)


def window_inside(payload: bytes, most: int) -> dict[str, Any]:
    """The window of a letter for people: `{start, end, samples, values}`, as many numbers at most, sample after sample."""
    letter = _unpack_window(payload)
    times = {"start": to_rfc3339(letter.start), "end": to_rfc3339(letter.end)}
    return {**times, "samples": letter.samples, "values": letter.flat[:most]}


class Output(msgspec.Struct, array_like=True, gc=False):
    """One message to publish: its stream's subject, its id, its body."""

    subject: str
    id: str
    payload: bytes


_encode = msgspec.json.Encoder().encode
_pack = msgspec.msgpack.Encoder().encode
_unpack_window = msgspec.msgpack.Decoder(WindowLetter).decode
_unpack_letters = msgspec.msgpack.Decoder(list[DeadLetter])


def event_output(event: Event) -> Output:
    """The event as it is stored and sent."""
    return Output(f"{EVENTS_PREFIX}{event.pipeline}.{key_token(event.key)}", event.id, _encode(event))


def letters_output(pipeline: str, letters: list[DeadLetter]) -> Output:
    """Dead letters of one read in one message, so that a flood of rubbish stays cheap."""
    first, last = letters[0], letters[-1]
    name = f"dead:{pipeline}:{first.identity}-{last.identity}:{len(letters)}"
    return Output(f"{DEAD_PREFIX}{pipeline}", name, _pack(letters))


def letters_outputs(pipeline: str, letters: list[DeadLetter]) -> list[Output]:
    """Dead letters in messages of about 512 KiB."""
    found: list[Output] = []
    size, begin = 0, 0
    for at, letter in enumerate(letters):
        size += len(letter.payload) + 100
        if size > 512 * 1024:
            found.append(letters_output(pipeline, letters[begin : at + 1]))
            size, begin = 0, at + 1
    if begin < len(letters):
        found.append(letters_output(pipeline, letters[begin:]))
    return found


def unpack_letters(payload: bytes) -> list[DeadLetter]:
    """Dead letters of one stored message."""
    return _unpack_letters.decode(payload)


def show_letter(letter: DeadLetter) -> dict[str, Any]:
    """A dead letter for people and JSON: its payload as text, or base64 where it is none."""
    shown: dict[str, Any] = {
        "sequence": letter.sequence,
        "reason": letter.reason,
        "detail": letter.detail,
        "topic": letter.topic,
        "key": letter.key,
        "messages": letter.messages,
    }
    if letter.window:
        return shown
    try:
        return {**shown, "payload": letter.payload.decode()}
    except UnicodeDecodeError:
        return {**shown, "payload_base64": base64.b64encode(letter.payload).decode()}
