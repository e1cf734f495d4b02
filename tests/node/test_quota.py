"""What goes first when the disk runs short, decided without a disk."""

from hypothesis import given
from hypothesis import strategies as st

from skerry.node.quota import LEAST, MIB, MOST, STEPS, Bounds, State, bounds_of, decide, room_of, sentence, spend

GIB = 1024 * MIB


def test_the_reserve_is_a_part_of_the_smaller_one() -> None:
    assert bounds_of(8 * GIB, 500 * GIB).reserve == MOST
    assert bounds_of(1 * GIB, 500 * GIB).reserve == 32 * MIB
    assert bounds_of(8 * GIB, 48 * MIB).reserve == LEAST


def test_room_is_what_quota_and_disk_both_give() -> None:
    bounds = Bounds(1000 * MIB, 32 * MIB)
    assert room_of(bounds, 900 * MIB, 500 * MIB, True) == 100 * MIB
    assert room_of(bounds, 100 * MIB, 50 * MIB, True) == 34 * MIB
    assert room_of(bounds, 100 * MIB, 50 * MIB, False) == 2 * MIB, "the reserve is to be made again"
    assert room_of(bounds, 1100 * MIB, 500 * MIB, True) == -100 * MIB


def test_steps_are_taken_in_their_order_and_then_the_log_is_shut() -> None:
    state, taken = State(), []
    while True:
        state, step, size = decide(state, -1, 16 * MIB)
        if not step:
            break
        assert size == 16 * MIB + 1
        assert not state.shut
        taken.append(step)
        state = spend(state, step)
    assert tuple(taken) == STEPS
    assert taken[0] == "raw history"
    assert state.shut
    assert decide(state, 15 * MIB, 16 * MIB).state.shut, "not before there is slack again"
    assert decide(state, 16 * MIB, 16 * MIB) == (State(), "", 0)


def test_it_does_not_flutter() -> None:
    state, step, _ = decide(State(), 1, 16 * MIB)
    assert (state.acting, step) == (False, "")
    state, step, _ = decide(state, -1, 16 * MIB)
    assert (state.acting, step) == (True, "raw history")
    state, step, size = decide(state, 5 * MIB, 16 * MIB)
    assert (state.acting, step, size) == (True, "raw history", 11 * MIB)
    assert decide(state, 16 * MIB, 16 * MIB).state == State()


def test_far_below_the_log_is_shut_at_once_and_the_oldest_goes_all_the_same() -> None:
    state, step, _ = decide(State(), -17 * MIB, 16 * MIB)
    assert (state.shut, step) == (True, "raw history")


def test_the_sentence() -> None:
    bounds = Bounds(1 * GIB, 32 * MIB)
    assert sentence(bounds, 24 * MIB, 100 * GIB, State()) == "24.0 MiB of 1.0 GiB"
    short = sentence(bounds, 24 * MIB, 40 * MIB, State(acting=True))
    assert short == "24.0 MiB of 48.0 MiB (the disk has no more; resources.disk is 1.0 GiB); short: the oldest goes"
    assert "no acknowledgement" in sentence(bounds, 24 * MIB, 0, State(acting=True, shut=True))


ROOMS = st.lists(st.integers(-200 * MIB, 200 * MIB), max_size=40)


@given(ROOMS, st.sets(st.sampled_from(STEPS)))
def test_whatever_comes(rooms: list[int], nothing: set[str]) -> None:
    """The log is shut below 0 only and opened at the slack only; nothing goes above it; no step is asked again in vain."""
    state, slack = State(), 16 * MIB
    for room in rooms:
        before = state
        state, step, size = decide(before, room, slack)
        if room >= slack:
            assert (state, step) == (State(), "")
        if state.shut and not before.shut:
            assert room < 0
        if before.shut and not state.shut:
            assert room >= slack
        if step:
            assert size >= 1
            assert step not in state.spent
            assert STEPS.index(step) == len([each for each in STEPS[: STEPS.index(step)] if each in state.spent])
            if step in nothing:
                state = spend(state, step)
