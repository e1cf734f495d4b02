"""A detector for recordings that needs no training: how far the last seconds lie from the minute before them."""

import numpy as np
from numpy.typing import NDArray

RECENT = 10
columns = ("deviation",)


def deviation(values: NDArray[np.float64], offsets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean over the sensors of |mean of the last 10 samples - mean of those before| / their standard deviation, capped at 10.

    Args:
        values: `[total, sensors]`, the samples of all windows end to end.
        offsets: `[n + 1]`, where each window begins.

    Returns:
        `[n, 1]`; 0 for windows of fewer than 20 samples.
    """
    scores = np.zeros((len(offsets) - 1, 1))
    for at in range(len(scores)):
        window = values[offsets[at] : offsets[at + 1]]
        if len(window) < 2 * RECENT:
            continue
        before, recent = window[:-RECENT], window[-RECENT:]
        spread = before.std(axis=0) + 1e-9 * (1.0 + np.abs(before.mean(axis=0)))
        scores[at, 0] = np.minimum(np.abs(recent.mean(axis=0) - before.mean(axis=0)) / spread, 10.0).mean()
    return scores
