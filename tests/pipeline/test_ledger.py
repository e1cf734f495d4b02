"""The loss ledger adds up whatever comes, and it adds up against what was put out."""

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.broker import Frame
from skerry.pipeline import books, decode_state, encode_state
from tests.fixtures.frames import events, feed, letters, new_runner, spec_of
from tests.fixtures.garbage import logs, tables
from tests.fixtures.scorers import SumScorer


@settings(max_examples=120, deadline=None)
@given(tables(), logs(), st.integers(1, 60), st.booleans())
def test_the_books_close_after_every_read(table: dict[str, Any], frames: list[Frame], chunk: int, silent: bool) -> None:
    runner = new_runner(spec_of(**table), SumScorer() if table["model"] else None, poison=["3", "8"])
    for begin in range(0, len(frames), chunk):
        feed(runner, frames[begin : begin + chunk], mono=float(begin))
        if silent:
            runner.advance(begin + 100.0)
        assert books(runner.state)["difference"] == 0
    runner.finish()
    account = books(runner.state)
    assert account["difference"] == 0
    assert account["open"] == 0 or table["window"]["kind"] == "count"
    assert runner.state.ledger.events == len(events(runner.outputs))
    assert runner.state.ledger.windows == len(events(runner.outputs)) or "rule" in table
    buried = Counter[str]()
    for letter in letters(runner.outputs):
        buried[letter.reason] += letter.messages
    assert dict(buried) == account["dead_letters"]


@settings(max_examples=60, deadline=None)
@given(tables(), logs())
def test_partitions_together_count_what_one_counts(table: dict[str, Any], frames: list[Frame]) -> None:
    table["source"]["max_keys"] = 100
    scorer = SumScorer() if table["model"] else None
    whole = new_runner(spec_of(**table), scorer)
    parts = [new_runner(spec_of(**table), scorer, partition=(at, 3)) for at in range(3)]
    for runner in (whole, *parts):
        feed(runner, frames)
        runner.finish()
    for name in ("received", "received_bytes", "scored", "duplicates", "windows", "events", "late_samples"):
        assert sum(getattr(part.state.ledger, name) for part in parts) == getattr(whole.state.ledger, name), name
    assert sum((Counter(part.state.ledger.dead) for part in parts), Counter()) == Counter(whole.state.ledger.dead)
    assert sorted(output.id for part in parts for output in part.outputs if "events" in output.subject) == sorted(
        output.id for output in whole.outputs if "events" in output.subject
    )


@settings(max_examples=60, deadline=None)
@given(tables(), logs())
def test_a_state_is_stored_and_read_unchanged(table: dict[str, Any], frames: list[Frame]) -> None:
    runner = new_runner(spec_of(**table), SumScorer() if table["model"] else None)
    feed(runner, frames)
    stored = decode_state(encode_state(runner.state))
    assert stored == runner.state
    assert books(stored) == books(runner.state)
    assert encode_state(stored) == encode_state(runner.state)
