"""The whole node against `resources.memory`: who has to go before the kernel chooses, and the watch that ends it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING

import msgspec

from skerry.core.clock import Clock
from skerry.core.service import beat
from skerry.core.units import show_size
from skerry.runtime import cgroup_memory, memory_of, proportional_memory_of

if TYPE_CHECKING:
    from skerry.node.life import Node

LEAST_OVER = 64 * 1024 * 1024
"""Who is over what it holds by less is left alone: it would be as large again in a moment."""
EVERY_S, PATIENCE_S = 0.25, 10.0


class Taker(msgspec.Struct, frozen=True):
    """A process that may be ended: what it uses, and what it holds by the books (its lease)."""

    name: str
    used: int
    holds: int

    @property
    def over(self) -> int:
        return self.used - self.holds


def over_user(takers: Iterable[Taker], total: int, limit: int) -> Taker | None:
    """Who is to be ended when a node uses `total` of `limit`: the one furthest over what it holds, if that brings the node back.

    None where nobody is over by enough: then the limit is too small for what was configured, and ending somebody would not mend it.
    """
    found = max(takers, key=lambda each: each.over, default=None)
    if total <= limit or found is None or found.over < LEAST_OVER or total - found.over > limit:
        return None
    return found


class Overuse:
    """Watches what all processes of a node take together; a service.

    Agent, broker and historian are never ended for it: the first two are the node, and what they need is reserved.
    """

    def __init__(self, node: "Node", clock: Clock) -> None:
        self._node = node
        self._clock = clock
        self._ended_at = -PATIENCE_S

    async def run(self) -> None:
        """Look four times a second until cancelled."""
        while True:
            await self.look(int(self._node.resources.manager.limits.memory))
            await beat(EVERY_S)

    async def look(self, limit: int) -> None:
        """End the one that is over, if the node is."""
        node = self._node
        pids = [each.pid for each in node.living() if each.pid is not None]
        total = sum(memory_of(pid) for pid in pids)
        now = self._clock.monotonic()
        if not limit or total <= limit or now - self._ended_at < PATIENCE_S:
            return
        total = await asyncio.to_thread(self._exactly, pids)
        ends: dict[str, tuple[Taker, Callable[[str], Awaitable[None]]]] = {}
        for worker in node.pool.workers:
            name = f"worker-{worker.index}"
            ends[name] = self._taker(name, worker.pid), worker.end
        ends["model server"] = self._taker("model server", node.serving.pid), node.serving.end
        found = over_user((taker for taker, _ in ends.values()), total, limit)
        if found is not None:
            self._ended_at = now
            await ends[found.name][1](
                f"the node used {show_size(total)} of {show_size(limit)} (resources.memory), of which it had "
                f"{show_size(found.used)}; it holds {show_size(found.holds)}"
            )

    def _exactly(self, pids: list[int]) -> int:
        """What pages that processes share cost once: reading that takes a millisecond a process, so not at every look."""
        path = self._node.confinement.path
        if path is not None:
            try:
                return cgroup_memory(path)
            except (OSError, ValueError):
                pass
        return sum(proportional_memory_of(pid) for pid in pids)

    def _taker(self, name: str, pid: int | None) -> Taker:
        return Taker(name, memory_of(pid) if pid is not None else 0, self._node.resources.held_by(name))
