"""Inputs made up from a signature, to warm a model up, measure it and see whether its rows are independent of each other."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skerry.inference.engine.signature import Signature, numpy_dtype

# what an open dimension that is not the batch may be: a model takes the first that it runs with
OPEN_SIZES = (1, 8, 32, 224)
_RELATIVE, _ABSOLUTE = 1e-3, 1e-4


def sample_feed(inputs: Sequence[Signature], rows: int, open_size: int = 1, seed: int = 0) -> dict[str, NDArray[Any]]:
    """A feed of `rows` rows that differ from each other: normal numbers, 0 and 1 for integers (an index of anything is in range),
    short words. Open dimensions but the first are `open_size`. Raises `TypeError` for a dtype that numpy does not have."""
    random = np.random.default_rng(seed)
    feed: dict[str, NDArray[Any]] = {}
    for signature in inputs:
        shape = tuple(rows if at == 0 and size is None else size or open_size for at, size in enumerate(signature.shape))
        if signature.dtype == "string":
            words = random.integers(0, 10, shape).astype(str)
            feed[signature.name] = np.asarray(words, object).reshape(shape)
            continue
        dtype = numpy_dtype(signature.dtype)
        made = random.normal(0, 1, shape) if dtype.kind in "fc" else random.integers(0, 2, shape)
        feed[signature.name] = np.asarray(made).astype(dtype).reshape(shape)
    return feed


def first_rows(feed: Mapping[str, NDArray[Any]], rows: int) -> dict[str, NDArray[Any]]:
    """A feed of `rows` rows out of one that has at least one: repeated when it has fewer."""
    return {name: np.resize(array, (rows, *array.shape[1:])) for name, array in feed.items()}


def agree(one: Any, other: Any) -> bool:
    """Whether two outputs are equal up to rounding: arrays, and lists and dicts of them (sequences and maps)."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(agree(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(agree(*pair) for pair in zip(one, other, strict=True))
    first, second = np.asarray(one), np.asarray(other)
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    if first.dtype.kind == "V":  # bfloat16 and its kin: numpy compares them bit by bit only
        first, second = first.astype(np.float64), second.astype(np.float64)
    if first.dtype.kind not in "fc":
        return bool(np.array_equal(first, second))
    with np.errstate(invalid="ignore", over="ignore"):  # NaN and infinity are equal to themselves here
        return bool(np.allclose(first, second, _RELATIVE, _ABSOLUTE, equal_nan=True))


def rows_of(value: Any) -> int:
    """Rows of an output; -1 for one that has none, such as a single number."""
    if isinstance(value, np.ndarray):
        return int(value.shape[0]) if value.ndim else -1
    return len(value) if isinstance(value, list) else -1


def join(values: Sequence[Any]) -> Any:
    """Outputs of runs that followed each other as the output of one."""
    if isinstance(values[0], list):
        return [each for value in values for each in value]
    return np.concatenate(values)
