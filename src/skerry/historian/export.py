"""Writing history into files: CSV as text, Parquet by pyarrow, a page at a time."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from skerry.core.errors import RejectedError, UnavailableError
from skerry.historian.sources import Asked, Points, Source
from skerry.store import Floats, Ints

HEADER = "series,time,value\n"


def text_times(times: Ints) -> list[str]:
    """RFC 3339, UTC, with microseconds."""
    found: list[str] = np.datetime_as_string(times.astype("datetime64[us]"), unit="us", timezone="UTC").tolist()
    return found


def text_values(values: Floats) -> list[str]:
    """Each value as the shortest text that gives it back bit for bit."""
    return [repr(value) for value in values.tolist()]


def write_csv(source: Source, names: Iterable[str], asked: Asked, write: Callable[[str], object]) -> int:
    """A line a sample, series after series; how many."""
    count = 0
    write(HEADER)
    for name in names:
        quoted = '"' + name.replace('"', '""') + '"' if any(mark in name for mark in ',"\r\n') else name
        for page in source.pages(name, asked):
            rows = zip(text_times(page.times), text_values(page.values), strict=True)
            write("".join(f"{quoted},{time},{value}\n" for time, value in rows))
            count += len(page.times)
    return count


def write_parquet(source: Source, names: Iterable[str], asked: Asked, out: Path) -> int:
    """The columns series, time (microseconds, UTC) and value into a new file, which is there when all is in it; how many rows.

    Raises `RejectedError` without pyarrow, or where the file is there already, `UnavailableError` where it cannot be written."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise RejectedError("Parquet needs pyarrow", where=str(out), mend="pip install 'skerry[parquet]'") from error
    if out.exists():
        raise RejectedError("is there already", where=str(out), mend="name a new file")
    kinds = [("series", pa.string()), ("time", pa.timestamp("us", "UTC")), ("value", pa.float64())]
    schema, temporary, count = pa.schema(kinds), out.with_name(out.name + ".new"), 0
    try:
        with parquet.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for name in names:
                for page in source.pages(name, asked):
                    writer.write_table(pa.table(_columns(name, page), schema))
                    count += len(page.times)
        temporary.replace(out)
    except OSError as error:
        raise UnavailableError(f"cannot be written: {error}", where=str(out), mend="make room, or name another file") from error
    finally:
        temporary.unlink(missing_ok=True)
    return count


def _columns(name: str, page: Points) -> list[Any]:
    return [[name] * len(page.times), page.times, page.values]
