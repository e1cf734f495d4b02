"""The connectors of the node in memory."""

from collections.abc import Mapping
from typing import Any

from skerry.http import NotFoundError, TooManyRequestsError

Row = dict[str, Any]


class FakeConnectors:
    """Two that run; what is brought to `push` is kept, unless it is full."""

    def __init__(self) -> None:
        self.full = False
        self.came: list[tuple[bytes, str, str]] = []

    def shown(self) -> Row:
        counts = {"moved": 3, "refused": {}, "errors": 0, "waiting": 0, "last": None}
        row = {"direction": "in", "state": "running", "trouble": "", **counts}
        return {"connectors": [{"name": "hall", "kind": "mqtt", **row}, {"name": "push", "kind": "http", **row}]}

    async def ingest(self, name: str, body: bytes, headers: Mapping[str, str], by: str) -> Row:
        if name != "push":
            raise NotFoundError(f"there is no connector {name!r}")
        if self.full:
            raise TooManyRequestsError("the log is full", wait=5.0)
        self.came.append((body, headers.get("content-type", ""), by))
        return {"stored": 1}
