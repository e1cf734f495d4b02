"""The node's connectors: which run, what holds the log for them, and what `status` and the API say of them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from skerry.config import NodeConfig
from skerry.connector import (
    Assignment,
    ConnectorProcess,
    ConnectorReport,
    ConnectorSpec,
    Message,
    Place,
    fault_of,
    open_connector,
    store,
)
from skerry.core.clock import Clock, to_rfc3339
from skerry.core.errors import OverloadedError, RejectedError, UnavailableError
from skerry.http import NotFoundError, RefusedError, TooManyRequestsError
from skerry.node.link import Link
from skerry.runtime import Confinement

PUSHED = ("http", "in")
"""What is posted to the API is stored by the agent: it has the request to answer."""
MOST_UNDER_WAY, MOST_MESSAGES = 16, 500
FULL_WAIT_S = 5.0
Row = dict[str, Any]


class NodeConnectors(ConnectorProcess):
    """The connector process with what a node's configuration says; off without `[[connectors]]`."""

    def __init__(self, config: NodeConfig, clock: Clock, confinement: Confinement | None, link: Callable[[], Link]) -> None:
        super().__init__(config.data_dir / "run", clock, confinement)
        self._link = link
        self._specs: tuple[ConnectorSpec, ...] = ()
        self._clock = clock
        self._doors: dict[str, Any] = {}
        self._reports: dict[str, ConnectorReport] = {}
        self._under_way = 0
        self.take_config(config)

    def take_config(self, config: NodeConfig) -> None:
        """Run what the configuration says from now on."""
        self._specs = config.connectors
        running = tuple(spec for spec in self._specs if spec.enabled and (spec.kind, spec.direction) != PUSHED)
        self._longest = config.broker.max_payload_bytes
        place = Place("", config.node.name, config.node.site, config.base)
        doors = [spec for spec in self._specs if spec.enabled and (spec.kind, spec.direction) == PUSHED]
        self._doors = {spec.name: open_connector(spec, replace(place, name=spec.name)) for spec in doors}
        self._reports = {name: self._reports.get(name, ConnectorReport()) for name in self._doors}
        node, longest = config.node, config.broker.max_payload_bytes
        given = Assignment(node.name, node.site, str(config.base), longest, running, str(config.data_dir))
        self.assign(given if running else None)

    def lowest(self, durable: int | None) -> int | None:
        """The lowest stored cursor, with those of connectors that read the log; None while one is not known."""
        if durable is None or not any(spec.table.get("topics") for spec in self._outgoing()):
            return durable
        mine = self.durable()
        return None if mine is None else min(mine, durable)

    def _outgoing(self) -> list[ConnectorSpec]:
        return [spec for spec in self._specs if spec.enabled and spec.direction == "out"]

    def figures(self) -> Mapping[str, ConnectorReport]:
        """What each has done since its process started."""
        return {**(self.report.connectors if self.report is not None else {}), **self._reports}

    def rows(self) -> list[Row]:
        """`{name, kind, direction, state, moved, refused, errors, waiting, last, trouble}` each."""
        return [self._row(spec, self.figures().get(spec.name)) for spec in self._specs]

    def _row(self, spec: ConnectorSpec, report: ConnectorReport | None) -> Row:
        if report is None:
            words = self.last_words if spec.enabled else ""
            state, report = ("starting" if spec.enabled else "off"), ConnectorReport(trouble=words)
        else:
            state = "waiting" if report.trouble else "running"
        return {
            "name": spec.name,
            "kind": spec.kind,
            "direction": spec.direction,
            "state": state,
            "moved": report.moved,
            "refused": report.refused,
            "errors": report.errors,
            "waiting": report.waiting,
            "last": to_rfc3339(report.last) if report.last else None,
            "trouble": report.trouble,
        }

    async def ingest(self, name: str, body: bytes, headers: Mapping[str, str], by: str) -> Row:
        """See `skerry.api.ConnectorsView`. All of a request is taken, or nothing."""
        door = self._doors.get(name)
        if door is None:
            mend = f"there are: {', '.join(self._doors) or 'none'}"
            raise NotFoundError(f"no connector {name!r} takes what is posted", mend=mend)
        allowed, who = door.settings.tokens, by.removeprefix("token:")
        if allowed and by.startswith("token:") and who not in allowed:
            raise RefusedError(f"the token {who!r} is not for connector {name!r}")
        report = self._reports.setdefault(name, ConnectorReport())
        try:
            messages = door.messages(body, headers)
            faults = [(at, fault) for at, each in enumerate(messages) if (fault := fault_of(each, self._longest))]
            if faults:
                raise RejectedError(f"item {faults[0][0]}: {faults[0][1]}; nothing of the request is taken")
        except RejectedError:
            report.refused["wrong request"] = report.refused.get("wrong request", 0) + 1
            raise
        await self._store(name, messages, report)
        return {"stored": len(messages)}

    async def _store(self, name: str, messages: Sequence[Message], report: ConnectorReport) -> None:
        client = self._link().client
        if client is None:
            raise UnavailableError("the log is not there", mend="try again in a moment")
        if self._under_way >= MOST_UNDER_WAY:
            report.errors += 1
            raise TooManyRequestsError(f"{MOST_UNDER_WAY} requests are being stored", wait=1.0)
        self._under_way += 1
        try:
            for begin in range(0, len(messages), MOST_MESSAGES):
                await store(client, name, messages[begin : begin + MOST_MESSAGES])
        except OverloadedError as error:
            report.errors += 1
            report.trouble = str(error)
            raise TooManyRequestsError(error.message, mend=error.mend, wait=FULL_WAIT_S) from error
        finally:
            self._under_way -= 1
        report.trouble = ""
        report.moved += len(messages)
        report.last = self._clock.now()

    def shown(self) -> Row:
        """What the API answers."""
        return {"connectors": self.rows()}

    def warnings(self) -> list[str]:
        """What a person should look at."""
        found = [f"connector {row['name']} waits: {row['trouble']}" for row in self.rows() if row["trouble"]]
        for row in self.rows():
            gone = {reason: count for reason, count in row["refused"].items() if reason != "came from there"}
            if gone:
                words = ", ".join(f"{count} {reason}" for reason, count in gone.items())
                found.append(f"connector {row['name']} has given up {words}")
        if self.restarts.total:
            found.append(self.restarts.sentence("the process of the connectors", self.last_words))
        return found
