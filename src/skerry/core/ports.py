"""Seams between rooms: Protocols that `node.py` fills with what another room built."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Log(Protocol):
    """Structured log, as structlog's bound loggers have it."""

    def debug(self, event: str, **fields: object) -> None: ...
    def info(self, event: str, **fields: object) -> None: ...
    def warning(self, event: str, **fields: object) -> None: ...
    def error(self, event: str, **fields: object) -> None: ...


class Scorer(Protocol):
    """A model as a pipeline sees it: rows in, one score and one label a row out."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    def score(self, rows: "NDArray[np.float64]") -> "tuple[NDArray[np.float64], Sequence[str | int | None]]":
        """Score `[N, features]` or `[N, samples, values]` rows: float64 scores `[N]` and N labels.

        Raises `RejectedError` when the rows do not fit the model's input."""
        ...


class KeyValue(Protocol):
    """A small durable map of names to bytes."""

    async def get(self, key: str) -> bytes | None: ...
    async def set(self, key: str, value: bytes) -> None: ...
    async def delete(self, key: str) -> None: ...
    async def items(self, prefix: str = "") -> list[tuple[str, bytes]]: ...
