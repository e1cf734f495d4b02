"""The connector process at work: one connection to the broker, and each connector in a task of its own."""

import asyncio
from pathlib import Path

import msgspec

from skerry.broker import WireClient
from skerry.connector.contract import Place, Sink, Source
from skerry.connector.intake import Intake
from skerry.connector.outlet import Outlet
from skerry.connector.protocol import Assignment, Broker, ConnectorReport, Report
from skerry.connector.spec import ConnectorSpec, open_connector, twins_of
from skerry.core import log
from skerry.core.clock import Clock
from skerry.core.errors import SkerryError, UnavailableError
from skerry.core.service import Backoff, until_one_ends

MOST_WAIT_S = 30.0
STEADY_S = 10.0
_log = log.get("connector")


class Engine:
    """Runs the connectors of an assignment; one that fails is tried again and holds up no other."""

    def __init__(self, given: Assignment, clock: Clock) -> None:
        self._given = given
        self._clock = clock
        self._specs = [spec for spec in given.connectors if spec.enabled]
        self._reports = {spec.name: ConnectorReport() for spec in self._specs}
        self._open: dict[str, Source | Sink] = {}
        self._broker: Broker | None = None
        self._placed = asyncio.Event()

    def place(self, broker: Broker) -> None:
        """Where the log is."""
        self._broker = broker
        self._placed.set()

    async def run(self) -> None:
        """Bring in and out until cancelled."""
        await self._placed.wait()
        backoff = Backoff(0.05, 2.0)
        while True:
            try:
                await self._live(backoff)
            except SkerryError as error:
                for report in self._reports.values():
                    report.trouble = f"the log is not there: {error}"
                _log.warning(f"connectors wait for the broker: {error}")
            await asyncio.sleep(backoff.next())

    async def _live(self, backoff: Backoff) -> None:
        """Over one connection until that ends."""
        assert self._broker is not None
        place = self._broker
        client = await WireClient.connect(place.host, place.port, place.user, place.password, "connector")
        try:
            backoff.reset()
            await until_one_ends(*(self._keep(spec, client) for spec in self._specs), _until_closed(client))
        finally:
            client.close()

    async def _keep(self, spec: ConnectorSpec, client: WireClient) -> None:
        """One connector, opened again with back-off whenever it fails, whatever it raises."""
        report, backoff = self._reports[spec.name], Backoff(0.2, MOST_WAIT_S)
        while True:
            began, moved = self._clock.monotonic(), report.moved
            try:
                await self._once(spec, client, report)
            except (SkerryError, OSError) as error:
                report.trouble = str(error) or type(error).__name__
            except Exception as error:  # noqa: BLE001 - a connector of others may raise anything, and must hurt no other
                report.trouble = f"it is broken: {type(error).__name__}: {error}"
            report.errors += 1
            _log.warning(f"connector {spec.name} waits: {report.trouble}")
            if self._clock.monotonic() - began > STEADY_S or report.moved > moved:
                backoff.reset()
            await asyncio.sleep(backoff.next())

    async def _once(self, spec: ConnectorSpec, client: WireClient, report: ConnectorReport) -> None:
        given = self._given
        own = Path(given.data) if given.data else None
        place = Place(spec.name, given.node, given.site, Path(given.base), twins_of(spec, given.connectors), own)
        connector = open_connector(spec, place)
        self._open[spec.name] = connector
        try:
            if spec.direction == "in":
                assert isinstance(connector, Source)
                await Intake(spec, connector, given.longest, report, self._clock).run(client)
            else:
                assert isinstance(connector, Sink)
                await Outlet(spec, connector, report, self._clock).run(client)
        finally:
            self._count(spec.name, report)
            self._open.pop(spec.name, None)
            close = getattr(connector, "close", None)
            if close is not None:
                await close()

    def _count(self, name: str, report: ConnectorReport) -> None:
        """What it threw away itself, so far; its counter begins at 0 again."""
        dropped = getattr(self._open.get(name), "dropped", None) or {}
        for reason, count in dropped.items():
            report.refused[reason] = report.refused.get(reason, 0) + count
        dropped.clear()

    def report(self) -> Report:
        """How it stands."""
        found = {}
        for name, report in self._reports.items():
            self._count(name, report)
            own = getattr(self._open.get(name), "trouble", "")
            found[name] = msgspec.structs.replace(report, trouble=own or report.trouble)
        return Report(found)


async def _until_closed(client: WireClient) -> None:
    raise UnavailableError(f"the connection to the broker ended: {await asyncio.shield(client.closed)}")
