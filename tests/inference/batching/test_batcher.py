"""The batcher's core: under any interleaving nothing is lost, nothing runs twice, order and bounds hold."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from skerry.core.errors import OverloadedError
from skerry.inference.batching.batcher import Batcher, Measured, Pace, Ticket, best_batch, ranges

GROUPS = ("a", "b", None)


def queued(batcher: Batcher, *rows: int, group: str | None = "g", now: float = 0.0) -> list[Ticket]:
    tickets = [Ticket(each, group) for each in rows]
    for ticket in tickets:
        batcher.add(ticket, now)
    return tickets


def test_what_queued_during_a_run_is_the_next_batch() -> None:
    batcher = Batcher(max_batch=8)
    first, *rest = queued(batcher, 1)
    assert batcher.take(0.0) == [first]
    rest = queued(batcher, 1, 2, 3)
    assert batcher.take(0.0) == []
    batcher.done()
    assert batcher.take(0.0) == rest
    assert batcher.waiting == 0


def test_a_batch_holds_at_most_max_batch_rows_and_keeps_order() -> None:
    batcher = Batcher(max_batch=4)
    a, b, c, d = queued(batcher, 2, 1, 2, 1)
    assert batcher.take(0.0) == [a, b]  # d would fit, but must not overtake c
    batcher.done()
    assert batcher.take(0.0) == [c, d]


def test_a_request_larger_than_a_batch_runs_alone() -> None:
    batcher = Batcher(max_batch=4)
    large, small = queued(batcher, 9, 1)
    assert batcher.take(0.0) == [large]
    batcher.done()
    assert batcher.take(0.0) == [small]


def test_groups_do_not_mix_and_the_oldest_request_goes_first() -> None:
    batcher = Batcher()
    (a,) = queued(batcher, 1, group="a")
    (b,) = queued(batcher, 1, group="b")
    (second,) = queued(batcher, 1, group="a")
    assert batcher.take(0.0) == [a, second]
    batcher.done()
    assert batcher.take(0.0) == [b]


def test_a_request_without_a_group_runs_alone() -> None:
    batcher = Batcher()
    one, other = queued(batcher, 1, 1, group=None)
    assert batcher.take(0.0) == [one]
    batcher.done()
    assert batcher.take(0.0) == [other]


def test_a_delay_waits_for_more_but_not_when_the_batch_is_full() -> None:
    batcher = Batcher(max_batch=3, max_delay=0.5)
    assert batcher.due() is None
    assert not batcher.add(Ticket(1, "g"), 1.0)
    assert batcher.take(1.4) == []
    assert batcher.due() == 1.5
    assert len(batcher.take(1.5)) == 1
    batcher.done()
    assert not batcher.add(Ticket(2, "g"), 2.0)
    assert batcher.add(Ticket(1, "g"), 2.0)
    assert len(batcher.take(2.0)) == 2


def test_without_a_delay_an_idle_model_runs_at_once() -> None:
    batcher = Batcher()
    (ticket,) = queued(batcher, 1, now=7.0)
    assert batcher.due() == 7.0
    assert batcher.take(7.0) == [ticket]
    assert batcher.due() is None


def test_a_second_batch_goes_out_only_when_it_is_full() -> None:
    batcher = Batcher(max_batch=2, depth=2)
    queued(batcher, 1)
    assert len(batcher.take(0.0)) == 1
    queued(batcher, 1)
    assert batcher.take(0.0) == []
    queued(batcher, 1)
    assert len(batcher.take(0.0)) == 2
    queued(batcher, 1, 1)
    assert batcher.take(0.0) == []
    assert batcher.in_flight == 2


def test_a_full_queue_refuses_and_has_room_again_after_a_cancellation() -> None:
    batcher = Batcher(bound=2)
    first, _ = queued(batcher, 1, 1)
    with pytest.raises(OverloadedError, match="2 requests wait"):
        batcher.add(Ticket(1, "g"), 0.0)
    assert batcher.cancel(first)
    assert not batcher.cancel(first)
    batcher.add(Ticket(1, "g"), 0.0)
    assert batcher.waiting == 2


def test_a_cancelled_request_is_in_no_batch_and_one_that_runs_cannot_be_cancelled() -> None:
    batcher = Batcher()
    a, b, c = queued(batcher, 1, 1, 1)
    batcher.cancel(b)
    assert batcher.take(0.0) == [a, c]
    assert not batcher.cancel(a)
    assert not batcher._groups


def test_requests_that_come_and_go_behind_one_that_waits_take_no_memory() -> None:
    batcher = Batcher()
    (ahead,) = queued(batcher, 1)
    batcher.take(0.0)
    (waiting,) = queued(batcher, 1)
    for _ in range(5000):
        (gone,) = queued(batcher, 1)
        batcher.cancel(gone)
    assert len(batcher._order) < 200
    assert len(batcher._groups["g"].tickets) < 200
    batcher.done()
    assert batcher.take(0.0) == [waiting]
    assert ahead.state != waiting.group


class AnyInterleaving(RuleBasedStateMachine):
    """Arrivals, cancellations, ends and the passing of time in any order, against plain lists."""

    @initialize(max_batch=st.integers(1, 6), delay=st.sampled_from([0.0, 2.0]), bound=st.integers(1, 8), depth=st.integers(1, 2))
    def begin(self, max_batch: int, delay: float, bound: int, depth: int) -> None:
        self.batcher = Batcher(max_batch, delay, bound, depth)
        self.now = 0.0
        self.waiting: list[Ticket] = []
        self.answered: list[Ticket] = []
        self.cancelled: list[Ticket] = []
        self.arrivals: list[Ticket] = []
        self.out = 0

    @rule(rows=st.integers(0, 7), group=st.sampled_from(GROUPS))
    def arrive(self, rows: int, group: str | None) -> None:
        ticket = Ticket(rows, group if rows else None)
        if len(self.waiting) >= self.batcher.bound:
            with pytest.raises(OverloadedError):
                self.batcher.add(ticket, self.now)
            return
        full = self.batcher.add(ticket, self.now)
        self.waiting.append(ticket)
        self.arrivals.append(ticket)
        if ticket.group is not None:
            assert full == (sum(each.rows for each in self.waiting if each.group == group) >= self.batcher.max_batch)

    @rule()
    def take(self) -> None:
        batch = self.batcher.take(self.now)
        if not batch:
            return
        assert self.out < self.batcher.depth
        oldest = self.waiting[0]
        assert batch[0] is oldest
        assert len({each.group for each in batch}) == 1
        assert oldest.group is not None or len(batch) == 1
        rows = sum(each.rows for each in batch)
        assert len(batch) == 1 or rows <= self.batcher.max_batch
        same = [each for each in self.waiting if each.group == oldest.group]
        if oldest.group is not None:
            assert batch == same[: len(batch)]
            left = same[len(batch) :]
            assert not left or rows + left[0].rows > self.batcher.max_batch
            full = sum(each.rows for each in same) >= self.batcher.max_batch
            assert full or (self.out == 0 and self.now >= oldest.arrived + self.batcher.max_delay)
        self.waiting = [each for each in self.waiting if each not in batch]
        self.answered += batch
        self.out += 1

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(self.waiting))
        assert self.batcher.cancel(ticket)
        self.waiting.remove(ticket)
        self.cancelled.append(ticket)

    @precondition(lambda self: self.answered)
    @rule(data=st.data())
    def cancel_too_late(self, data: st.DataObject) -> None:
        assert not self.batcher.cancel(data.draw(st.sampled_from(self.answered)))

    @precondition(lambda self: self.out)
    @rule()
    def end(self) -> None:
        self.batcher.done()
        self.out -= 1

    @rule()
    def time_passes(self) -> None:
        self.now += 1.0

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        if not hasattr(self, "batcher"):
            return
        assert self.batcher.waiting == len(self.waiting) <= self.batcher.bound
        assert self.batcher.in_flight == self.out
        assert len(set(self.answered)) == len(self.answered)
        assert {*self.answered, *self.cancelled, *self.waiting} == set(self.arrivals)

    def teardown(self) -> None:
        """Whatever happened, all that wait are answered once runs end and time passes."""
        if not hasattr(self, "batcher"):
            return
        for _ in range(self.out):
            self.batcher.done()
        self.now += 10.0
        while self.waiting:
            self.out = 0
            before = len(self.waiting)
            self.take()
            assert len(self.waiting) < before
            self.batcher.done()
        assert not self.batcher._groups


AnyInterleaving.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestAnyInterleaving = AnyInterleaving.TestCase


def test_pace_learns_and_grows_with_rows() -> None:
    pace = Pace()
    assert pace.predict(5) == 0.0
    pace.observe(1, 10e-6)
    pace.observe(16, 80e-6)
    assert pace.predict(1) == 10e-6
    assert pace.predict(17) == 80e-6  # the same power of two
    assert pace.predict(4) == pytest.approx(40e-6)
    assert pace.predict(64) == pytest.approx(320e-6)


def test_pace_of_fewer_rows_than_ever_measured_is_that_of_the_fewest() -> None:
    pace = Pace()
    pace.observe(8, 1e-3)
    assert pace.predict(1) == 1e-3


def test_one_slow_run_does_not_make_a_fast_model_slow() -> None:
    pace = Pace()
    pace.observe(1, 20e-6)
    pace.observe(1, 1.0)
    assert pace.predict(1) < 40e-6
    for _ in range(60):
        pace.observe(1, 1e-3)
    assert pace.predict(1) == pytest.approx(1e-3, rel=0.05)


@given(st.dictionaries(st.integers(1, 512), st.floats(1e-6, 10.0), min_size=1))
def test_the_best_batch_is_the_smallest_that_is_good_enough(measured: dict[int, float]) -> None:
    best = best_batch(measured)
    rates = {rows: rows / seconds for rows, seconds in measured.items()}
    assert rates[best] >= 0.95 * max(rates.values()) * (1 - 1e-9)
    assert all(rates[rows] < 0.95 * max(rates.values()) * (1 + 1e-9) for rows in measured if rows < best)


def test_bigger_is_not_better_by_itself() -> None:
    assert best_batch({32: 32 / 0.82e6, 64: 64 / 0.6e6, 128: 128 / 0.45e6}) == 32
    assert best_batch({1: 1e-3, 8: 8e-3, 64: 64e-3}) == 1
    assert Measured(4, 0.5).rate == 8.0
    assert Measured(1, 0.0).rate == float("inf")


@given(st.integers(0, 500), st.integers(1, 70))
def test_ranges_cover_all_rows_once_in_order(rows: int, size: int) -> None:
    found = ranges(rows, size)
    assert [at for first, end in found for at in range(first, end)] == list(range(rows))
    assert all(0 < end - first <= size for first, end in found)
