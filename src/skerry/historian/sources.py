"""Where history is read from: a running node over its API, or the files of one that does not run. Blocking calls."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote

import numpy as np

from skerry.core.clock import Clock, SystemClock, to_rfc3339
from skerry.core.errors import RejectedError, suggestion
from skerry.http import Client
from skerry.store import Archive, Floats, Ints, StorageConfig, SyncKeyValueStore

PAGE = 20_000
_SERIES = "/api/v1/series"
_NAMES = 1000


class Points(NamedTuple):
    """Times (int64 [N], microseconds) and values (float64 [N])."""

    times: Ints
    values: Floats

    def table(self) -> Any:
        """A pyarrow table of the columns time (UTC) and value. Raises `RejectedError` without pyarrow."""
        try:
            import pyarrow as pa
        except ImportError as error:
            raise RejectedError("a table needs pyarrow", mend="pip install 'skerry[parquet]'") from error
        return pa.table({"time": pa.array(self.times, pa.timestamp("us", "UTC")), "value": self.values})


class Asked(NamedTuple):
    """What is asked of a series: microseconds `[start, end)`; `every` None: the samples themselves."""

    start: int
    end: int
    every: int | None = None
    aggregate: str = "mean"


class Source(Protocol):
    """A history that can be read."""

    def series(self, prefix: str = "") -> list[str]:
        """Names in order."""
        ...

    def pages(self, name: str, asked: Asked, most: int | None = None) -> Iterator[Points]:
        """What is asked, in pages of `PAGE` rows, or of fewer. Raises `RejectedError` for an unknown series."""
        ...

    def close(self) -> None:
        """Let go of what is held."""
        ...


class NodeSource:
    """A node's history over its API."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def series(self, prefix: str = "") -> list[str]:
        found: list[str] = []
        after: str | None = ""
        while after is not None:
            answer = self._client.get(_SERIES, {"prefix": prefix, "after": after, "limit": _NAMES})
            found += [row["name"] for row in answer["series"]]
            after = answer["next"]
        return found

    def pages(self, name: str, asked: Asked, most: int | None = None) -> Iterator[Points]:
        begin: int | None = asked.start
        while begin is not None:
            query: dict[str, object] = {"from": _seconds(begin), "to": _seconds(asked.end), "limit": most or PAGE}
            if asked.every is not None:
                query |= {"every": f"{asked.every}us", "agg": asked.aggregate}
            answer = self._client.get(f"{_SERIES}/{quote(name, safe='')}", query)
            yield Points(np.array(answer["times"], np.int64), np.array(answer["values"], np.float64))
            begin = answer["next"]

    def close(self) -> None:
        self._client.close()


class DirectorySource:
    """The history's files; no node may have them open. Raises `UnavailableError` where one has."""

    def __init__(self, directory: Path, clock: Clock | None = None) -> None:
        if not (directory / "db").is_dir():
            raise RejectedError("there is no history", where=str(directory), mend="name a directory with one, such as data/history")
        clock = clock or SystemClock()
        self._store = SyncKeyValueStore(StorageConfig(directory, compression="none", cache="8MiB", write_buffer="8MiB"), clock)
        self._archive = Archive(self._store, clock=clock)

    def series(self, prefix: str = "") -> list[str]:
        return self._archive.series(prefix)

    def pages(self, name: str, asked: Asked, most: int | None = None) -> Iterator[Points]:
        known = self._archive.series()
        if name not in known:
            raise RejectedError(unknown(name, known), mend="see `skerry data series`")
        begin: int | None = asked.start
        while begin is not None:
            times, values, begin = self._archive.page(name, begin, asked.end, asked.every, asked.aggregate, most or PAGE)
            yield Points(times, values)

    def close(self) -> None:
        self._store.close()


def unknown(name: str, known: list[str]) -> str:
    """The sentence about a series that is not there."""
    return f"there is no series {name[:200]!r}{suggestion(name, known)}"


def whole(source: Source, name: str, asked: Asked) -> Points:
    """All pages as one."""
    parts = list(source.pages(name, asked))
    return Points(np.concatenate([part.times for part in parts]), np.concatenate([part.values for part in parts]))


def _seconds(microseconds: int) -> str:
    # the API takes numbers below 1e11 as seconds, which covers the years 1970 to 5138
    return f"{microseconds // 1_000_000}.{microseconds % 1_000_000:06d}" if microseconds >= 0 else to_rfc3339(microseconds)
