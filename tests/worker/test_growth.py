"""Growth is put down to the pipeline that was fed, never for more than the process has grown, and taken off when it goes back."""

import mmap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.pipeline import parse_pipeline
from skerry.runtime import resident
from skerry.worker.growth import LEAST, Growth, allowed_of

MIB = 1024 * 1024


class Rig:
    """A process whose memory is a number."""

    def __init__(self, **allowed: int) -> None:
        self.now = 100 * MIB
        self.growth = Growth(allowed, lambda: self.now)
        self.growth.begin()

    def feed(self, *steps: tuple[str, int]) -> None:
        """Feed pipelines in turn, each taking so much."""
        mark = self.growth.mark()
        for name, taken in steps:
            self.now += taken
            if mark:
                mark = self.growth.note(name, mark)


def test_the_one_that_leaks_is_over_and_the_others_are_not() -> None:
    rig = Rig(leaky=64 * MIB, good=64 * MIB, big=512 * MIB)
    fed = 0
    while not rig.growth.over("leaky"):
        rig.feed(("good", 0), ("leaky", MIB), ("big", 0))
        rig.growth.look()
        fed += 1
        assert fed < 100
    assert 64 <= fed <= 64 * 5 / 4 + 2  # a quarter may pass before it is watched
    assert rig.growth.of("leaky") > 64 * MIB
    assert rig.growth.of("good") == rig.growth.of("big") == 0


def test_nothing_is_read_until_the_process_has_grown() -> None:
    rig = Rig(one=64 * MIB)
    rig.now += 16 * MIB
    rig.growth.look()
    assert rig.growth.mark() == 0
    rig.now += 1
    rig.growth.look()
    assert rig.growth.mark() == rig.now


def test_what_grows_outside_of_feeds_is_nobodys() -> None:
    rig = Rig(one=64 * MIB, other=64 * MIB)
    for _ in range(20):
        rig.now += 50 * MIB  # a model that is loaded
        rig.growth.look()
        rig.feed(("one", 0), ("other", 0))
    assert not rig.growth.over("one")
    assert not rig.growth.over("other")


def test_memory_that_a_flood_took_and_gave_back_does_not_add_up() -> None:
    rig = Rig(one=64 * MIB)
    for _ in range(50):
        rig.now += 20 * MIB
        rig.growth.look()
        rig.feed(("one", 40 * MIB))
        rig.now -= 60 * MIB
        rig.growth.look()
    assert not rig.growth.over("one")


def test_a_small_allowance_is_no_reason_to_stop_for_the_first_batches() -> None:
    rig = Rig(one=1)
    rig.feed(("one", LEAST // 2))  # not watched yet
    rig.growth.look()
    rig.feed(("one", LEAST))
    assert not rig.growth.over("one")
    rig.feed(("one", 2))
    assert rig.growth.over("one")


def test_who_begins_anew_has_its_allowance_again() -> None:
    rig = Rig(one=64 * MIB, other=64 * MIB)
    rig.now += 20 * MIB
    rig.growth.look()
    rig.feed(("one", 65 * MIB))
    assert rig.growth.over("one")
    rig.growth.forget("one")
    rig.growth.look()
    assert rig.growth.of("one") == 0
    rig.feed(("one", 64 * MIB))
    rig.growth.look()
    assert not rig.growth.over("one")
    rig.feed(("one", MIB))
    assert rig.growth.over("one")


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(-40 * MIB, 40 * MIB), st.booleans()), max_size=60))
def test_no_more_is_put_down_than_the_process_has_grown(steps: list[tuple[str, int, bool]]) -> None:
    rig = Rig(a=64 * MIB, b=64 * MIB)
    least = rig.now
    for name, change, fed in steps:
        change = max(change, -rig.now + MIB)
        if fed:
            rig.feed((name, change))
        else:
            rig.now += change
        rig.growth.look()
        least = min(least, rig.now)
        assert rig.growth.of("a") + rig.growth.of("b") <= rig.now - least


def test_a_real_leak_of_this_process_is_seen() -> None:
    growth = Growth({"one": 16 * MIB, "other": 16 * MIB}, resident)
    growth.begin()
    held = []
    for _ in range(30):
        mark = growth.mark()
        held.append(mmap.mmap(-1, MIB))  # pages of its own, whatever this process has freed before
        held[-1].write(b"x" * MIB)
        if mark:
            growth.note("other", growth.note("one", mark))
        growth.look()
    assert growth.over("one")
    assert growth.of("one") == pytest.approx(26 * MIB, abs=4 * MIB)
    assert not growth.over("other")


def test_a_pipeline_with_a_model_may_take_what_the_model_may_too() -> None:
    table = {"name": "p", "source": {"topic": "devices/+/v", "values": ["x"]}, "resources": {"memory": "20MiB"}}
    models = [{"name": "m", "memory": "64MiB"}, {"name": "m", "memory": "32MiB"}, {"name": "n", "memory": "1GiB"}]
    bare, scored = parse_pipeline(table, "p"), parse_pipeline({**table, "model": "m@active"}, "p")
    assert (allowed_of(bare, models), allowed_of(scored, models)) == (20 * MIB, 84 * MIB)
