"""Who runs where not all fit in: the highest priority first, and who has to make room for it. Pure."""

from collections.abc import Collection, Mapping, Sequence
from heapq import nlargest

import msgspec

from skerry.runtime.resources import Books, ResourceUsage, Shortage, show_amount

_NAMED = 3  # holders that a sentence names


class Claim(msgspec.Struct, frozen=True):
    """What one asks for before it may run."""

    name: str
    needs: ResourceUsage
    priority: int = 0


class Admission(msgspec.Struct, frozen=True):
    """Who runs, and why the others do not.

    Attributes:
        admitted: the highest priority first.
        pending: by name, `needs 256 MiB, 120 MiB free; held by a (128 MiB), b (64 MiB)`.
        making_room: by name of who runs and must go, the name of the one that it goes for.
    """

    admitted: tuple[str, ...]
    pending: dict[str, str]
    making_room: dict[str, str]


def admit(
    limits: ResourceUsage, others: Mapping[str, ResourceUsage], claims: Sequence[Claim], running: Collection[str] = ()
) -> Admission:
    """Let in who fits beside those that run and the `others` that hold something, the highest priority first.

    Of one priority the first of `claims` is first. Who runs stays, unless one of a higher priority fits in by its going: then
    those of the lowest priority go, of them the last, and none that need not. Who cannot fit in holds up nobody: smaller ones
    behind it run, and go when it can.
    """
    books = Books(limits)
    for name, usage in others.items():
        books.charge(name, usage)
    held = {claim: books.charge(claim.name, claim.needs) for claim in claims if claim.name in running}
    order = sorted(claims, key=lambda claim: -claim.priority)
    going: dict[str, str] = {}
    for claim in order:
        if claim in held or claim.name in going:
            continue
        if not books.short(claim.needs):
            held[claim] = books.charge(claim.name, claim.needs)
            continue
        below = [each for each in reversed(order) if each in held and each.priority < claim.priority and each.name in running]
        for victim in _room(books, claim, below, held):
            going[victim.name] = claim.name
    coming = set(going.values())
    admitted = [claim for claim in order if (claim in held or claim.name in going) and claim.name not in coming]
    now = Books(limits)  # who goes holds until it has gone
    for name, usage in [*others.items(), *((claim.name, claim.needs) for claim in admitted)]:
        now.charge(name, usage)
    pending = {claim.name: _sentence(now, claim) for claim in order if claim not in admitted}
    return Admission(tuple(claim.name for claim in admitted), pending, going)


def _room(books: Books, claim: Claim, below: Sequence[Claim], held: dict[Claim, int]) -> list[Claim]:
    """Who goes so that the claim fits in, none where it would not; its room is taken in the books."""
    gone: list[Claim] = []
    for victim in below:
        books.release(held.pop(victim))
        gone.append(victim)
        if not books.short(claim.needs):
            break
    fits = not books.short(claim.needs)
    if fits:
        held[claim] = books.charge(claim.name, claim.needs)
    for victim in reversed(gone):  # the highest priority first: who need not go stays
        if not fits or not books.short(victim.needs):
            held[victim] = books.charge(victim.name, victim.needs)
    return [victim for victim in gone if victim not in held]


def _sentence(books: Books, claim: Claim) -> str:
    """What it needs of each kind that is short, and who holds that."""
    holders = books.holders()
    return "; ".join(_short(each, holders) for each in books.short(claim.needs))


def _short(lacking: Shortage, holders: Mapping[str, ResourceUsage]) -> str:
    asked, free, limit = (_plain(lacking.kind, each) for each in (lacking.asked, lacking.free, lacking.limit))
    if lacking.asked > lacking.limit:
        return f"needs {asked}, the limit is {limit}"
    amounts = {name: float(amount) for name, usage in holders.items() if (amount := getattr(usage, lacking.kind))}
    most = nlargest(_NAMED, amounts, key=lambda name: amounts[name])
    named = ", ".join(f"{name} ({_plain(lacking.kind, amounts[name])})" for name in most)
    rest = len(amounts) - len(most)
    others = f" and {rest} other{'s' if rest > 1 else ''}" if rest else ""
    return f"needs {asked}, {free} free" + (f"; held by {named}{others}" if named else "")


def _plain(kind: str, amount: float) -> str:
    return show_amount(kind, amount).replace(".0 ", " ")
