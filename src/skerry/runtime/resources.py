"""The books of what is allocated: limits, holders and who waits. Pure: plain numbers in, decisions out, no clock and no locks."""

import math
from collections.abc import Iterable, Mapping
from heapq import nlargest

import msgspec

from skerry.core.errors import InsufficientResources, OverloadedError, RejectedError
from skerry.core.units import show_size

KINDS = ("memory", "cpu", "network", "disk")
MOST_HOLDERS = 16_384
MOST_WAITING = 1024
_CPU = 1_000_000  # cores are counted in millionths: sums of whole numbers are exact
_MOST = 2**62
_NAMED = 3  # holders that an error names
Units = tuple[int, int, int, int]
_NOTHING: Units = (0, 0, 0, 0)


class ResourceUsage(msgspec.Struct, frozen=True):
    """So much of each kind: of a limit, of what is asked for, or of what is in use.

    Attributes:
        memory: bytes. cpu: cores. network: bytes a second. disk: bytes. As a limit 0 means that there is none.
    """

    memory: float = 0
    cpu: float = 0.0
    network: float = 0
    disk: float = 0

    def __post_init__(self) -> None:
        for kind in KINDS:
            value = getattr(self, kind)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise RejectedError(f"{value!r} is no amount of {kind}", where=kind, mend="give a number, 0 or more")


class Shortage(msgspec.Struct, frozen=True):
    """What is short of one kind: asked for, free (0 where the limit is passed already), and the limit."""

    kind: str
    asked: float
    free: float
    limit: float

    def __str__(self) -> str:
        lacking, asked, free, limit = (
            show_amount(self.kind, each) for each in (self.asked - self.free, self.asked, self.free, self.limit)
        )
        rest = f"{free} of {limit} are free" if self.asked <= self.limit else f"the limit is {limit}"
        return f"{self.kind} is short by {lacking}: {asked} are asked for, {rest}"


class _Waiter(msgspec.Struct, frozen=True):
    name: str
    units: Units
    priority: int


class Books:
    """Who holds how much under which limits, and who waits.

    Who waits counts as if it held already for all who come later with no higher priority: nobody is passed for ever by smaller
    requests. A ticket is the number of one holding or of one that waits.
    """

    def __init__(self, limits: ResourceUsage) -> None:
        self._limits = _units(limits)
        self._holders: dict[int, tuple[str, Units]] = {}
        self._waiting: dict[int, _Waiter] = {}
        self._claims: dict[int, Units] = {}  # of those who wait, by priority
        self._sum = _NOTHING
        self._last = 0

    @property
    def limits(self) -> ResourceUsage:
        return _usage(self._limits)

    @property
    def allocated(self) -> ResourceUsage:
        """All that is held."""
        return _usage(self._sum)

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def holders(self) -> dict[str, ResourceUsage]:
        """What is held, by name."""
        sums: dict[str, Units] = {}
        for name, units in self._holders.values():
            sums[name] = _add(sums.get(name, _NOTHING), units)
        return {name: _usage(units) for name, units in sums.items()}

    def short(self, required: ResourceUsage, priority: int = 0) -> list[Shortage]:
        """What is missing to hold this now; empty when nothing is."""
        return self._short(_units(required), self._ahead(priority))

    def hold(self, name: str, required: ResourceUsage, priority: int = 0) -> int:
        """Hold it, or raise `InsufficientResources`."""
        units = _units(required)
        short = self._short(units, self._ahead(priority))
        if short:
            raise self._insufficient(name, short)
        return self._put(name, units)

    def charge(self, name: str, used: ResourceUsage) -> int:
        """Hold what is in use already: never refused, also over a limit."""
        return self._put(name, _units(used))

    def wait(self, name: str, required: ResourceUsage, priority: int = 0) -> int:
        """Hold it or wait for it, which `holds` tells. Raises `InsufficientResources` for what can never be had."""
        units = _units(required)
        never = [each for each in self._short(units, self._ahead(priority)) if each.asked > each.limit]
        if never:
            raise self._insufficient(name, never)
        if not self._short(units, self._ahead(priority)):
            return self._put(name, units)
        if len(self._waiting) >= MOST_WAITING:
            raise OverloadedError(f"{MOST_WAITING} wait for resources already", where=name, mend="try again later")
        self._last += 1
        self._waiting[self._last] = _Waiter(name, units, priority)
        self._claims[priority] = _add(self._claims.get(priority, _NOTHING), units)
        return self._last

    def holds(self, ticket: int) -> bool:
        """Whether a ticket holds something; one that waits does not."""
        return ticket in self._holders

    def resize(self, ticket: int, required: ResourceUsage) -> list[int]:
        """Hold more or less with the same ticket, before all who wait: a holder that waited for them would keep what they wait for.

        The tickets that no longer wait. Raises `InsufficientResources`, and nothing changes, `RejectedError` for a ticket that
        holds nothing.
        """
        name, before = self._held(ticket)
        units = _units(required)
        more = tuple(max(0, new - old) for new, old in zip(units, before, strict=True))
        short = self._short(_as_units(more), _NOTHING)
        if short:
            raise self._insufficient(name, short)
        self._sum = _add(self._sum, _add(units, _minus(before)))
        self._holders[ticket] = (name, units)
        return self._serve()

    def release(self, ticket: int) -> list[int]:
        """Give back what a ticket holds. The tickets that no longer wait. Raises `RejectedError` for one that holds nothing."""
        _, units = self._held(ticket)
        del self._holders[ticket]
        self._sum = _add(self._sum, _minus(units))
        return self._serve()

    def leave(self, ticket: int) -> list[int]:
        """Wait no longer; nothing happens for a ticket that does not wait. The others that no longer wait."""
        if ticket not in self._waiting:
            return []
        self._forget(ticket)
        return self._serve()

    def why(self, required: ResourceUsage, name: str, priority: int = 0) -> InsufficientResources:
        """The error that says what is missing and who holds it."""
        return self._insufficient(name, self.short(required, priority))

    def _held(self, ticket: int) -> tuple[str, Units]:
        found = self._holders.get(ticket)
        if found is None:
            raise RejectedError("this was given back before, or is not of these books")
        return found

    def _put(self, name: str, units: Units) -> int:
        if len(self._holders) >= MOST_HOLDERS:
            raise OverloadedError(f"{MOST_HOLDERS} hold resources already", where=name, mend="give some back")
        self._last += 1
        self._holders[self._last] = (name, units)
        self._sum = _add(self._sum, units)
        return self._last

    def _order(self) -> list[int]:
        """Tickets that wait, in the order they are served: the highest priority first, of one the oldest."""
        return sorted(self._waiting, key=lambda ticket: (-self._waiting[ticket].priority, ticket))

    def _ahead(self, priority: int) -> Units:
        """What those take who wait and are served before a newcomer of this priority."""
        total = _NOTHING
        for rank, units in self._claims.items():
            if rank >= priority:
                total = _add(total, units)
        return total

    def _forget(self, ticket: int) -> None:
        """It waits no longer."""
        waiter = self._waiting.pop(ticket)
        left = _add(self._claims[waiter.priority], _minus(waiter.units))
        if left == _NOTHING:  # priorities are any numbers: those that nobody waits with must not stay
            del self._claims[waiter.priority]
        else:
            self._claims[waiter.priority] = left

    def _short(self, units: Units, ahead: Units) -> list[Shortage]:
        found = []
        for kind, asked, limit, held, before in zip(KINDS, units, self._limits, self._sum, ahead, strict=True):
            free = max(0, limit - held - before)
            if asked and limit and asked > free:
                found.append(Shortage(kind, _number(kind, asked), _number(kind, free), _number(kind, limit)))
        return found

    def _serve(self) -> list[int]:
        """Let those hold who can now, in order; who cannot counts as if it held for those behind it."""
        served: list[int] = []
        ahead = _NOTHING
        for ticket in self._order() if self._waiting else ():
            waiter = self._waiting[ticket]
            if self._short(waiter.units, ahead):
                ahead = _add(ahead, waiter.units)
                continue
            self._forget(ticket)
            self._holders[ticket] = (waiter.name, waiter.units)
            self._sum = _add(self._sum, waiter.units)
            served.append(ticket)
        return served

    def _insufficient(self, name: str, short: Iterable[Shortage]) -> InsufficientResources:
        sentences = [f"{each}{_held_by(each.kind, self.holders())}{self._queue(each.kind)}" for each in short]
        return InsufficientResources("; ".join(sentences), where=name, mend="give some back, ask for less, or raise the limit")

    def _queue(self, kind: str) -> str:
        at = KINDS.index(kind)
        ahead = sum(1 for waiter in self._waiting.values() if waiter.units[at])
        return f", {ahead} wait for it" if ahead else ""


def _held_by(kind: str, holders: Mapping[str, ResourceUsage]) -> str:
    """`, held by a 1.0 MiB, b 512 B and 2 others`."""
    amounts = {name: float(getattr(usage, kind)) for name, usage in holders.items() if getattr(usage, kind)}
    if not amounts:
        return ""
    most = nlargest(_NAMED, amounts, key=lambda name: amounts[name])
    rest = len(amounts) - len(most)
    others = f" and {rest} other{'s' if rest > 1 else ''}" if rest else ""
    return f", held by {', '.join(f'{name} {show_amount(kind, amounts[name])}' for name in most)}{others}"


def show_amount(kind: str, amount: float) -> str:
    """An amount of a kind, for people: `1.5 MiB`, `0.5 cores`, `64.0 KiB/s`."""
    if kind == "cpu":
        return f"{amount:.2g} cores" if amount < 1 else f"{round(amount, 2):g} cores"
    return f"{show_size(amount)}/s" if kind == "network" else show_size(amount)


def _units(usage: ResourceUsage) -> Units:
    """Whole numbers of the smallest units; who asks for a little never gets it for nothing. Raises `RejectedError` over 2^62."""
    found = []
    for kind in KINDS:
        value = getattr(usage, kind)
        if value > _MOST:
            raise RejectedError(f"{value:g} is more than there can be", where=kind, mend="ask for less")
        found.append(max(round(value * _CPU), math.ceil(value / _MOST)) if kind == "cpu" else math.ceil(value))
    return _as_units(found)


def _usage(units: Units) -> ResourceUsage:
    return ResourceUsage(*(_number(kind, value) for kind, value in zip(KINDS, units, strict=True)))


def _number(kind: str, units: int) -> float:
    return units / _CPU if kind == "cpu" else units


def _as_units(values: Iterable[int]) -> Units:
    memory, cpu, network, disk = values
    return memory, cpu, network, disk


def _add(one: Units, other: Units) -> Units:
    return _as_units(a + b for a, b in zip(one, other, strict=True))


def _minus(units: Units) -> Units:
    return _as_units(-each for each in units)
