"""Drift over partitions: counted apart and put together it is what it would have been in one, in any order, again and again."""

from itertools import chain
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from skerry.inference import DriftReport, DriftState, Meter, merge_drift, merge_states, psi, reference_of
from skerry.pipeline import PipelineState, decode_state, drift_report, encode_state
from skerry.pipeline.partitions import redeal
from tests.fixtures.frames import spec_of

few = settings(max_examples=30, deadline=None)

NAMES = ["flow", "heat"]
TRAINING = np.random.default_rng(0).normal(size=(200, 2))
OTHER_TRAINING = np.random.default_rng(1).normal(3, 2, size=(200, 2))
REFERENCE, OTHER = reference_of(TRAINING, NAMES), reference_of(OTHER_TRAINING, NAMES)
VALUES = st.one_of(st.floats(-5, 5), st.sampled_from([float("nan"), float("inf"), -float("inf"), 1e300]))
TABLES = st.lists(st.lists(st.lists(VALUES, min_size=2, max_size=2), max_size=12), min_size=1, max_size=5)  # one a partition
SPEC = spec_of(window={"kind": "tumbling", "size": "1s"}, features=["mean"])


def meter_of(rows: list[list[float]], reference: Any = REFERENCE) -> Meter:
    meter = Meter(reference, NAMES)
    meter.add(np.array(rows, np.float64).reshape(-1, 2))
    return meter


def state_of(rows: list[list[float]], reference: Any = REFERENCE, judged: int = 0, **more: Any) -> DriftState:
    """A state that has counted these rows, the first `judged` of them in blocks that are over."""
    before, now, whole = meter_of(rows[:judged], reference), meter_of(rows[judged:], reference), meter_of(rows, reference)
    return DriftState(
        "m@1", NAMES, "learned", reference, block=now.counts.tolist(), in_block=len(rows[judged:]), total=before.counts.tolist(),
        judged=len(rows[:judged]), outside=whole.outside, outside_of=whole.outside_of.tolist(), **more,
    )  # fmt: skip


def counted(state: DriftState) -> tuple[Any, ...]:
    """What a state has counted, whether in its block or before."""
    tables = [np.array(table) for table in (state.total, state.block) if table]
    return sum(tables).tolist() if tables else [], state.rows, state.outside, state.outside_of


@few
@given(TABLES, st.integers(0, 5))
def test_partitions_put_together_have_counted_what_one_would_have(parts: list[list[list[float]]], judged: int) -> None:
    whole = merge_states([state_of(rows, judged=min(judged, len(rows))) for rows in parts])
    one = state_of(list(chain.from_iterable(parts)))
    assert counted(whole) == counted(one)
    assert (whole.model, whole.columns, whole.reference, whole.source) == ("m@1", NAMES, REFERENCE, "learned")
    assert whole.in_block == 0, "a block that is begun is of one partition"
    meter = Meter(REFERENCE, NAMES)
    assert np.array_equal(psi(meter.expected, np.array(whole.total)), psi(meter.expected, meter_of(list(chain(*parts))).counts))


@few
@given(TABLES, st.randoms(use_true_random=False))
def test_the_order_of_partitions_does_not_matter(parts: list[list[list[float]]], random: Any) -> None:
    states = [state_of(rows) for rows in parts]
    mixed = list(states)
    random.shuffle(mixed)
    assert merge_states(mixed) == merge_states(states)


@few
@given(TABLES, st.integers(1, 4))
def test_merged_in_steps_it_is_the_same(parts: list[list[list[float]]], at: int) -> None:
    states = [state_of(rows) for rows in parts]
    assume(at < len(states))
    steps = merge_states([merge_states(states[:at]), merge_states(states[at:])])
    assert counted(steps) == counted(merge_states(states))


@few
@given(TABLES, TABLES)
def test_counts_in_other_bins_are_never_mixed(ours: list[list[list[float]]], theirs: list[list[list[float]]]) -> None:
    mine, other = [state_of(rows) for rows in ours], [state_of(rows, OTHER) for rows in theirs]
    whole = merge_states([*mine, *other])
    kept = mine if whole.reference == REFERENCE else other
    assert whole.rows == sum(state.rows for state in kept)
    assert whole.total == merge_states(kept).total
    assert whole.outside == sum(state.outside for state in [*mine, *other]), "what was outside is still told"
    assert whole.rows >= max(state.rows for state in [*mine, *other])


@pytest.mark.parametrize("firing", [(False, False), (True, False), (False, True), (True, True)])
def test_an_alarm_of_any_partition_goes_on_under_its_name(firing: tuple[bool, bool]) -> None:
    rows = [[0.0, 0.0]]
    states = [state_of(rows, firing=on, alarm_id=f"alarm{at}" if on else "") for at, on in enumerate(firing)]
    whole = merge_states(states)
    assert whole.firing == any(firing)
    assert whole.alarm_id == (f"alarm{firing.index(True)}" if any(firing) else "")


@settings(max_examples=50, deadline=None)
@given(TABLES, st.lists(st.integers(1, 6), min_size=1, max_size=4))
def test_dealt_again_and_again_no_count_is_lost_or_doubled(parts: list[list[list[float]]], counts: list[int]) -> None:
    states = [PipelineState(drift=state_of(rows)) for rows in parts]
    for count in counts:
        states = [decode_state(encode_state(state)) for state in redeal(states, count)]
        assert len(states) == count
        drifts = [state.drift for state in states if state.drift is not None]
        assert len(drifts) == count, "each partition knows the reference"
        assert all(drift.reference == REFERENCE for drift in drifts)
        assert sum(drift.rows for drift in drifts) == sum(map(len, parts))
    assert counted(merge_states([state.drift for state in states if state.drift is not None])) == counted(
        state_of(list(chain.from_iterable(parts)))
    )


def test_what_is_being_learned_goes_on_in_one_partition() -> None:
    learning = [DriftState("m@1", NAMES, "learning", learned=bytes(16 * rows)) for rows in (3, 9, 5)]
    dealt = redeal([PipelineState(drift=state) for state in learning], 3)
    assert [None if state.drift is None else len(state.drift.learned) for state in dealt] == [16 * 9, None, None]
    known = state_of([[0.0, 0.0]])
    whole = merge_states([*learning, known])
    assert (whole.source, whole.rows) == ("learned", 1), "a reference that is there counts more than one that is not"


@few
@given(TABLES)
def test_the_report_of_all_partitions_is_the_sum_of_theirs(parts: list[list[list[float]]]) -> None:
    states = [state_of(rows) for rows in parts]
    found = DriftReport()
    for state in states:
        found = merge_drift(found, drift_report(state, SPEC))
    whole = drift_report(merge_states(states), SPEC)
    assert (found.rows, found.outside, found.outside_of) == (whole.rows, whole.outside, whole.outside_of)
    assert found.source == "learned"


COUNTS = st.dictionaries(st.sampled_from("abc"), st.integers(1, 99))
SHARES = st.dictionaries(st.sampled_from("abc"), st.floats(0, 5))
REPORTS = st.builds(
    DriftReport, source=st.sampled_from(["", "learning", "learned", "metadata"]), reference_rows=st.integers(0, 999),
    rows=st.integers(0, 999), outside=st.integers(0, 99), outside_of=COUNTS, psi=SHARES, psi_since_start=SHARES,
    firing=st.booleans(),
).map(lambda report: report if report.source else DriftReport())  # fmt: skip


@few
@given(REPORTS, REPORTS, REPORTS)
def test_reports_are_merged_in_any_order_to_the_same(one: DriftReport, other: DriftReport, third: DriftReport) -> None:
    assert merge_drift(one, other) == merge_drift(other, one)
    assert merge_drift(merge_drift(one, other), third) == merge_drift(one, merge_drift(other, third))
    assert merge_drift(one, DriftReport()) == one == merge_drift(DriftReport(), one)


@few
@given(REPORTS, REPORTS)
def test_the_worst_feature_comes_first_and_nothing_given_is_changed(one: DriftReport, other: DriftReport) -> None:
    before = msgspec.json.encode([one, other])
    whole = merge_drift(one, other)
    assert msgspec.json.encode([one, other]) == before
    if one.source and other.source:
        for found in (whole.psi, whole.psi_since_start, whole.outside_of):
            assert list(found.values()) == sorted(found.values(), reverse=True)
        assert whole.firing == (one.firing or other.firing)
        assert all(whole.psi[name] == max(one.psi.get(name, 0), other.psi.get(name, 0)) for name in whole.psi)
