"""An audit log in memory."""

from typing import Any


class Noted:
    """Keeps what was noted; the same call as the real one."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def note(self, event: str, *, by: str = "", address: str = "", reason: str = "", **fields: object) -> None:
        given = {"by": by, "address": address, "reason": reason, **fields}
        self.lines.append({"event": event, **{name: value for name, value in given.items() if value}})
