"""What agent and connector process say to each other: JSON lines down on stdin and up on stdout."""

import msgspec

from skerry.connector.spec import ConnectorSpec


class Assignment(msgspec.Struct, frozen=True):
    """All that the process needs but for where the log is; the first line it reads.

    Attributes:
        base: what relative paths start from. longest: bytes of a payload that the broker takes.
        data: the node's data directory.
    """

    node: str
    site: str
    base: str
    longest: int
    connectors: tuple[ConnectorSpec, ...]
    data: str = ""


class Broker(msgspec.Struct, frozen=True):
    """Where the log is, and how to log in there: the lines after the first."""

    host: str
    port: int
    user: str
    password: str


class ConnectorReport(msgspec.Struct):
    """One connector since the process started.

    Attributes:
        moved: messages brought in and stored, or brought out and taken. refused: given up, by reason.
        errors: times that it failed and was tried again. last: microseconds of the last message that moved, 0: none.
        waiting: events or messages read and not yet taken by the other side.
        trouble: why nothing moves now, empty while all is well.
        cursor: of the log, stored, of one that reads it; -1 while it is not known; None: it reads no log.
    """

    moved: int = 0
    refused: dict[str, int] = {}
    errors: int = 0
    last: int = 0
    waiting: int = 0
    trouble: str = ""
    cursor: int | None = None


class Report(msgspec.Struct):
    """A line from the process, about twice a second: its connectors by name."""

    connectors: dict[str, ConnectorReport] = {}
