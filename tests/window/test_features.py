"""Features of a window against plain numpy on that window alone, and the same to the last bit in any company."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.core.errors import ConfigError
from skerry.window.features import FEATURES, Floats, compute
from skerry.window.names import NAMES, check_names, column_names

numbers = st.floats(-1e6, 1e6, width=64) | st.sampled_from([0.0, 1.0, -1.0, 1e-9, 1e12])
Rows = list[list[float]]


def windows(values: int) -> st.SearchStrategy[list[Rows]]:
    row = st.lists(numbers, min_size=values, max_size=values)
    return st.lists(st.lists(row, min_size=1, max_size=40), min_size=1, max_size=6)


batches = st.integers(1, 3).flatmap(windows)


def slope(x: Floats) -> float:
    return float(np.polyfit(np.arange(len(x)), x, 1)[0]) if len(x) > 1 else 0.0


def crossings(x: Floats) -> float:
    signs = [value > 0 for value in x - x.mean()]
    return float(sum(a != b for a, b in pairwise(signs)))


def standardised(x: Floats, order: int) -> float:
    spread = np.std(x)
    return float(np.mean((x - x.mean()) ** order) / spread**order) if spread > 0 else 0.0


def crest(x: Floats) -> float:
    rms = np.sqrt(np.mean(x * x))
    return float(np.max(np.abs(x)) / rms) if rms > 0 else 0.0


PLAIN: dict[str, Callable[[Floats], float]] = {
    "mean": lambda x: float(np.mean(x)),
    "std": lambda x: float(np.std(x)),
    "min": lambda x: float(np.min(x)),
    "max": lambda x: float(np.max(x)),
    "range": lambda x: float(np.ptp(x)),
    "rms": lambda x: float(np.sqrt(np.mean(x * x))),
    "peak": lambda x: float(np.max(np.abs(x))),
    "crest": crest,
    "skew": lambda x: standardised(x, 3),
    "kurtosis": lambda x: standardised(x, 4),
    "median": lambda x: float(np.median(x)),
    "first": lambda x: float(x[0]),
    "last": lambda x: float(x[-1]),
    "sum": lambda x: float(np.sum(x)),
    "slope": slope,
    "crossings": crossings,
    "count": lambda x: float(len(x)),
}


def together(batch: list[Rows]) -> Floats:
    values = np.array([row for window in batch for row in window], np.float64)
    offsets = np.concatenate([[0], np.cumsum([len(window) for window in batch])]).astype(np.int64)
    with np.errstate(all="ignore"):
        return compute(NAMES, values, offsets)


def test_there_is_one_list_of_names() -> None:
    assert set(NAMES) == set(FEATURES) == set(PLAIN)
    assert len(NAMES) == len(set(NAMES))


@settings(max_examples=60, deadline=None)
@given(batches)
def test_a_windows_numbers_are_the_same_bits_in_any_batch(batch: list[Rows]) -> None:
    assert [row.tobytes() for row in together(batch)] == [together([window])[0].tobytes() for window in batch]
    assert together(batch[::-1]).tobytes() == together(batch)[::-1].tobytes()


def test_large_windows_too_are_the_same_bits_in_any_batch() -> None:
    rng = np.random.default_rng(7)
    for values in (1, 2, 8):
        batch = [rng.normal(size=(size, values)).tolist() for size in (1, 2, 7, 8, 9, 127, 128, 129, 1000, 3)]
        assert [row.tobytes() for row in together(batch)] == [together([window])[0].tobytes() for window in batch]


@pytest.mark.parametrize("name", NAMES)
def test_a_feature_is_what_numpy_says_of_the_window_alone(name: str) -> None:
    rng = np.random.default_rng(3)
    for size in (1, 2, 3, 10, 257):
        batch = [rng.normal(loc, scale, (size + extra, 2)) for extra, loc, scale in ((0, 0, 1), (1, 50, 3), (2, -4, 0.1))]
        at = NAMES.index(name)
        found = together([window.tolist() for window in batch])
        expected = [[PLAIN[name](window[:, column]) for column in (0, 1)] for window in batch]
        assert found[:, [at, len(NAMES) + at]] == pytest.approx(np.array(expected), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("value", [0.0, 1.0, -7.25, 0.1, 1e9 + 0.1])
@pytest.mark.parametrize("size", [1, 2, 3, 10, 33])
def test_a_constant_window_has_no_infinite_and_no_undefined_feature(value: float, size: int) -> None:
    found = dict(zip(NAMES, together([[[value]] * size])[0].tolist(), strict=True))
    assert np.isfinite(list(found.values())).all()
    assert {found[name] for name in ("mean", "min", "max", "median", "first", "last")} == {value}
    assert {found[name] for name in ("std", "range", "skew", "kurtosis", "slope", "crossings")} == {0.0}
    assert found["crest"] == pytest.approx(1.0 if value else 0.0)
    assert found["count"] == size


def test_one_sample_is_its_own_mean_and_has_no_spread() -> None:
    found = dict(zip(NAMES, together([[[4.0]]])[0].tolist(), strict=True))
    assert {found[name] for name in ("mean", "min", "max", "rms", "peak", "median", "first", "last", "sum")} == {4.0}
    assert {found[name] for name in ("std", "range", "skew", "kurtosis", "slope", "crossings")} == {0.0}


def test_a_slope_is_per_sample_and_crossings_are_of_the_mean() -> None:
    found = dict(zip(NAMES, together([[[1.0], [3.0], [5.0], [7.0]]])[0].tolist(), strict=True))
    assert found["slope"] == pytest.approx(2.0)
    assert found["crossings"] == 1.0
    assert dict(zip(NAMES, together([[[1.0], [3.0], [1.0], [3.0]]])[0].tolist(), strict=True))["crossings"] == 3.0


def test_columns_are_value_major() -> None:
    assert column_names(["mean", "std"], ["x", "y"]) == ["x_mean", "x_std", "y_mean", "y_std"]
    found = compute(["min", "max"], np.array([[1.0, 10.0], [2.0, 20.0]]), np.array([0, 2]))
    assert found.tolist() == [[1.0, 2.0, 10.0, 20.0]]


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    check_names(NAMES)
    with pytest.raises(ConfigError, match=r"'kurtosi'.*did you mean 'kurtosis'.*allowed: .*crest"):
        check_names(["mean", "kurtosi"])
