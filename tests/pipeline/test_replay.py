"""A replay decides the same again: whatever the reads brought at once, and from whichever checkpoint it begins."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.broker import Frame, position
from skerry.pipeline import Output, PipelineState, Runner, decode_state, encode_state
from tests.fixtures.frames import EVENTS_PREFIX, feed, letters, new_runner, spec_of
from tests.fixtures.garbage import logs, tables
from tests.fixtures.scorers import SumScorer

cuts = st.lists(st.integers(1, 20), min_size=1, max_size=8)


def runner_of(table: dict[str, Any], state: PipelineState | None = None) -> Runner:
    return new_runner(spec_of(**table), SumScorer() if table["model"] else None, state)


def in_chunks(frames: list[Frame], sizes: list[int]) -> list[list[Frame]]:
    found, begin = [], 0
    while begin < len(frames):
        size = sizes[len(found) % len(sizes)]
        found.append(frames[begin : begin + size])
        begin += size
    return found


def event_bytes(outputs: list[Output]) -> dict[str, bytes]:
    """Events by id, each with its whole body; the same id twice must not be."""
    found = [output for output in outputs if output.subject.startswith(EVENTS_PREFIX)]
    assert len({output.id for output in found}) == len(found)
    assert all(json.loads(output.payload)["id"] == output.id for output in found)
    return {output.id: output.payload for output in found}


def identities(outputs: list[Output]) -> list[tuple[str, str, int, bytes]]:
    """Dead letters, and none is there twice."""
    found = sorted((letter.identity, letter.reason, letter.messages, letter.payload) for letter in letters(outputs))
    assert len({identity for identity, *_ in found}) == len(found)
    return found


@settings(max_examples=100, deadline=None)
@given(tables(), logs(), cuts, cuts)
def test_the_size_of_the_reads_decides_nothing(
    table: dict[str, Any], frames: list[Frame], some: list[int], other: list[int]
) -> None:
    one, two = runner_of(table), runner_of(table)
    for runner, sizes in ((one, some), (two, other)):
        for chunk in in_chunks(frames, sizes):
            feed(runner, chunk)
    assert event_bytes(one.outputs) == event_bytes(two.outputs)
    assert identities(one.outputs) == identities(two.outputs)
    assert one.state.ledger == two.state.ledger
    assert one.state == two.state


@settings(max_examples=120, deadline=None)
@given(tables(), logs(), cuts, cuts, st.integers(0, 12))
def test_any_checkpoint_leads_to_the_same_outputs(
    table: dict[str, Any], frames: list[Frame], before: list[int], after: list[int], at: int
) -> None:
    live = runner_of(table)
    chunks = in_chunks(frames, before)
    stored, known, kept = encode_state(live.state), 0, []
    for number, chunk in enumerate(chunks):
        feed(live, chunk)
        if number == at:
            stored, known = encode_state(live.state), len(live.outputs)
            kept = list(live.outputs)
    replay = runner_of(table, decode_state(stored))
    for chunk in in_chunks([frame for frame in frames if position(frame[1]).stream > replay.state.cursor], after):
        feed(replay, chunk)
    assert event_bytes(kept + replay.outputs) == event_bytes(live.outputs)
    assert identities(kept + replay.outputs) == identities(live.outputs)
    assert replay.state.ledger == live.state.ledger
    assert event_bytes(replay.outputs) == event_bytes(live.outputs[known:])


@settings(max_examples=60, deadline=None)
@given(tables(), logs(), st.integers(0, 60), st.integers(0, 60))
def test_a_death_behind_the_checkpoint_sends_no_letter_twice(
    table: dict[str, Any], frames: list[Frame], checkpoint: int, death: int
) -> None:
    live = runner_of(table)
    feed(live, frames[:checkpoint])
    stored, kept = encode_state(live.state), list(live.outputs)
    feed(live, frames[checkpoint : checkpoint + death])
    known = {letter.identity for letter in letters(live.outputs[len(kept) :])}
    replay = new_runner(spec_of(**table), SumScorer() if table["model"] else None, decode_state(stored), known_letters=known)
    for chunk in in_chunks(frames[checkpoint:], [7]):
        feed(replay, chunk)
    plain = runner_of(table)
    feed(plain, frames)
    assert identities(live.outputs + [output for output in replay.outputs if "dead" in output.subject]) == identities(plain.outputs)
    assert replay.state.ledger == plain.state.ledger
