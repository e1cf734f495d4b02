"""A detector for recordings that needs no training: how far the last ten readings lie from what was usual some minutes ago."""

import numpy as np
from numpy.typing import NDArray

WINDOW = 480
"""Samples of a window: at one reading a second the last eight minutes."""
USUAL = 120
RECENT = 10
columns = ("deviation",)


def deviation(values: NDArray[np.float64], offsets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean over the sensors of |mean of the last 10 samples - mean of the first 120| / their standard deviation, each at most 10.

    Args:
        values: `[total, sensors]`, the samples of all windows end to end.
        offsets: `[n + 1]`, where each window begins.

    Returns:
        `[n, 1]`; 0 for windows of fewer than 130 samples.
    """
    scores = np.zeros((len(offsets) - 1, 1))
    for at in range(len(scores)):
        window = values[offsets[at] : offsets[at + 1]]
        if len(window) < USUAL + RECENT:
            continue
        usual, recent = window[:USUAL], window[-RECENT:]
        spread = usual.std(axis=0) + 1e-9 * (1.0 + np.abs(usual.mean(axis=0)))
        scores[at, 0] = np.minimum(np.abs(recent.mean(axis=0) - usual.mean(axis=0)) / spread, 10.0).mean()
    return scores
