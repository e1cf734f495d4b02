"""Windows that no event can come of: each fails alone, is named in every replay alike, and can be tried again."""

import pytest

from skerry.pipeline import RETRY_PREFIX, WINDOW_HEADER, WINDOW_TAIL, books
from tests.fixtures.frames import ARRIVAL, events, feed, frame, letters, log_of, new_runner, run, sample, spec_of
from tests.fixtures.scorers import SumScorer

T = ARRIVAL // 1_000_000 - 1000
SECOND = {"kind": "tumbling", "size": "1s"}
WINDOW_BLOCK = b"NATS/1.0\r\nNats-Msg-Id: retry.1\r\n" + WINDOW_HEADER + b"\r\n"


def test_one_bad_window_fails_alone() -> None:
    runner = run(spec_of(model="sum"), log_of(sample(T, value) for value in (1, 1000, 2, 600, 3)), SumScorer())
    assert [event["score"] for event in events(runner.outputs)] == [1.0, 2.0, 3.0]
    assert [(letter.reason, letter.window, letter.messages) for letter in letters(runner.outputs)] == [
        ("model-error", True, 1),
        ("score-nan", True, 1),
    ]
    assert "does not take 1000" in letters(runner.outputs)[0].detail
    assert books(runner.state)["difference"] == 0


def test_windows_that_end_together_are_told_apart() -> None:
    runner = run(spec_of(model="sum"), log_of([sample(T, 1000)] * 3), SumScorer())
    assert len({letter.identity for letter in letters(runner.outputs)}) == 3
    apart = new_runner(spec_of(model="sum"), SumScorer())
    for one in log_of([sample(T, 1000)] * 3):
        feed(apart, [one])
    assert len({output.id for output in apart.outputs}) == 3
    assert [letter.identity for letter in letters(apart.outputs)] == [letter.identity for letter in letters(runner.outputs)]


def test_a_failed_window_is_tried_again_whole() -> None:
    spec = spec_of(window=SECOND, model="sum", features=["max", "count"])
    failed = run(spec, log_of([sample(T, 1000), sample(T + 0.1, 1), sample(T + 2, 1)]), SumScorer())
    (letter,) = letters(failed.outputs)
    assert (letter.messages, letter.window) == (2, True)
    again = [frame(9, letter.payload, WINDOW_TAIL, header=WINDOW_BLOCK, prefix=f"{RETRY_PREFIX}p.")]
    healed = new_runner(spec_of(window=SECOND, features=["max", "count"]), state=failed.state)
    feed(healed, again)
    assert [(event["score"], event["count"]) for event in events(healed.outputs)] == [(1000.0, 2)]
    assert books(healed.state)["difference"] == 0
    assert healed.state.ledger.received == 3 + 2


def test_a_window_that_fails_again_is_another_dead_letter() -> None:
    spec = spec_of(window=SECOND, model="sum", features=["max"])
    runner = run(spec, log_of([sample(T, 1000), sample(T + 2, 1)]), SumScorer())
    (letter,) = letters(runner.outputs)
    for sequence in (9, 10):
        feed(runner, [frame(sequence, letter.payload, WINDOW_TAIL, header=WINDOW_BLOCK, prefix=f"{RETRY_PREFIX}p.")])
    assert len({output.id for output in runner.outputs}) == 3
    assert books(runner.state)["difference"] == 0


@pytest.mark.parametrize("payload", [b"", b"rubbish", b"\x97"])
def test_a_window_that_is_none_is_a_dead_letter(payload: bytes) -> None:
    runner = run(spec_of(window=SECOND), [frame(1, payload, WINDOW_TAIL, header=WINDOW_BLOCK, prefix=f"{RETRY_PREFIX}p.")])
    assert [letter.reason for letter in letters(runner.outputs)] == ["undecodable"]
    assert books(runner.state)["difference"] == 0


def test_a_window_of_other_values_is_a_dead_letter_and_stays_whole() -> None:
    failed = run(spec_of(window=SECOND, model="sum", features=["max"]), log_of([sample(T, 1000), sample(T + 2, 1)]), SumScorer())
    (letter,) = letters(failed.outputs)
    other = spec_of(window=SECOND, features=["max"], source={"values": ["x", "y"]})
    runner = run(other, [frame(9, letter.payload, WINDOW_TAIL, header=WINDOW_BLOCK, prefix=f"{RETRY_PREFIX}p.")])
    (again,) = letters(runner.outputs)
    assert (again.reason, again.window, again.payload) == ("wrong-shape", True, letter.payload)
    assert books(runner.state)["difference"] == 0


def test_poison_is_not_even_decoded_and_is_told() -> None:
    runner = new_runner(spec_of(), poison=["2"])
    feed(runner, log_of([sample(T, 1), b"\xff poison", sample(T, 2)]))
    assert [(letter.sequence, letter.reason) for letter in letters(runner.outputs)] == [(2, "poison")]
    assert [event["score"] for event in events(runner.outputs)] == [1.0, 2.0]


def test_a_poison_window_is_not_scored_but_may_be_tried_again() -> None:
    spec = spec_of(window=SECOND, features=["max"], model="sum")
    runner = new_runner(spec, SumScorer(), poison=[f"d@{T * 1_000_000}"])
    feed(runner, log_of([sample(T, 1), sample(T + 1, 2), sample(T + 2, 3)]))
    assert [event["score"] for event in events(runner.outputs)] == [2.0]
    (letter,) = letters(runner.outputs)
    assert letter.reason == "poison"
    again = [frame(9, letter.payload, WINDOW_TAIL, header=WINDOW_BLOCK, prefix=f"{RETRY_PREFIX}p.")]
    feed(runner, again)
    assert [event["score"] for event in events(runner.outputs)] == [2.0, 1.0]
    deadly = new_runner(spec, SumScorer(), poison=[f"d@{T * 1_000_000}!9"])
    feed(deadly, again)
    assert [(letter.reason, letter.messages) for letter in letters(deadly.outputs)] == [("poison", 1)]


@pytest.mark.parametrize("key", ["{1}", "{2}", "{.id}"])
def test_a_retried_window_finds_its_partition_whatever_its_key_was_made_of(key: str) -> None:
    spec = spec_of(window={"kind": "none"}, source={"key": key}, model="sum")
    (letter,) = letters(run(spec, log_of([sample(T, 1000, id="i")]), SumScorer()).outputs)
    again = spec_of(window={"kind": "none"}, source={"key": key})
    parts = [new_runner(again, partition=(at, 4)) for at in range(4)]
    for runner in parts:
        feed(runner, [frame(9, letter.payload, WINDOW_TAIL, header=WINDOW_BLOCK, prefix=f"{RETRY_PREFIX}p.")])
        assert books(runner.state)["difference"] == 0
    assert [event["score"] for runner in parts for event in events(runner.outputs)] == [1000.0]
