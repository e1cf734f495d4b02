"""The bundles of the node in memory."""

from typing import Any

from skerry.core.errors import RejectedError

Row = dict[str, Any]
AT = "2026-12-01T10:00:00.000Z"


class FakeBundles:
    """Takes in files, and bytes that begin with `good`; what is applied ends as `outcome` says, at the second time it is asked."""

    def __init__(self) -> None:
        self.came: list[tuple[bytes, str]] = []
        self.begun: list[tuple[str, str, int]] = []
        self.active = ""
        self.outcome, self.reason = "kept", ""
        self._asked = 0

    async def shown(self) -> Row:
        self._asked += 1
        under_way = bool(self.begun) and self._asked == 1
        row = {"id": "ab" * 16, "name": "plant", "version": "1.2", "state": "active" if self.active else "stored"}
        more = {"needs": "0.1.0", "models": ["m@2"], "pipelines": ["p", "q", "r", "s"], "connectors": [], "signers": ["cd" * 16]}
        told = {"at": AT, "id": "ab" * 16, "bundle": "plant 1.2", "what": self.outcome, "reason": self.reason}
        return {
            "bundles": [{**row, **more}] if self.came or self.begun else [],
            "active": self.active or None,
            "trial": self._trial("on probation") if under_way else None,
            "history": [told] if self.begun and not under_way else [],
        }

    def _trial(self, phase: str) -> Row:
        return {"id": "ab" * 16, "bundle": "plant 1.2", "at": AT, "phase": phase, "seconds_left": 5.0, "reason": ""}

    async def upload(self, content: bytes, file: str = "") -> Row:
        if not content.startswith(b"good") and not file:
            raise RejectedError("it is not signed", mend="sign it")
        self.came.append((content, file))
        return {"id": "ab" * 16, "state": "stored"}

    async def apply(self, bundle: str, probation: str = "", dead_letters: int = 0) -> Row:
        if self.begun and self.active:
            raise RejectedError("bundle plant 1.2 is active already", mend="see `skerry bundle list`")
        self.begun.append((bundle, probation, dead_letters))
        self._asked = 0
        self.active = bundle
        return self._trial("checking")

    async def rollback(self) -> Row:
        if not self.active:
            raise RejectedError("no bundle is active here", mend="see `skerry bundle list`")
        self.active = ""
        return {"active": ""}
