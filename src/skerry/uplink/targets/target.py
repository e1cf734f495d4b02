"""Where envelopes go: the seam that each kind of centre stands behind."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

from skerry.core.errors import OverloadedError, RejectedError

TIMEOUT_S = 30.0
TakeCommand = Callable[[bytes], None]


class Place(msgspec.Struct, frozen=True):
    """What all kinds of targets are made of.

    Attributes:
        url: of the broker, the endpoint or the directory. topic: for mqtt and nats.
        ca: a PEM file with the authorities of the centre's certificate; empty: those of this machine.
    """

    kind: str
    url: str
    node: str
    site: str
    topic: str = ""
    credentials: Path | None = None
    ca: str = ""
    commands: bool = False

    @property
    def subject(self) -> str:
        """The topic of this node's envelopes."""
        return self.topic or f"uplink/{self.site}/{self.node}"

    @property
    def orders(self) -> str:
        """The topic that commands for this node come on."""
        return f"uplink-commands/{self.site}/{self.node}"


class HeldUpError(OverloadedError):
    """The centre asks to wait: `wait` seconds, 0 where it does not say."""

    def __init__(self, message: str, *, where: str = "", mend: str = "", wait: float = 0.0) -> None:
        super().__init__(message, where=where, mend=mend)
        self.wait = wait


class TooLargeError(RejectedError):
    """The centre takes smaller envelopes only."""


class Target(Protocol):
    """One centre. Connects when it is first needed, and again after an error."""

    where: str
    """For people, without a secret."""

    async def send(self, envelope: bytes) -> None:
        """Return when the centre has it for good. Raises `UnavailableError`, `OverloadedError` or `RejectedError`."""
        ...

    async def close(self) -> None: ...
