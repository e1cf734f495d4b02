"""The node's uplink: what is to leave, what holds the log for it, and what `status` and the API say of it."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from skerry.broker import WireClient
from skerry.config import NodeConfig
from skerry.core.clock import Clock, to_rfc3339
from skerry.core.errors import UnavailableError
from skerry.core.service import cancel_and_wait
from skerry.core.units import counted, parse_rate, parse_size, show_size
from skerry.node.bandwidth import Bandwidth
from skerry.node.withheld import Withheld
from skerry.runtime import Confinement
from skerry.uplink import Assignment, Broker, Report, UplinkConfig, UplinkProcess, begin_queue

Row = dict[str, Any]
LOOK_S = 60.0
BUCKETS = 2 * 64 * 1024 * 1024


def uplink_bytes(config: NodeConfig) -> int:
    """Bytes that the broker may need for queue and cursors of the uplink, and for what is known of senders."""
    queue = parse_size(config.uplink.queue.size) if config.uplink.url else 0
    return queue + BUCKETS if config.uplink.url or config.uplink.receive else 0


def _held(config: NodeConfig) -> UplinkConfig:
    """`[uplink]`, held to `resources.network` too: nothing else of a node sends by itself over the network."""
    given = [parse_rate(each) for each in (config.uplink.rate, config.resources.network) if each]
    return msgspec.structs.replace(config.uplink, rate=f"{min(given)}B/s" if given else "")


def _nothing(*_: object, **__: object) -> None:
    """Note nothing: there is no audit log."""


class NodeUplink(UplinkProcess):
    """The uplink process with what a node's configuration says; off without `uplink.url`."""

    def __init__(
        self, config: NodeConfig, clock: Clock, confinement: Confinement | None = None, note: Callable[..., None] = _nothing
    ) -> None:
        super().__init__(config.data_dir / "run", clock, confinement)
        self._withheld = Withheld(note, clock)
        self._paused_file = config.data_dir / "uplink.paused"
        self.paused = self._paused_file.exists()
        self._sent = 0
        self.bandwidth = Bandwidth(clock)
        self.take_config(config)

    def heard(self, report: Report) -> None:
        """Take in what it says."""
        super().heard(report)
        self.bandwidth.uplink_sent(report.spent)

    def held(self, pipeline: str) -> int:
        """Items of a pipeline that wait since it has sent what it may."""
        return self.report.held.get(pipeline, 0) if self.report is not None else 0

    async def run(self) -> None:
        """Keep the process running, and the audit log told of what is withheld, until cancelled."""
        telling = asyncio.create_task(self._tell())
        try:
            await super().run()
        finally:
            self._withheld.look(self._withheld_so_far(), last=True)
            await cancel_and_wait(telling)

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            self._withheld.look(self._withheld_so_far())

    def _withheld_so_far(self) -> dict[str, int]:
        return dict(self.saved.get("withheld") or {})

    def take_config(self, config: NodeConfig) -> None:
        """Send what the configuration says from now on."""
        self.bandwidth.take_config(config)
        marked = {spec.name for spec in config.pipelines if any(sink.kind == "uplink" for sink in spec.sinks)}
        self.assign(
            Assignment(
                node=config.node.name,
                site=config.node.site,
                config=_held(config),
                base=str(config.base),
                data_dir=str(config.data_dir),
                pipelines=[table for table in config.pipeline_tables() if table.get("name") in marked],
                paused=self.paused,
            )
            if config.uplink.url
            else None
        )

    async def begin(self, client: WireClient) -> None:
        """Give what is to leave a beginning, where it has none."""
        if self.assignment is not None:
            await begin_queue(client)

    async def give(self, host: str, port: int, user: str, password: str) -> None:
        """Say where the log is."""
        await self.place(Broker(host, port, user, password))

    def lowest(self, durable: int | None) -> int | None:
        """The lowest stored cursor, with the uplink's; None while that is not known."""
        if self.assignment is None or durable is None:
            return durable
        if self.report is not None and not self.report.holds:
            return durable
        mine = self.durable()
        return None if mine is None else min(mine, durable)

    async def pause_for_good(self, paused: bool) -> None:
        """Pause or resume, over restarts too. Raises `UnavailableError` where there is no uplink, or that cannot be kept."""
        if self.assignment is None:
            raise UnavailableError("this node has no uplink", mend="set uplink.url")
        await self.hold(paused)

    async def hold(self, paused: bool) -> None:
        """The same, whether there is an uplink now or not."""
        await asyncio.to_thread(_keep, self._paused_file, paused)
        self.paused = paused
        await self.pause(paused)

    @property
    def bytes_sent(self) -> int:
        """Acknowledged by the centre, ever."""
        if self.report is not None:
            self._sent = max(self._sent, self.report.sent)
        return self._sent

    def status(self) -> Row | None:
        """What `status` says; None where nothing is to leave."""
        if self.assignment is None:
            return None
        report = self.report
        kind = self.assignment.config.kind
        if report is None:
            return {"sentence": f"the uplink is starting{': ' + self.last_words if self.last_words else ''}", "kind": kind}
        return {
            "sentence": _sentence(report),
            "kind": kind,
            "where": report.where,
            "paused": report.paused,
            "connected": bool(report.last) and not report.trouble,
            "trouble": report.trouble or report.gathering,
            "last": to_rfc3339(report.last) if report.last else None,
            "bytes_sent": report.sent,
            "waiting": sum(lane.waiting for lane in report.lanes.values()),
            "lanes": msgspec.to_builtins(report.lanes),
            "queue": {
                "bytes": report.queue_bytes,
                "limit": report.queue_limit,
                "thinned": report.thinned,
                "dropped": report.dropped,
            },
            "saved": report.saved,
            "cursor": report.cursor if report.holds else None,
        }

    def figures(self) -> tuple[dict[str, int], dict[str, int]]:
        """For the metrics: items that wait, by priority; items of a full queue that were thinned and dropped."""
        report = self.report
        if report is None:
            return {}, {}
        waiting = {lane: each.waiting for lane, each in report.lanes.items()}
        return waiting, {"thinned": report.thinned, "dropped": report.dropped}

    def warnings(self) -> list[str]:
        """What a person should look at."""
        found = []
        report = self.report
        if self.restarts.total:
            found.append(self.restarts.sentence("the uplink", self.last_words))
        if report is not None and report.trouble and not report.paused:
            found.append(f"the uplink does not get through, what is to leave waits: {report.trouble}")
        if self.assignment is not None and self.assignment.config.in_clear:
            found.append(
                f"what leaves for the centre can be read on the way: uplink.url begins with {self.assignment.config.scheme}://"
            )
        if report is not None and (given_up := sum(lane.unreadable for lane in report.lanes.values())):
            found.append(f"{counted(given_up, 'item')} of the uplink's queue could not be read and given up")
        if report is not None and report.gathering:
            found.append(f"nothing more is gathered for the centre: {report.gathering}")
        if report is not None and report.thinned + report.dropped:
            gone = f"{counted(report.thinned, 'item')} of raw data made roll-ups, {report.dropped} given up"
            found.append(f"the uplink's queue was full (uplink.queue.size): {gone}")
        return found


def _sentence(report: Report) -> str:
    waiting = sum(lane.waiting for lane in report.lanes.values())
    words = f"{report.where}: {show_size(report.sent)} sent, {counted(waiting, 'item')} waiting"
    if report.paused:
        return f"{words}; paused"
    return f"{words}; {report.trouble}" if report.trouble else words


def _keep(path: Path, paused: bool) -> None:
    try:
        path.touch() if paused else path.unlink(missing_ok=True)
    except OSError as error:
        raise UnavailableError(f"cannot be written: {error.strerror}", where=str(path), mend="make room on the disk") from error
