"""The link and the centre of a node in memory: implements `UplinkView` as the real one does."""

from typing import Any

from skerry.core.clock import to_rfc3339
from skerry.core.errors import RejectedError

Row = dict[str, Any]


class FakeUplink:
    """A link that is there, and a centre that takes what begins with `SKUP`."""

    def __init__(self) -> None:
        self.paused = False
        self.taken: list[tuple[bytes, str]] = []
        self.commands: list[bytes] = []
        self.outcome: str | None = None

    def shown(self) -> Row:
        return {"uplink": {"kind": "http", "sentence": "sent", "paused": self.paused}, "received": None}

    async def hold(self, paused: bool) -> None:
        self.paused = paused

    async def test(self) -> Row:
        return {"ok": not self.paused, "round_trip_ms": 1.5, "sentence": "acknowledged in 1.5 ms"}

    async def receive(self, envelope: bytes, by: str) -> Row:
        if not envelope.startswith(b"SKUP"):
            raise RejectedError("this is no envelope of skerry's uplink")
        again = any(envelope == before for before, _ in self.taken)
        self.taken.append((envelope, by))
        return {"digest": "0a", "again": again, "commands": []}

    async def command(self, frame: bytes) -> Row:
        self.commands.append(frame)
        return {"id": "c1", "topic": "commands/d/x", "expires": to_rfc3339(0)}

    def answer(self, identity: str) -> Row | None:
        return {"id": identity, "waiting": self.outcome is None, "outcome": self.outcome} if identity in ("c1", "x") else None
