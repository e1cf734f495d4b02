"""A bundle from node to node: the leader first, one at a time, all on the same side at the end, whoever fails or dies when."""

import random

import msgspec
import pytest

from skerry.bundle import Rollout, Word, advance, duty, taken_back

NAMES = ("n1", "n2", "n3")
GOING = Rollout(1, "new", "plant 2", "old", "going")


def word(active: str, phase: str = "", failed: str = "", number: int = 1) -> Word:
    return Word(number, active, phase=phase, failed=failed)


def test_the_leader_is_first_and_then_one_after_the_other() -> None:
    record = advance(GOING, "n2", NAMES, {}, 5)
    assert (record.turns, record.done) == (("n2",), ())
    assert advance(record, "n2", NAMES, {"n2": word("new", "on probation")}, 5) == record
    words = {"n2": word("new")}
    record = advance(record, "n2", NAMES, words, 5)
    assert (record.turns, record.done) == (("n1",), ("n2",))
    record = advance(record, "n2", ("n1", "n2"), words | {"n1": word("new")}, 7)
    assert (record.state, record.done, record.ended, record.wanted) == ("kept", ("n2", "n1"), 7, "new"), "who is away comes later"
    assert advance(record, "n2", NAMES, {}, 9) == record


def test_what_a_node_says_of_another_rollout_does_not_count() -> None:
    record = msgspec.structs.replace(GOING, turns=("n1",))
    old = {"n1": word("new", failed="no", number=0)}
    assert advance(record, "n1", NAMES, old, 5) == record


def test_one_gate_that_fails_or_one_node_that_goes_takes_it_back_everywhere() -> None:
    record = msgspec.structs.replace(GOING, turns=("n1",), done=("n2",))
    failed = advance(record, "n2", NAMES, {"n1": word("old", failed="new dead letters: 3 of pipeline p")}, 8)
    assert (failed.state, failed.wanted, failed.reason) == ("back", "old", "n1: new dead letters: 3 of pipeline p")
    gone = advance(record, "n2", ("n2", "n3"), {}, 8)
    assert (gone.state, gone.reason) == ("back", "n1 went away while it tried it")
    assert duty(gone, "n2", "new", "", failed=False) == "back"
    assert duty(gone, "n1", "old", "new", failed=False) == "back", "it is only being checked there"
    assert duty(gone, "n3", "old", "", failed=False) == ""


def test_a_new_leader_that_has_not_had_its_turn_has_it_at_once() -> None:
    record = advance(msgspec.structs.replace(GOING, turns=("n1",), done=("n2",)), "n3", ("n1", "n3"), {}, 8)
    assert record.turns == ("n1", "n3")


@pytest.mark.parametrize(("state", "todo"), [("kept", "apply"), ("back", "")])
def test_who_was_away_catches_up(state: str, todo: str) -> None:
    record = msgspec.structs.replace(GOING, state=state)
    assert duty(record, "n3", "old", "", failed=False) == todo
    assert duty(record, "n3", "old", "", failed=True) == ""
    assert duty(record, "n3", "other", "", failed=False) == "apply"
    assert duty(taken_back(msgspec.structs.replace(record, before=""), "", 1), "n3", "other", "", failed=False) == "back"


@pytest.mark.parametrize("seed", range(300))
def test_all_end_on_the_same_side_whoever_fails_or_dies(seed: int) -> None:
    rng = random.Random(seed)
    active, trying, tried = dict.fromkeys(NAMES, "old"), dict.fromkeys(NAMES, ""), dict.fromkeys(NAMES, False)
    there, record, bad = set(NAMES), GOING, rng.choice(["", "", *NAMES])
    for step in range(400):
        if step < 60 and rng.random() < 0.15:  # one dies: what it tries is taken back; or it comes again
            name = rng.choice(NAMES)
            there ^= {name}
            trying[name], tried[name] = "", tried[name] and active[name] == "new"
        if step == 60:
            there = set(NAMES)
        if not there:
            continue
        failed = {name: tried[name] and not trying[name] and active[name] == "old" for name in NAMES}
        words = {
            name: word(trying[name] or active[name], "on probation" if trying[name] else "", "bad" if failed[name] else "")
            for name in there
        }
        if step % 3 == 0:
            record = advance(record, min(there), sorted(there), words, step)
        for name in sorted(there):
            if trying[name] and rng.random() < 0.5:
                active[name], trying[name] = (active[name] if name == bad else "new"), ""
            failing = tried[name] and not trying[name] and active[name] == "old"
            todo = duty(record, name, trying[name] or active[name], trying[name], failing)
            if todo == "back":
                active[name], trying[name] = "old", ""
            elif todo == "apply":
                assert record.wanted == "new"
                trying[name], tried[name] = "new", True
    assert record.state in ("kept", "back")
    on = {name: active[name] for name in NAMES if name != bad}
    assert set(on.values()) == {record.wanted}, (record, active)
    assert bad not in NAMES or active[bad] == "old"
