"""Messages out of a node's log, over its API: the frames that its workers saw, with their arrival."""

import base64
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from skerry.broker import Frame
from skerry.core.clock import SECOND, Clock
from skerry.http import Client
from skerry.pipeline import frame_of

_PATH = "/api/v1/messages"
_PAGE = 1000
_LOOK_S = 0.1


class Reach(NamedTuple):
    """How far back a log goes: the arrival of its first message (None: it is empty), and whether older ones were given back."""

    oldest: int | None
    trimmed: bool

    def covers(self, start: int) -> bool:
        """Whether it goes back to then, so that all that arrived since is there."""
        return self.oldest is not None and self.oldest <= start


def reach_of(client: Client) -> Reach:
    """Ask a node how far its log goes back. Raises `UnavailableError`."""
    answer = client.get(_PATH, {"limit": 1})
    return Reach(None if answer["oldest"] is None else _microseconds(answer["oldest"]), bool(answer["trimmed"]))


def frames_of(client: Client, topic: str, start: int, end: int) -> Iterator[tuple[list[Frame], int]]:
    """Frames on a topic filter that arrived in `[start, end)`, and how far the log was read with them: an arrival, microseconds.

    Raises `UnavailableError`.
    """
    query: dict[str, Any] = {"topic": topic, "limit": _PAGE, "since": max(0, start) / SECOND}
    while True:
        page = client.get(_PATH, query)
        if page["next"] is None:
            return
        found = [(row, _microseconds(row["at"])) for row in page["messages"]]
        through = _microseconds(page["through"])
        yield [_frame(row, at) for row, at in found if start <= at < end], min(through, end)
        if through >= end:
            return
        query = {"topic": topic, "limit": _PAGE, "after": page["next"]}


def live_of(client: Client, topic: str, seconds: float, clock: Clock, most: int) -> list[tuple[str, bytes, int]]:
    """Messages on a topic filter that come in the next seconds, `most` of them: topic, payload, arrival in microseconds.

    What all have read is given back by the log, so some may be gone before they are looked at. Raises `UnavailableError`.
    """
    found: list[tuple[str, bytes, int]] = []
    query: dict[str, Any] = {"topic": topic, "limit": _PAGE, "since": clock.now() / SECOND}
    end = clock.monotonic() + seconds
    while len(found) < most and (left := end - clock.monotonic()) > 0:
        page = client.get(_PATH, query)
        found += [(row["topic"], _payload(row), _microseconds(row["at"])) for row in page["messages"]]
        if page["next"] is None:
            time.sleep(min(_LOOK_S, left))
        else:
            query = {"topic": topic, "limit": _PAGE, "after": page["next"]}
    return found[:most]


def _frame(row: dict[str, Any], arrival: int) -> Frame:
    return frame_of(row["topic"], _payload(row), arrival, int(row["sequence"]))


def _payload(row: dict[str, Any]) -> bytes:
    payload: bytes = base64.b64decode(row["payload_base64"]) if "payload_base64" in row else row["payload"].encode()
    return payload


def _microseconds(seconds: float) -> int:
    return round(seconds * SECOND)
