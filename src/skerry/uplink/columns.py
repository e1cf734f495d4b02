"""Columns of an envelope: one value where all are the same, else a list. Pure."""

import itertools
from collections.abc import Sequence
from typing import Annotated, TypeVar

import msgspec

from skerry.core.errors import CorruptError

MOST_ITEMS = 10_000
"""Items of an envelope."""
T = TypeVar("T")
Most = Annotated[list[T], msgspec.Meta(max_length=MOST_ITEMS)]
Whole = int | Most[int]


def column(values: Sequence[T]) -> T | list[T]:
    """Values as they are written; those of an empty column are one, whatever it is."""
    first = values[0] if values else 0
    # 1, 1.0 and -0.0 are told apart
    return first if all(repr(value) == repr(first) for value in values) else list(values)  # type: ignore[return-value]  # of none any


def spread(written: T | list[T], count: int) -> list[T]:
    """The values that were written. Raises `CorruptError` for another number of them."""
    values = written if isinstance(written, list) else [written] * count
    if len(values) != count:
        raise CorruptError(f"a column of {len(values)} for {count}")
    return values


def steps(values: Sequence[int]) -> list[int]:
    """From each to the next."""
    return [later - before for before, later in itertools.pairwise(values)]
