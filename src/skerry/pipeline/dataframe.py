"""Data frames of pandas and polars as rows, without importing either."""

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from skerry.core.errors import RejectedError


def is_frame(source: object) -> bool:
    """Whether this is a data frame of pandas or polars."""
    return hasattr(source, "columns") and (hasattr(source, "to_dicts") or hasattr(source, "itertuples"))


def frame_rows(frame: Any, time: str) -> Iterator[dict[str, Any]]:
    """The rows of a data frame; what is missing is None, and a time without a zone is UTC.

    An index that has a name is a column too; one of times that has none is the pipeline's time. Raises `RejectedError`.
    """
    if hasattr(frame, "to_dicts"):
        for row in frame.iter_rows(named=True):
            yield {name: _plain(value) for name, value in row.items()}
        return
    indexed = _with_index(frame, time)
    names = [str(name) for name in indexed.columns]
    if len(set(names)) != len(names):
        raise RejectedError("two columns of the data frame have one name", mend="give every column its own name")
    for cells in indexed.itertuples(index=False, name=None):
        yield {name: _plain(value) for name, value in zip(names, cells, strict=True)}


def _with_index(frame: Any, time: str) -> Any:
    names = list(frame.index.names)
    if any(name is not None and name not in frame.columns for name in names):
        return frame.reset_index()
    if time and names == [None] and time not in frame.columns and getattr(frame.index.dtype, "kind", "") == "M":
        return frame.rename_axis(time).reset_index()
    return frame


def _plain(value: Any) -> Any:
    """A cell as JSON knows it: numpy's and pandas' numbers and times become Python's."""
    if isinstance(value, float):
        return None if math.isnan(value) else float(value)
    if isinstance(value, datetime):
        if value != value:  # noqa: PLR0124 - pandas' NaT, which alone is not itself
            return None
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if hasattr(value, "item") and not isinstance(value, bytes | str):
        return _plain(value.item())
    return None if type(value).__name__ in ("NAType", "NaTType") else value
