"""Drift's figures: the reference, the bins, PSI, ranges, and how the counts of several partitions become one."""

import json
import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper

from skerry.core.errors import RejectedError
from skerry.inference import (
    DriftReport,
    DriftState,
    Meter,
    Reference,
    load_model,
    merge_drift,
    merge_states,
    psi,
    reference_in,
    reference_json,
    reference_of,
    shown,
)
from skerry.inference.drift.measure import EPSILON, METADATA_KEY
from tests.inference.conftest import FLOAT, MakeModel

Rows = NDArray[np.float64]
NAMES = ["a", "b", "c"]


def rows_of(seed: int, rows: int = 500, shift: float = 0.0) -> Rows:
    """Three features: normal, uniform, and one of four values."""
    made = np.random.default_rng(seed)
    return np.column_stack([made.normal(shift, 1, rows), made.uniform(0, 10, rows), made.integers(0, 4, rows)])


def slow_bins(reference: Reference, names: list[str], rows: Rows) -> list[list[int]]:
    """The counts as the definition says them, value by value."""
    found = []
    for at, name in enumerate(names):
        feature = reference.features[name]
        counts = [0] * (len(feature.edges) + 2)
        for value in rows[:, at]:
            place = len(counts) - 1 if math.isnan(value) else sum(1 for edge in feature.edges if value > edge)
            counts[place] += 1
        found.append(counts)
    return found


def test_a_reference_has_ten_bins_of_a_tenth_and_the_range() -> None:
    rows = np.arange(1000.0)[:, None]
    feature = reference_of(rows, ["a"]).features["a"]
    assert feature.edges == [99.0, 199.0, 299.0, 399.0, 499.0, 599.0, 699.0, 799.0, 899.0]
    assert feature.fractions == [0.1] * 10 + [0.0]
    assert (feature.min, feature.max) == (0.0, 999.0)


def test_few_distinct_values_have_fewer_bins_and_their_own_shares() -> None:
    feature = reference_of(np.array([[0.0]] * 60 + [[1.0]] * 30 + [[2.0]] * 10), ["a"]).features["a"]
    assert feature.edges[1:] == [0.0, 1.0]
    assert -1e-300 < feature.edges[0] < 0
    assert feature.fractions == [0.0, 0.6, 0.3, 0.1, 0.0]


def test_a_constant_that_moves_either_way_has_drifted() -> None:
    meter = Meter(reference_of(np.full((200, 1), 5.0), ["a"]), ["a"])
    meter.add(np.full((200, 1), 5.0))
    assert meter.psi().tolist() == [pytest.approx(0, abs=1e-9)]
    assert meter.outside == 0
    for moved in (4.999, 5.001):
        other = Meter(reference_of(np.full((200, 1), 5.0), ["a"]), ["a"])
        other.add(np.full((200, 1), moved))
        assert other.psi()[0] > 10
        assert other.outside == 200


def test_psi_is_the_sum_that_its_definition_says() -> None:
    expected, counts = np.array([[0.5, 0.3, 0.2]]), np.array([[20, 30, 50]])
    wanted = 0.0
    for share, part in zip([0.5, 0.3, 0.2], [0.2, 0.3, 0.5], strict=True):
        e, a = ((one + EPSILON) / (1 + 3 * EPSILON) for one in (share, part))
        wanted += (a - e) * math.log(a / e)
    assert psi(expected, counts)[0] == pytest.approx(wanted, rel=1e-12)
    assert wanted == pytest.approx((0.2 - 0.5) * math.log(0.4) + 0.3 * math.log(2.5), rel=2e-3)


def test_psi_without_rows_is_0_and_an_empty_bin_is_finite() -> None:
    expected = np.array([[0.1] * 10])
    assert psi(expected, np.zeros((1, 10), np.int64)).tolist() == [0.0]
    lost = psi(expected, np.array([[0] + [111] * 9]))[0]
    assert 0.6 < lost < 0.8


def test_the_same_distribution_stays_low_and_a_shifted_one_does_not() -> None:
    reference = reference_of(rows_of(1), NAMES)
    same, moved = Meter(reference, NAMES), Meter(reference, NAMES)
    same.add(rows_of(2))
    moved.add(rows_of(3, shift=1.0))
    assert (same.psi() < 0.1).all()
    assert moved.psi()[0] > 0.5
    assert (moved.psi()[1:] < 0.1).all()


def test_what_is_not_a_number_has_a_bin_of_its_own() -> None:
    rows = rows_of(1)
    meter = Meter(reference_of(rows, NAMES), NAMES)
    broken = rows.copy()
    broken[:250, 1] = np.nan
    meter.add(broken)
    assert meter.counts[1, -1] == 250
    assert meter.counts.sum(1).tolist() == [500, 500, 500]
    assert meter.psi()[1] > 1
    assert meter.outside == 250
    assert meter.outside_of.tolist() == [0, 250, 0]


def test_what_was_not_a_number_in_the_reference_too_is_no_drift() -> None:
    rows = rows_of(1)
    rows[::4, 0] = np.nan
    reference = reference_of(rows, NAMES)
    assert reference.features["a"].fractions[-1] == 0.25
    meter = Meter(reference, NAMES)
    meter.add(rows)
    assert meter.psi()[0] == pytest.approx(0, abs=1e-9)
    assert meter.outside == 0


def test_infinities_are_out_of_range_and_never_in_the_reference() -> None:
    rows = rows_of(1)
    rows[0, 0], rows[1, 0] = np.inf, -np.inf
    reference = reference_of(rows, NAMES)
    assert all(math.isfinite(number) for number in [*reference.features["a"].edges, reference.features["a"].max])
    meter = Meter(reference, NAMES)
    meter.add(rows[:2])
    assert meter.outside == 2
    assert meter.counts[0].sum() == 2


def test_a_column_without_a_finite_value_still_has_a_reference() -> None:
    reference = reference_of(np.full((100, 1), np.nan), ["a"])
    assert reference.features["a"].fractions == [0.0, 1.0]
    meter = Meter(reference, ["a"])
    meter.add(np.full((10, 1), np.nan))
    assert meter.psi()[0] == pytest.approx(0, abs=1e-9)
    meter.add(np.full((90, 1), 3.0))
    assert meter.psi()[0] > 1
    assert meter.outside == 90


def test_out_of_range_counts_a_row_once_and_each_feature_for_itself() -> None:
    reference = reference_of(np.array([[0.0, 0.0], [1.0, 1.0]] * 50), ["a", "b"])
    meter = Meter(reference, ["a", "b"])
    meter.add(np.array([[0.5, 0.5], [2.0, 0.5], [-1.0, 9.0], [1.0, 0.0], [0.0, np.nan]]))
    assert meter.outside == 3
    assert meter.outside_of.tolist() == [2, 2]


values = st.one_of(
    st.floats(-3, 3), st.integers(-2, 2).map(float), st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 1e300, 5e-324])
)
tables = st.lists(st.tuples(values, values), min_size=1, max_size=40).map(lambda rows: np.array(rows, np.float64))


@settings(max_examples=200, deadline=None)
@given(tables, tables, st.integers(1, 20))
def test_counts_are_those_of_the_definition_however_the_rows_are_cut(training: Rows, rows: Rows, size: int) -> None:
    names = ["a", "b"]
    reference = reference_of(training, names)
    whole, parts = Meter(reference, names), Meter(reference, names)
    whole.add(rows)
    for begin in range(0, len(rows), size):
        parts.add(rows[begin : begin + size])
    assert (whole.counts == parts.counts).all()
    assert (whole.outside, whole.outside_of.tolist()) == (parts.outside, parts.outside_of.tolist())
    for at, counts in enumerate(slow_bins(reference, names, rows)):
        kept = whole.counts[at].tolist()
        assert [*kept[: len(counts) - 1], kept[-1]] == counts
        assert sum(kept) == len(rows)
    assert np.isfinite(whole.psi()).all()
    assert (whole.psi() >= 0).all()


@settings(max_examples=50, deadline=None)
@given(tables)
def test_a_reference_survives_its_json_and_sees_no_drift_in_itself(training: Rows) -> None:
    reference = reference_of(training, ["a", "b"])
    assert reference_in({METADATA_KEY: reference_json(reference)}, ["a", "b"]) == reference
    meter = Meter(reference, ["a", "b"])
    meter.add(training)
    assert meter.psi() == pytest.approx([0, 0], abs=1e-9)


def test_many_rows_are_counted_in_bounded_steps() -> None:
    reference = reference_of(rows_of(1), NAMES)
    stepped, whole = Meter(reference, NAMES), Meter(reference, NAMES)
    stepped._step = 7
    rows = rows_of(2, 100)
    stepped.add(rows)
    whole.add(rows)
    assert (stepped.counts == whole.counts).all()
    assert stepped.outside == whole.outside


def test_meters_of_one_reference_add_up() -> None:
    reference = reference_of(rows_of(1), NAMES)
    one, other, both = (Meter(reference, NAMES) for _ in range(3))
    one.add(rows_of(2))
    other.add(rows_of(3, shift=2))
    both.add(np.concatenate([rows_of(2), rows_of(3, shift=2)]))
    one.merge(other)
    assert (one.counts == both.counts).all()
    assert (one.outside, one.outside_of.tolist()) == (both.outside, both.outside_of.tolist())


def test_a_model_file_carries_its_reference(make_model: MakeModel) -> None:
    reference = reference_of(rows_of(1), NAMES)
    nodes = [helper.make_node("ReduceSum", ["x"], ["score"], keepdims=1, noop_with_empty_axes=0)]
    path = make_model(nodes, [("score", FLOAT, (1, 1))], metadata={METADATA_KEY: reference_json(reference)})
    metadata = load_model(path, "m").metadata
    assert reference_in(metadata, NAMES) == reference
    only = reference_in(metadata, ["c", "a"])
    assert only is not None
    assert list(only.features) == ["c", "a"]
    assert reference_in({}, NAMES) is None


def altered(**changes: object) -> dict[str, str]:
    """Metadata with a reference whose feature `a` has these fields instead."""
    table = json.loads(reference_json(reference_of(rows_of(1), NAMES)))
    table["features"]["a"].update(changes)
    return {METADATA_KEY: json.dumps(table)}


@pytest.mark.parametrize(
    ("metadata", "sentence"),
    [
        ({METADATA_KEY: "{"}, "cannot be read"),
        ({METADATA_KEY: "[]"}, "cannot be read"),
        ({METADATA_KEY: '{"rows": 1, "features": {}, "format": 9}'}, "has format 9, this version reads up to 1"),
        ({METADATA_KEY: '{"rows": 1, "features": {}}'}, "has no feature 'a'"),
        (altered(edges=[1.0]), "has 11 fractions for 1 cuts, not 3"),
        (altered(edges=[1.0, 1.0], fractions=[0.5, 0.5, 0, 0]), "cuts that do not ascend"),
        (altered(edges=[1.0], fractions=[0.5, 0.1, 0]), "do not add up to 1"),
        (altered(edges=[1.0], fractions=[1.5, -0.5, 0]), "do not add up to 1"),
        (altered(min=2.0, max=1.0), "a min of 2.0 above its max of 1.0"),
        (altered(edges=list(map(float, range(1001)))), "has 1001 cuts"),
        (altered(edges=None), "cannot be read"),
    ],
)
def test_a_reference_that_is_none_is_refused_in_a_sentence(metadata: dict[str, str], sentence: str) -> None:
    with pytest.raises(RejectedError, match=sentence):
        reference_in(metadata, NAMES)


@pytest.mark.parametrize(
    ("rows", "names"),
    [([], ["a"]), ([[1.0]], ["a", "b"]), ([1.0, 2.0], ["a"]), ([[1.0, 2.0]], ["a", "a"]), (np.empty((0, 1)), ["a"])],
)
def test_rows_that_make_no_reference_are_refused(rows: object, names: list[str]) -> None:
    with pytest.raises(RejectedError, match=r"drift reference"):
        reference_of(rows, names)  # type: ignore[arg-type]  # what is no table is refused too


def test_what_is_shown_begins_with_the_worst_and_ends() -> None:
    assert list(shown(["a", "b", "c"], [0.1, 0.30004, 0.2], 2).items()) == [("b", 0.3), ("c", 0.2)]


def state_of(rows: Rows, training: Rows, columns: list[str] = NAMES, model: str = "m@1") -> DriftState:
    reference = reference_of(training, columns)
    meter = Meter(reference, columns)
    meter.add(rows)
    return DriftState(
        model, columns, "learned", reference, block=meter.counts.tolist(), in_block=len(rows), total=meter.empty().tolist(),
        outside=meter.outside, outside_of=meter.outside_of.tolist(),
    )  # fmt: skip


def test_states_of_one_reference_become_one_with_all_counts() -> None:
    training = rows_of(1)
    one, other = state_of(rows_of(2, 100), training), state_of(rows_of(3, 50, shift=3), training)
    other.firing, other.alarm_id = True, "x"
    whole = merge_states([one, other])
    assert (np.array(whole.total).sum(1) == 150).all()
    assert (whole.rows, whole.in_block, whole.judged) == (150, 0, 150)
    assert whole.outside == one.outside + other.outside
    assert whole.outside_of == [a + b for a, b in zip(one.outside_of, other.outside_of, strict=True)]
    assert (whole.firing, whole.alarm_id) == (True, "x")


def test_states_of_other_references_go_on_with_that_of_the_most_rows() -> None:
    one, other = state_of(rows_of(2, 100), rows_of(1)), state_of(rows_of(3, 200), rows_of(9))
    learning = DriftState("m@1", NAMES, "learning", learned=bytes(24 * 7))
    stranger = state_of(rows_of(4, 20), rows_of(5), ["p", "q", "r"], "m@2")
    whole = merge_states([learning, one, other, stranger])
    assert whole.reference == other.reference
    assert whole.rows == 200
    assert whole.outside == one.outside + other.outside
    assert merge_states([learning, DriftState("m@1", NAMES, "learning")]) is learning


def test_a_state_survives_its_bytes() -> None:
    state = state_of(rows_of(2, 100), rows_of(1))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=DriftState) == state
    assert msgspec.msgpack.decode(msgspec.msgpack.encode([]), type=DriftState) == DriftState()


def test_reports_of_partitions_add_counts_and_keep_the_larger_psi() -> None:
    one = DriftReport("learned", 500, 1000, 3, {"a": 3}, {"a": 0.1, "b": 0.02}, {"a": 0.05}, 0.25, False)
    other = DriftReport("learned", 500, 600, 2, {"a": 1, "b": 1}, {"b": 0.4}, {"a": 0.07}, 0.25, True)
    whole = merge_drift(one, other)
    assert whole == DriftReport(
        "learned", 1000, 1600, 5, {"a": 4, "b": 1}, {"b": 0.4, "a": 0.1}, {"a": 0.07}, 0.25, True
    )  # fmt: skip
    assert list(whole.psi) == ["b", "a"]
    assert merge_drift(DriftReport(), other) == other
    assert merge_drift(one, DriftReport()) == one
    given = msgspec.structs.replace(one, source="metadata")
    assert merge_drift(given, given).reference_rows == 500
    assert merge_drift(one, DriftReport("learning", 20)).source == "learning"
