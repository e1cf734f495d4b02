"""How far the log of a cluster may be trimmed: the lowest cursor that is stored for anybody, on whichever node it runs."""

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from skerry.broker import Bucket, Frame, LogReader, Position, WireClient, header_fields
from skerry.cluster import EdgeNode, NodeStatus
from skerry.core import log
from skerry.core.errors import SkerryError
from skerry.core.service import until_one_ends
from skerry.pipeline import BUCKET, CURSOR, checkpoint_key

if TYPE_CHECKING:
    from skerry.node.life import Node

TELL_S = 2.0
KEY = "floor."
_log = log.get("cluster")


class Members(Protocol):
    """What is asked of the cluster."""

    @property
    def leads(self) -> bool: ...

    def members(self) -> list[EdgeNode]: ...


class Floor:
    """Follows the cursors of all checkpoints, and what each node's own readers still need of the log.

    Args:
        cursors: name of the bucket where each node says what its readers need.
        work: answers the pipelines, and how many partitions each has.
        own: answers the lowest stored cursor of this node's readers (history, and what only the leader runs); None: not known yet.
    """

    def __init__(
        self,
        node: str,
        cluster: Members,
        cursors: str,
        work: Callable[[], tuple[list[str], int]],
        own: Callable[[], int | None],
    ) -> None:
        self._node = node
        self._cluster = cluster
        self._bucket = cursors
        self._work = work
        self._own = own
        self._cursors: dict[str, int] = {}
        self._others: dict[str, int] = {}
        self._taken = 0

    async def run(self, client: WireClient) -> None:
        """Follow over one connection until it ends."""
        self._taken, self._cursors, self._others = 0, {}, {}
        subjects, bucket = [f"$KV.{BUCKET}.*.*"], Bucket(client, self._bucket)
        while not client.closed.done():
            reader = LogReader(client, subjects, lambda: self._taken, self._take, f"KV_{BUCKET}", headers_only=True)
            try:
                await until_one_ends(reader.run(), self._tell(bucket))
            except SkerryError as error:
                _log.debug(f"how far the log may be trimmed is not known now: {error}")
                await asyncio.sleep(TELL_S)

    def _take(self, frames: list[Frame], first: Position, last: Position) -> None:
        for subject, _, header, _ in frames:
            key = subject.decode().removeprefix(f"$KV.{BUCKET}.")
            cursor = header_fields(header).get(CURSOR.decode().lower())
            if cursor is None:  # it was purged, or is none
                self._cursors.pop(key, None)
            else:
                self._cursors[key] = int(cursor)
        self._taken = last.stream

    async def _tell(self, bucket: Bucket) -> None:
        """Say what this node's readers need; who leads hears it of all."""
        told: int | None = None
        while True:
            own = self._own()
            if own is not None and own != told:
                await bucket.set(KEY + self._node, b"%d" % own)
                told = own
            if self._cluster.leads:
                self._others = {key.removeprefix(KEY): int(value) for key, value in await bucket.items(KEY)}
            await asyncio.sleep(TELL_S)

    def lowest(self) -> int | None:
        """Up to where nobody needs the log any more; None while that is not known, or another node leads."""
        if not self._cluster.leads:
            return None
        pipelines, partitions = self._work()
        units = [self._cursors.get(checkpoint_key(name, p, partitions)) for name in pipelines for p in range(partitions)]
        return lowest([*units, self._own(), *self._needed()])

    def _needed(self) -> Iterable[int]:
        """What readers of the other nodes need that are there; one that was away reads on from where the log begins then."""
        for node in self._cluster.members():
            if node.id != self._node and node.status != NodeStatus.OFFLINE and node.id in self._others:
                yield self._others[node.id]


def needed(node: "Node", read: int) -> int | None:
    """The lowest stored cursor of what reads the log on a node beside the pipelines, or `read`; None while one is not known."""
    kept = node.history.lowest(read)
    if not node.cluster.leads:
        return kept  # the rest runs where the leader is
    return node.connectors.lowest(node.centre.lowest(node.uplink.lowest(kept)))


def stored_by_workers(node: "Node") -> int | None:
    """The lowest stored cursor of all pipelines and readers of a node alone; None while one has not said: it may need the rest."""
    names = [spec.name for spec in node.config.pipelines]
    said = [worker.report.pipelines for worker in node.pool.workers]
    if any(name not in reports for name in names for reports in said):
        return None
    return needed(node, min((reports[name].durable for name in names for reports in said), default=node.link.last_sequence))


def lowest(cursors: Iterable[int | None]) -> int | None:
    """The lowest of all; None where one is not known."""
    found = list(cursors)
    known = [cursor for cursor in found if cursor is not None]
    return min(known, default=None) if len(known) == len(found) else None
