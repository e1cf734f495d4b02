"""What a connector is: one small class with two methods, and what it is given and gives.

A source has `read` and `test`, a sink has `send` and `test`. Whoever runs it holds the retries, the cursor, the bounds and the
counts, so a connector only knows how its other side speaks.
"""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import msgspec

MOST_MESSAGES = 500
"""Messages of a batch: what a source holds unacknowledged at one time."""


class Message(msgspec.Struct, frozen=True):
    """One message for the node's log.

    Attributes:
        topic: an MQTT topic of the node, without wildcards.
        id: the same for the same message whenever it is read; what is stored twice within two minutes is kept once.
    """

    topic: str
    payload: bytes
    id: str = ""


class Batch(msgspec.Struct, frozen=True):
    """What a source has read: messages, and where to go on behind them after a restart (None: as before)."""

    messages: Sequence[Message]
    cursor: bytes | None = None


class Outgoing(msgspec.Struct, frozen=True):
    """What a sink gets: an event of a pipeline, or a message of the log.

    Attributes:
        id: the same for the same event or message, however often it is sent.
        pipeline, key, state: of an event; empty for a message. topic: of a message; for an event where MQTT has it.
        via: the connector that brought the message in, empty where a device did.
    """

    id: str
    topic: str
    payload: bytes
    pipeline: str = ""
    key: str = ""
    state: str = ""
    via: str = ""


class Place(msgspec.Struct, frozen=True):
    """Where a connector stands.

    Attributes:
        base: what relative paths start from. twins: connectors that bring in from where this one brings out to.
        data: where it may keep files of its own; None: below `base`.
    """

    name: str
    node: str = "node"
    site: str = "site"
    base: Path = Path()
    twins: tuple[str, ...] = ()
    data: Path | None = None


@runtime_checkable
class Source(Protocol):
    """Brings in. `Settings` is the struct of its keys in `[[connectors]]`."""

    Settings: ClassVar[type[msgspec.Struct]]

    def read(self, cursor: bytes) -> AsyncIterator[Batch]:
        """Batches for ever, from a cursor of its own on (empty: the first time).

        It is resumed when the batch before is durable in the log: what follows the `yield` is the place to acknowledge to the
        outside. Raises `SkerryError` or `OSError` where it gets no further; it is called again after a while."""
        ...

    async def test(self) -> str:
        """One sentence on the other side, looked at now. Raises `SkerryError` or `OSError` where it is not there."""
        ...


@runtime_checkable
class Sink(Protocol):
    """Brings out. `Settings` is the struct of its keys in `[[connectors]]`."""

    Settings: ClassVar[type[msgspec.Struct]]

    async def send(self, batch: Sequence[Outgoing]) -> None:
        """Returns when all of it is where it should be. Raises `UnavailableError` or `OSError`: the same batch comes again;
        `RejectedError`: the other side will never take it, it is counted and given up."""
        ...

    async def test(self) -> str:
        """See `Source`."""
        ...


class Connector:
    """What connectors may inherit; nothing of it is needed.

    Attributes:
        trouble: why nothing moves just now, in one sentence; shown on `status`.
        dropped: what it threw away on purpose, by reason.
    """

    Settings: ClassVar[type[msgspec.Struct]] = msgspec.Struct

    def __init__(self, settings: Any, place: Place) -> None:
        self.settings = settings
        self.place = place
        self.trouble = ""
        self.dropped: dict[str, int] = {}

    def drop(self, reason: str, count: int = 1) -> None:
        """Count what is thrown away."""
        self.dropped[reason] = self.dropped.get(reason, 0) + count

    async def close(self) -> None:
        """Let go of what is open; nothing is sent or read afterwards."""
