"""What agent and dashboard say to each other: one JSON line down on stdin, and a report now and then up on stdout."""

import msgspec


class Assignment(msgspec.Struct, frozen=True):
    """All that a dashboard needs; the one line that it reads.

    Attributes:
        host, port: where it listens. names: host names, in lower case, by which browsers reach it beside those of loopback.
        api: `http://host:port` of the node's API; ca: the file (PEM) that its certificate is checked by.
        cert, key: PEM files to speak TLS with, or empty.
    """

    host: str
    port: int
    api: str
    ca: str = ""
    names: list[str] = []
    cert: str = ""
    key: str = ""


class Report(msgspec.Struct, frozen=True):
    """Where it is, or why it is nowhere yet; and how many log-ins were refused."""

    url: str
    sentence: str
    sessions: int = 0
    refused: int = 0
