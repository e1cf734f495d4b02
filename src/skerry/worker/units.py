"""Which units a worker runs, a unit being one partition of one pipeline: they come and go while it works."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator

from skerry.broker import WireClient
from skerry.core import log
from skerry.core.errors import FencedError, SkerryError, UnavailableError
from skerry.core.service import cancel_and_wait
from skerry.pipeline import parse_unit, unit_name
from skerry.worker.slot import Slot

LET_GO_S = 3.0
"""A final checkpoint that takes longer is given up: its part is read again where the unit runs next."""
AGAIN_S = 1.0
_log = log.get("worker")


class Units:
    """The slots of a worker by unit.

    Args:
        make: a new slot for a unit.
        load: loads a slot's state and lets it read; raises `UnavailableError`.
        leave_out: the slot is not to be fed any more; its place in the reader goes.
        client: the connection, or None while there is none to write over.
        fixed: whether they never change: then another owner is a fault that ends the worker.

    Attributes:
        wanted: the units that it was told to run.
        turn: of the last command that it has seen.
    """

    def __init__(
        self,
        make: Callable[[str, int], Slot],
        load: Callable[[Slot], Awaitable[None]],
        leave_out: Callable[[Slot], None],
        client: Callable[[], WireClient | None],
        fixed: bool,
    ) -> None:
        self.wanted: frozenset[str] = frozenset()
        self.turn = 0
        self._make, self._load, self._leave_out, self._client, self._fixed = make, load, leave_out, client, fixed
        self._slots: dict[str, Slot] = {}
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._later: set[asyncio.Task[None]] = set()

    def __iter__(self) -> Iterator[Slot]:
        return iter(list(self._slots.values()))

    def __getitem__(self, unit: str) -> Slot:
        return self._slots[unit]

    def names(self) -> list[str]:
        """The units that are here: those that are being let go of too."""
        return sorted(self._slots)

    def of(self, pipeline: str) -> list[Slot]:
        """The slots of a pipeline."""
        return [slot for slot in self if slot.spec.name == pipeline]

    def begin(self, units: list[str], turn: int) -> None:
        """The units that it begins with; they are loaded with the first connection."""
        self.wanted, self.turn = frozenset(units), turn
        for unit in units:
            self._slots[unit] = self._make(*parse_unit(unit))

    async def change(self, units: list[str], turn: int) -> None:
        """Run these from now on: what is new is loaded, what is gone is stored and let go of."""
        self.wanted, self.turn = frozenset(units), turn
        await asyncio.gather(*[self._follow(unit) for unit in {*self._slots, *units}])

    async def _follow(self, unit: str) -> None:
        async with self._locks[unit]:
            slot = self._slots.get(unit)
            if slot is None and unit in self.wanted:
                await self._bring(unit)
            elif slot is not None and unit not in self.wanted:
                await self._let_go(unit, slot)

    async def _bring(self, unit: str) -> None:
        slot = self._slots[unit] = self._make(*parse_unit(unit))
        while unit in self.wanted and slot.runner is None and not slot.failure and not slot.standing.held:
            try:
                await self._load(slot)
            except UnavailableError as error:
                _log.warning(f"{unit} is not loaded yet: {error}")
            if slot.runner is None:
                await asyncio.sleep(0.1)
        if unit not in self.wanted:
            await self._let_go(unit, slot)

    async def _let_go(self, unit: str, slot: Slot) -> None:
        self._leave_out(slot)
        client = self._client()
        try:
            async with asyncio.timeout(LET_GO_S):
                if client is not None:
                    await slot.settle(client)
        except (SkerryError, TimeoutError) as error:
            why = str(error) or f"it took over {LET_GO_S:g} s"
            _log.warning(f"{unit} is let go of without a last checkpoint, its part is read again: {why}")
        self._drop(unit, slot)

    def _drop(self, unit: str, slot: Slot) -> None:
        slot.outbox.detach()
        self._slots.pop(unit, None)
        _log.info(f"{unit} runs here no longer")

    async def checkpoint(self, client: WireClient, last: bool) -> None:
        """Store the state of every pipeline that has moved. Raises `UnavailableError`, and `FencedError` where they are fixed."""
        await asyncio.gather(*[self._store(client, slot, last or slot.standing.held) for slot in self])

    async def _store(self, client: WireClient, slot: Slot, last: bool) -> None:
        try:
            await slot.checkpoint(client, last)
        except FencedError as error:
            if self._fixed:
                raise
            self._lose(slot, error)
        except UnavailableError:
            if slot in self._slots.values():  # else it was let go of meanwhile
                raise

    def _lose(self, slot: Slot, error: FencedError) -> None:
        """Another owner has written: what is known here counts no more. Where it is still to run here, it is loaded again."""
        unit = unit_name(slot.spec.name, slot.partition)
        _log.warning(f"{unit} was taken over by another owner: {error}")
        self._leave_out(slot)
        self._drop(unit, slot)
        again = asyncio.create_task(self._again(unit))
        self._later.add(again)
        again.add_done_callback(self._later.discard)

    async def _again(self, unit: str) -> None:
        await asyncio.sleep(AGAIN_S)
        await self._follow(unit)

    async def close(self) -> None:
        """Bring nothing any more."""
        await cancel_and_wait(*self._later)
