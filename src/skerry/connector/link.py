"""The agent's side of the connectors: one child while there are some, its reports, and where the log is passed on to it."""

import contextlib
import sys
from pathlib import Path

import msgspec

from skerry.connector.protocol import Assignment, Broker, Report
from skerry.core import log
from skerry.core.clock import Clock
from skerry.runtime import Confinement, ReportingChild, Role

ROLE = Role("connectors", "skerry.connector", 512 * 1024 * 1024, nice=2)


class ConnectorProcess(ReportingChild[Assignment, Report]):
    """The connectors as the agent sees them."""

    def __init__(self, run_dir: Path, clock: Clock, confinement: Confinement | None = None) -> None:
        super().__init__(ROLE, Report, run_dir, clock, log.get("connector"), confinement)
        self._broker: Broker | None = None

    def greeting(self) -> list[msgspec.Struct]:
        """Where the log is."""
        return [self._broker] if self._broker is not None else []

    async def give(self, host: str, port: int, user: str, password: str) -> None:
        """Say where the log is."""
        self._broker = Broker(host, port, user, password)
        with contextlib.suppress(OSError):
            await self.tell(self._broker)

    def durable(self) -> int | None:
        """How far those have read the log that read it, stored; None while one has not said."""
        if self.report is None:
            return None
        cursors = [each.cursor for each in self.report.connectors.values() if each.cursor is not None]
        return None if -1 in cursors else min(cursors, default=sys.maxsize)
