"""Quantiles that can be merged: counts in buckets whose bounds grow by a constant factor, so that each is off by 1 % at most. Pure.

Source: Masson, Rim, Lee, "DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees", VLDB 2019.
"""

import math

import numpy as np
from numpy.typing import NDArray

ACCURACY = 0.01
_GAMMA = (1 + ACCURACY) / (1 - ACCURACY)
_LOG = math.log(_GAMMA)
_SMALLEST = 1e-12
_SHIFT = 1 << 17
"""Keys of positive values lie above, of negative ones below 0, which is the key of what is nearer to 0 than 1e-12."""
Ints = NDArray[np.int64]


def keys_of(values: NDArray[np.float64]) -> Ints:
    """The bucket of each value (int64 [N]); larger values have larger keys. Values are finite."""
    size = np.abs(values)
    near = size <= _SMALLEST
    none_near = not near.any()
    # whoever is near to 0 is told apart below
    keys = np.ceil(np.log(size if none_near else np.where(near, 1.0, size)) / _LOG).astype(np.int64) + _SHIFT
    below = values < 0
    if below.any():
        np.negative(keys, out=keys, where=below)
    if not none_near:
        keys[near] = 0
    return keys


def merged(keys: Ints, counts: Ints) -> tuple[Ints, Ints]:
    """One sketch of the buckets of several."""
    distinct, place = np.unique(keys, return_inverse=True)
    return distinct, np.bincount(place, weights=counts, minlength=len(distinct)).astype(np.int64)


def quantile(keys: Ints, counts: Ints, q: float) -> float:
    """The value at `q` (0 to 1) of a sketch, off by 1 % at most; NaN for an empty one."""
    if not len(keys):
        return math.nan
    rank = q * (int(counts.sum()) - 1)
    key = int(keys[np.searchsorted(np.cumsum(counts), rank, side="right")])
    if key == 0:
        return 0.0
    size = 2 * math.exp((abs(key) - _SHIFT) * _LOG) / (_GAMMA + 1)
    return math.copysign(size, key)
