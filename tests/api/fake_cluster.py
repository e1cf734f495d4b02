"""A cluster of two in memory: implements `ClusterView` as the real one does."""

from typing import Any

from skerry.core.errors import RejectedError, UnavailableError

Row = dict[str, Any]


class FakeCluster:
    """`box` leads and `barn` is there; `off`: the node is in no cluster; `quorum`: whether there is one."""

    def __init__(self) -> None:
        self.off = False
        self.quorum = True
        self.stands_by = False
        self.approved: list[tuple[str, str]] = []
        self.drained: set[str] = set()
        self.known = {"box": "Online", "barn": "Online"}

    def _there(self) -> None:
        if self.off:
            raise RejectedError("this node is in no cluster", where="cluster.enabled", mend="set it")

    def shown(self) -> Row:
        return {"enabled": not self.off, "sentence": "2 of 2 nodes are online; box leads"}

    def members(self) -> list[Row]:
        self._there()
        rest: Row = {"version": "0.1.0", "capabilities": ["gpu"], "partitions": ["bearing/0"], "reason": ""}
        return [
            {"id": name, "address": f"{name}:7443", "status": status, "leader": name == "box", **rest}
            for name, status in self.known.items()
        ]

    def leader(self) -> Row:
        self._there()
        since = None if self.quorum else "2026-01-01T00:00:00.000Z"
        return {"leader": "box" if self.quorum else None, "epoch": 3, "no_quorum_since": since}

    def changes(self, after: int) -> Row:
        self._there()
        rest: Row = {"at": "2026-01-01T00:00:00.000Z", "kind": "joined", "before": "", "after": "Online", "reason": ""}
        rows = [{"sequence": at, "node": name, **rest} for at, name in enumerate(self.known, 1)]
        return {"changes": [row for row in rows if row["sequence"] > after], "next": len(rows)}

    async def token(self, seconds: float) -> Row:
        self._there()
        if seconds > 7 * 86_400:
            raise RejectedError(f"{seconds:g} s is no time for a token", mend="a week is the most")
        return {"token": "skj1.a.b", "expires_in": round(seconds)}

    def pending(self) -> list[Row]:
        self._there()
        return [{"node": "shed", "address": "shed:7443", "code": "0a0b-0c0d-0e0f"}]

    def approve(self, node: str, code: str) -> None:
        self._there()
        if (node, code) != ("shed", "0a0b-0c0d-0e0f"):
            raise RejectedError(f"no node {node} waits with the code {code}", mend="compare the codes")
        self.approved.append((node, code))

    def _known(self, node: str) -> None:
        self._there()
        if not self.quorum:
            raise UnavailableError("there is no quorum", where="cluster")
        if node not in self.known:
            raise RejectedError(f"there is no node {node!r}", mend="ask for the members")

    async def drain(self, node: str) -> None:
        self._known(node)
        self.drained.add(node)

    async def resume(self, node: str) -> None:
        self._known(node)
        self.drained.discard(node)

    async def remove(self, node: str) -> None:
        self._known(node)
        del self.known[node]

    def promote(self) -> Row:
        self._there()
        if not self.stands_by:
            raise RejectedError("this node does not stand by", where="cluster", mend="see the status")
        self.stands_by = False
        return {"promoted": True, "copied": "2026-01-01T00:00:00.000Z", "behind": 3}

    async def step_down(self) -> Row:
        self._known("box")
        return {"stepped_down": True, "epoch": 3}
