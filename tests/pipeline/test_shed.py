"""What is shed: always the same keys, each counted, and nothing of the rest touched."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.broker import Frame
from skerry.core.errors import ConfigError
from skerry.pipeline import PipelineState, Standing, books, decode_state, encode_state, is_scored, standing
from skerry.pipeline.partitions import partition_of, redeal
from skerry.pipeline.shed import check_steps
from tests.fixtures.frames import ARRIVAL, events, feed, frame, new_runner, sample, spec_of

T = ARRIVAL / 1e6 - 100
KEYS = [f"pump-{at}" for at in range(400)]
SPEC = spec_of(window={"kind": "tumbling", "size": "1s", "idle": "0s"}, features=["count"])


def log(keys: list[str], seconds: int) -> list[Frame]:
    payloads = [(key, sample(T + second, 1)) for second in range(seconds) for key in keys]
    return [frame(at, payload, f"devices/{key}/v") for at, (key, payload) in enumerate(payloads, start=1)]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_share_of_the_keys_is_scored_in_each_partition_and_the_smaller_within_the_larger(share: float) -> None:
    for index in range(2):
        mine = [key for key in KEYS if partition_of(key, 2) == index]
        kept = [key for key in mine if is_scored(key, share)]
        assert abs(len(kept) / len(mine) - share) < 0.1
        assert all(is_scored(key, share + 0.05) for key in kept)
    assert all(is_scored(key, 1.0) for key in KEYS)


def test_windows_of_the_other_keys_are_counted_and_those_of_the_share_are_all_there() -> None:
    keys = KEYS[:20]
    whole, part = new_runner(SPEC), new_runner(SPEC, state=PipelineState(share=0.5))
    for runner in (whole, part):
        feed(runner, log(keys, 6))
    kept = [key for key in keys if is_scored(key, 0.5)]
    assert 4 < len(kept) < 16
    assert [event for event in events(whole.outputs) if event["key"] in kept] == events(part.outputs)
    account = books(part.state)
    assert account["shed"] == 5 * (20 - len(kept))
    assert (account["scored"], account["open"], account["difference"]) == (5 * len(kept), 20, 0)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([1.0, 0.7, 0.4]), st.integers(1, 25)), min_size=1, max_size=6),
    st.sampled_from(["tumbling", "sliding", "none", "count"]),
    st.integers(0, 5),
)
def test_whatever_changes_when_the_books_close_and_a_replay_decides_the_same(
    story: list[tuple[float, int]], kind: str, killed: int
) -> None:
    sizes = {"none": {}, "count": {"size": 2}, "sliding": {"size": "2s", "every": "1s"}, "tumbling": {"size": "1s"}}
    spec = spec_of(window={"kind": kind, **sizes[kind]})
    frames = log(KEYS[:6], 20)
    runner, stored, put_out, at = new_runner(spec), encode_state(PipelineState()), list[str](), 0
    for number, (share, count) in enumerate(story):
        runner.state.share = share
        stored, before = encode_state(runner.state), len(runner.outputs)  # a share counts from a checkpoint on
        feed(runner, frames[at : at + count])
        assert books(runner.state)["difference"] == 0
        if number == killed:
            again = new_runner(spec, state=decode_state(stored))
            feed(again, frames[at : at + count])
            assert [output.id for output in again.outputs] == [output.id for output in runner.outputs[before:]]
            assert books(again.state) == books(runner.state)
        at += count
    put_out = [output.id for output in runner.outputs]
    assert len(set(put_out)) == len(put_out)
    runner.finish()
    account = books(runner.state)
    assert account["difference"] == 0
    if kind != "count":
        assert account["received"] == account["scored"] + account["shed"]


def test_another_number_of_partitions_sheds_no_more_than_the_one_that_shed_least() -> None:
    dealt = redeal([PipelineState(cursor=5, share=0.5), PipelineState(cursor=3)], 3)
    assert [state.share for state in dealt] == [1.0, 1.0, 1.0]


def test_steps_add_up_to_a_standing() -> None:
    assert standing([]) == Standing()
    assert standing(["shadow"]) == Standing(shadow=False)
    assert standing(["shadow", "sample:0.5", "sample:0.1"], held=True) == Standing(held=True, shadow=False, share=0.1)


@pytest.mark.parametrize("steps", [["sample"], ["sample:x"], ["sample:nan"], ["sample:0.2", "sample:0.5"], ["shadow:1"], [""]])
def test_what_is_no_step_is_refused(steps: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"no share|not known"):
        check_steps(steps)


def test_events_of_shed_keys_are_none() -> None:
    state = PipelineState(share=0.5)
    runner = new_runner(SPEC, state=state)
    feed(runner, log(KEYS[:30], 3))
    found = Counter(event["key"] for event in events(runner.outputs))
    assert all(is_scored(key, 0.5) for key in found)
