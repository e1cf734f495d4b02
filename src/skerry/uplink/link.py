"""The agent's side of the uplink: one child while there is a centre, its reports, and orders passed on to it."""

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from skerry.core import log
from skerry.core.clock import Clock
from skerry.core.errors import UnavailableError
from skerry.runtime import Confinement, ReportingChild, Role
from skerry.uplink.protocol import Assignment, Broker, LinkTest, Order, Pause, Report, Said, Tested

ROLE = Role("uplink", "skerry.uplink", 512 * 1024 * 1024, nice=4)
TEST_S = 45.0


class UplinkProcess(ReportingChild[Assignment, Report]):
    """The uplink as the agent sees it.

    Attributes:
        saved: what the last report of any child said of it (`Gatherer.counts`).
        on_commands: called with the commands that came from the centre.
    """

    def __init__(self, run_dir: Path, clock: Clock, confinement: Confinement | None = None) -> None:
        super().__init__(ROLE, Report, run_dir, clock, log.get("uplink"), confinement)
        self.saved: dict[str, Any] = {}
        self.on_commands: Callable[[list[bytes]], None] = lambda commands: None
        self._broker: Broker | None = None
        self._numbers = itertools.count(1)

    def greeting(self) -> list[msgspec.Struct]:
        """Where the log is."""
        return [self._broker] if self._broker is not None else []

    def heard(self, report: Report) -> None:
        """Keep what is told once, and hand commands on."""
        self.saved = report.saved
        if report.commands:
            self.on_commands(report.commands)

    async def place(self, broker: Broker) -> None:
        """Where the log is."""
        self._broker = broker
        await self._order(broker)

    async def pause(self, paused: bool) -> None:
        """Send no more, or go on. It counts for this child and all that follow it."""
        if self.assignment is not None:
            self.assignment = msgspec.structs.replace(self.assignment, paused=paused)
        await self._order(Pause(paused))

    async def say(self, event: bytes) -> None:
        """Queue an event of the node's own for the centre."""
        await self._order(Said(event))

    async def test(self) -> Tested:
        """Send an envelope without items. Raises `UnavailableError` where there is no uplink."""
        if self.assignment is None:
            raise UnavailableError("this node has no uplink", mend="set uplink.url")
        number = next(self._numbers)
        try:
            async with asyncio.timeout(TEST_S):
                await self.ready.wait()
                await self._order(LinkTest(number))
                while self.report is None or self.report.tested.number < number:
                    self.reported.clear()
                    await self.reported.wait()
                return self.report.tested
        except TimeoutError as error:
            raise UnavailableError(f"the link test took over {TEST_S:g} s", where=self.assignment.config.url) from error

    async def _order(self, order: Order) -> None:
        with contextlib.suppress(OSError):
            await self.tell(order)

    def durable(self) -> int | None:
        """How far the uplink has read the log, stored; None while it is not known."""
        return self.report.cursor if self.report is not None and self.report.cursor >= 0 else None
