"""Where the blocks of a history stand: their keys in the store, and what a series and its samples must be."""

import numpy as np

from skerry.core.errors import RejectedError
from skerry.store.columns import Floats, Ints

LONGEST_NAME = 512


def check_samples(series: str, times: Ints, values: Floats) -> None:
    if not 1 <= len(series.encode()) <= LONGEST_NAME or "\0" in series:
        raise RejectedError(f"{series[:80]!r} is no name of a series", mend=f"use 1 to {LONGEST_NAME} bytes")
    if times.dtype != np.int64 or values.dtype != np.float64 or times.ndim != 1 or times.shape != values.shape:
        raise RejectedError(
            f"expected int64 [N] and float64 [N], got {times.dtype} {list(times.shape)} and {values.dtype} {list(values.shape)}"
        )


def key_of(series: str, number: int) -> bytes:
    # signed numbers in order of their bytes
    return series.encode() + b"\0" + (number + (1 << 63)).to_bytes(8, "big")


def number_of(key: bytes) -> int:
    return int.from_bytes(key[-8:], "big") - (1 << 63)
