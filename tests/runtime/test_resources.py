"""The books of resources: who may hold, who waits and who is served, in any order of calls."""

import math
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from skerry.core.errors import InsufficientResources, OverloadedError, RejectedError
from skerry.runtime import resources
from skerry.runtime.resources import KINDS, Books, ResourceUsage, show_amount

MIB = 1 << 20
few = settings(max_examples=60, deadline=None)


@pytest.mark.parametrize("value", [-1, -0.001, math.nan, math.inf, True, "1", None])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_amount_is_refused(kind: str, value: object) -> None:
    with pytest.raises(RejectedError, match=f"{kind}: .* is no amount of {kind}; give a number, 0 or more"):
        ResourceUsage(**{kind: value})  # type: ignore[arg-type]  # what a caller without types may pass


def test_what_is_more_than_there_can_be_is_refused() -> None:
    with pytest.raises(RejectedError, match="more than there can be"):
        Books(ResourceUsage()).hold("a", ResourceUsage(disk=1e30))
    with pytest.raises(RejectedError, match="more than there can be"):
        Books(ResourceUsage(cpu=1e30))


def test_the_error_says_what_is_short_by_how_much_and_who_holds_it() -> None:
    books = Books(ResourceUsage(memory=100 * MIB, cpu=2.0, network=1024))
    books.hold("worker-0", ResourceUsage(memory=60 * MIB, cpu=1.5))
    books.hold("model pump@1", ResourceUsage(memory=20 * MIB))
    for name in ("c", "d", "e"):
        books.hold(name, ResourceUsage(memory=MIB))
    with pytest.raises(InsufficientResources) as refused:
        books.hold("model big@1", ResourceUsage(memory=64 * MIB, cpu=1, network=2048))
    assert str(refused.value) == (
        "model big@1: memory is short by 47.0 MiB: 64.0 MiB are asked for, 17.0 MiB of 100.0 MiB are free, "
        "held by worker-0 60.0 MiB, model pump@1 20.0 MiB, c 1.0 MiB and 2 others; "
        "cpu is short by 0.5 cores: 1 cores are asked for, 0.5 cores of 2 cores are free, held by worker-0 1.5 cores; "
        "network is short by 1.0 KiB/s: 2.0 KiB/s are asked for, the limit is 1.0 KiB/s; "
        "give some back, ask for less, or raise the limit"
    )


def test_a_kind_without_a_limit_is_counted_and_never_short() -> None:
    books = Books(ResourceUsage(memory=1))
    books.hold("a", ResourceUsage(network=10**12, disk=10**15))
    assert books.allocated == ResourceUsage(network=10**12, disk=10**15)
    with pytest.raises(InsufficientResources):
        books.hold("b", ResourceUsage(memory=2))


def test_sums_of_fractions_of_cores_are_exact() -> None:
    books = Books(ResourceUsage(cpu=1.0))
    tickets = [books.hold("a", ResourceUsage(cpu=0.1)) for _ in range(10)]
    assert books.allocated.cpu == 1.0
    with pytest.raises(InsufficientResources, match="cpu is short by 1e-06 cores"):
        books.hold("b", ResourceUsage(cpu=1e-12))
    for ticket in tickets:
        books.release(ticket)
    assert books.allocated == ResourceUsage()


def test_what_is_given_back_twice_is_refused() -> None:
    books = Books(ResourceUsage(memory=10))
    ticket = books.hold("a", ResourceUsage(memory=4))
    books.release(ticket)
    for late in (ticket, 999):
        with pytest.raises(RejectedError, match="was given back before"):
            books.release(late)
        with pytest.raises(RejectedError, match="was given back before"):
            books.resize(late, ResourceUsage(memory=1))
    assert books.allocated.memory == 0


def test_a_charge_is_never_refused_and_leaves_nothing_for_others() -> None:
    books = Books(ResourceUsage(memory=10))
    ticket = books.charge("model a@1", ResourceUsage(memory=25))
    assert books.allocated.memory == 25
    assert [(each.kind, each.free) for each in books.short(ResourceUsage(memory=1))] == [("memory", 0)]
    books.release(ticket)
    assert books.short(ResourceUsage(memory=10)) == []


def test_a_holding_grows_and_shrinks_and_grows_no_further_than_the_limit() -> None:
    books = Books(ResourceUsage(memory=10))
    ticket = books.hold("a", ResourceUsage(memory=4))
    books.hold("b", ResourceUsage(memory=3))
    waiting = books.wait("c", ResourceUsage(memory=5))
    assert not books.holds(waiting)
    assert books.resize(ticket, ResourceUsage(memory=7)) == []
    with pytest.raises(InsufficientResources, match="memory is short by 1 B"):
        books.resize(ticket, ResourceUsage(memory=8))
    assert books.allocated.memory == 10
    assert books.resize(ticket, ResourceUsage(memory=2)) == [waiting]
    assert books.holders() == {"a": ResourceUsage(memory=2), "b": ResourceUsage(memory=3), "c": ResourceUsage(memory=5)}


def test_who_waits_is_not_passed_by_smaller_requests_and_priority_goes_first() -> None:
    books = Books(ResourceUsage(memory=10, cpu=4))
    held = books.hold("a", ResourceUsage(memory=6))
    large = books.wait("large", ResourceUsage(memory=9))
    small = books.wait("small", ResourceUsage(memory=1))
    urgent = books.wait("urgent", ResourceUsage(memory=8), priority=5)
    assert books.waiting == 3
    with pytest.raises(InsufficientResources, match="3 wait for it"):
        books.hold("b", ResourceUsage(memory=1))
    books.hold("of another kind", ResourceUsage(cpu=4))
    books.hold("more urgent still", ResourceUsage(memory=1), priority=6)
    assert books.release(held) == [urgent]
    assert not books.holds(small), "it would fit, but the large one came first"
    assert books.leave(large) == [small]
    assert books.leave(large) == []
    assert books.waiting == 0


def test_what_can_never_be_had_is_not_waited_for() -> None:
    books = Books(ResourceUsage(memory=10))
    books.hold("a", ResourceUsage(memory=10))
    with pytest.raises(InsufficientResources, match="11 B are asked for, the limit is 10 B"):
        books.wait("b", ResourceUsage(memory=11))
    assert books.waiting == 0


def test_holders_and_waiters_are_bounded() -> None:
    books = Books(ResourceUsage(memory=1))
    books.hold("a", ResourceUsage(memory=1))
    for _ in range(resources.MOST_WAITING):
        books.wait("b", ResourceUsage(memory=1))
    with pytest.raises(OverloadedError, match="1024 wait for resources already"):
        books.wait("b", ResourceUsage(memory=1))
    for _ in range(resources.MOST_HOLDERS - 1):
        books.charge("c", ResourceUsage())
    with pytest.raises(OverloadedError, match="16384 hold resources already"):
        books.charge("c", ResourceUsage())


def test_amounts_are_shown_in_their_units() -> None:
    assert [show_amount(kind, 1536) for kind in KINDS] == ["1.5 KiB", "1536 cores", "1.5 KiB/s", "1.5 KiB"]
    cores = (0, 0.0299, 0.25, 1.256, 1e-6)
    assert [show_amount("cpu", each) for each in cores] == ["0 cores", "0.03 cores", "0.25 cores", "1.26 cores", "1e-06 cores"]


AMOUNTS = st.builds(ResourceUsage, memory=st.integers(0, 12), cpu=st.sampled_from([0, 0.1, 0.5, 1.0, 2.5]), disk=st.integers(0, 3))
LIMITS = ResourceUsage(memory=20, cpu=3.0)


class BooksMachine(RuleBasedStateMachine):
    """Holds, waits, leaves, grows and gives back, beside a plain account of who holds what and who came when."""

    def __init__(self) -> None:
        super().__init__()
        self.books = Books(LIMITS)
        self.held: dict[int, ResourceUsage] = {}
        self.queue: list[tuple[int, int, ResourceUsage]] = []  # -priority, ticket, what is wanted

    def total(self, kind: str, more: float = 0.0) -> float:
        return round(more + float(sum(getattr(usage, kind) for usage in self.held.values())), 6)

    def fits(self, usage: ResourceUsage, ahead: list[ResourceUsage]) -> bool:
        for kind in ("memory", "cpu"):
            asked = getattr(usage, kind)
            claims = sum(getattr(each, kind) for each in ahead)
            if asked and self.total(kind, claims + asked) > getattr(LIMITS, kind):
                return False
        return True

    def before(self, priority: float) -> list[ResourceUsage]:
        return [usage for negative, _, usage in self.queue if -negative >= priority]

    def serve(self) -> list[int]:
        """Who is served, told plainly: in order, each against all that is held and all who wait before it."""
        served: list[int] = []
        ahead: list[ResourceUsage] = []
        for waiter in sorted(self.queue, key=lambda each: each[:2]):
            _, ticket, usage = waiter
            if self.fits(usage, ahead):
                self.queue.remove(waiter)
                self.held[ticket] = usage
                served.append(ticket)
            else:
                ahead.append(usage)
        return served

    @rule(usage=AMOUNTS, priority=st.integers(0, 2))
    def hold(self, usage: ResourceUsage, priority: int) -> None:
        if self.fits(usage, self.before(priority)):
            self.held[self.books.hold("a", usage, priority)] = usage
        else:
            assert self.books.short(usage, priority)
            with pytest.raises(InsufficientResources, match=" is short by "):
                self.books.hold("a", usage, priority)

    @rule(usage=AMOUNTS, priority=st.integers(0, 2))
    def wait(self, usage: ResourceUsage, priority: int) -> None:
        now = self.fits(usage, self.before(priority))
        ticket = self.books.wait("b", usage, priority)
        assert self.books.holds(ticket) is now
        if now:
            self.held[ticket] = usage
        else:
            self.queue.append((-priority, ticket, usage))

    def pick(self, among: list[int], at: int) -> int | None:
        return among[at % len(among)] if among else None

    @rule(at=st.integers(0, 50))
    def release(self, at: int) -> None:
        ticket = self.pick(sorted(self.held), at)
        if ticket is not None:
            del self.held[ticket]
            assert self.books.release(ticket) == self.serve()
            with pytest.raises(RejectedError):
                self.books.release(ticket)

    @rule(at=st.integers(0, 50))
    def leave(self, at: int) -> None:
        ticket = self.pick([ticket for _, ticket, _ in self.queue], at)
        if ticket is not None:
            self.queue = [each for each in self.queue if each[1] != ticket]
            assert self.books.leave(ticket) == self.serve()

    @rule(at=st.integers(0, 50), usage=AMOUNTS)
    def resize(self, at: int, usage: ResourceUsage) -> None:
        ticket = self.pick(sorted(self.held), at)
        if ticket is None:
            return
        more = {kind: max(0, getattr(usage, kind) - getattr(self.held[ticket], kind)) for kind in ("memory", "cpu")}
        if self.fits(ResourceUsage(**more), []):
            self.held[ticket] = usage
            assert self.books.resize(ticket, usage) == self.serve()
        else:
            with pytest.raises(InsufficientResources):
                self.books.resize(ticket, usage)

    @invariant()
    def the_sum_is_that_of_the_holders_and_never_over_a_limit(self) -> None:
        allocated = self.books.allocated
        for kind in KINDS:
            assert round(getattr(allocated, kind), 6) == self.total(kind)
            limit = getattr(LIMITS, kind)
            assert not limit or getattr(allocated, kind) <= limit
        assert self.books.waiting == len(self.queue)

    @invariant()
    def nobody_waits_who_could_be_served(self) -> None:
        if self.queue:
            first = min(self.queue, key=lambda each: each[:2])
            assert not self.fits(first[2], [])


BooksMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestBooks = BooksMachine.TestCase


@few
@given(st.lists(AMOUNTS, max_size=30), st.randoms(use_true_random=False))
def test_all_that_is_given_back_is_free_again(usages: list[ResourceUsage], random: Random) -> None:
    books = Books(LIMITS)
    tickets = [books.hold("a", usage) for usage in usages if not books.short(usage)]
    random.shuffle(tickets)
    for ticket in tickets:
        books.release(ticket)
    assert books.allocated == ResourceUsage()
    assert books.holders() == {}


@few
@given(st.integers(1, 40), st.lists(st.tuples(st.integers(1, 40), st.integers(0, 3)), min_size=1, max_size=20))
def test_who_waits_is_served_in_the_end_and_in_order(limit: int, wanted: list[tuple[int, int]]) -> None:
    books = Books(ResourceUsage(memory=limit))
    first = books.hold("first", ResourceUsage(memory=limit))
    waiting = {books.wait("w", ResourceUsage(memory=size), rank): rank for size, rank in wanted if size <= limit}
    served: list[int] = []
    done: list[int] = [first]
    give_back: Callable[[int], list[int]] = books.release
    while done:
        fresh = give_back(done.pop(0))
        served += fresh
        done += fresh
    assert served == sorted(waiting, key=lambda ticket: (-waiting[ticket], ticket))
    assert books.waiting == 0
