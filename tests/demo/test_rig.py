"""The detector for recordings: its figures by hand, and that a window's score is its own."""

import numpy as np
import pytest

from skerry.demo.rig import RECENT, USUAL, WINDOW, columns, deviation


def window(samples: int, shift: float = 0.0, seed: int = 1, sensors: int = 8) -> np.ndarray:
    values = np.random.default_rng(seed).normal(50.0, 2.0, (samples, sensors))
    values[-RECENT:] += shift
    return values


def score(*windows: np.ndarray) -> list[float]:
    offsets = np.cumsum([0, *map(len, windows)]).astype(np.int64)
    found = deviation(np.concatenate(windows), offsets)
    assert found.shape == (len(windows), len(columns))
    return [float(each) for each in found[:, 0]]


def test_it_is_the_shift_in_standard_deviations() -> None:
    values = window(WINDOW)
    usual = values[:USUAL]
    (plain,) = score(values)
    assert 0 <= plain < 1, "nothing happened"
    values[-RECENT:] = usual.mean(axis=0) + 4 * usual.std(axis=0)
    assert score(values) == [pytest.approx(4.0, rel=1e-6)]
    values[-RECENT:, 1:] = usual.mean(axis=0)[1:]
    assert score(values) == [pytest.approx(4.0 / 8, rel=1e-6)], "the mean over the sensors"


def test_one_sensor_cannot_decide_alone() -> None:
    values = window(WINDOW)
    values[-RECENT:] = values[:USUAL].mean(axis=0)
    values[-RECENT:, 0] = 1e12
    assert score(values) == [pytest.approx(10 / 8, rel=1e-6)]


def test_short_windows_have_no_score() -> None:
    assert score(window(USUAL + RECENT - 1, 100.0)) == [0.0]
    assert score(window(USUAL + RECENT, 100.0))[0] > 5
    assert score(window(1), window(2)) == [0.0, 0.0]


def test_a_sensor_that_stands_still_gives_a_finite_score() -> None:
    still = np.full((WINDOW, 8), 7.0)
    assert score(still) == [0.0]
    still[-RECENT:] += 1e-3
    assert score(still) == [10.0]


def test_a_window_scores_the_same_alone_and_among_others() -> None:
    windows = [window(WINDOW, shift, seed) for seed, shift in enumerate((0.0, 3.0, 50.0))] + [window(40)]
    assert score(*windows) == [score(each)[0] for each in windows]
