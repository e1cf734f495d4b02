"""The node's telemetry: its metrics for an OpenTelemetry collector, and now and then a message of each pipeline as a trace."""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from skerry.core import log
from skerry.core.clock import Clock
from skerry.core.errors import ConfigError, SkerryError
from skerry.core.service import supervise, until_one_ends
from skerry.core.settings import place
from skerry.core.units import counted, parse_duration, parse_size
from skerry.http import Poster
from skerry.node.tracing import MOST_S, began_of, follow
from skerry.pipeline import Sample
from skerry.telemetry import installed
from skerry.worker import merge_reports

if TYPE_CHECKING:
    from skerry.node.life import Node
    from skerry.telemetry import Lane

Row = dict[str, Any]
MOST_FOLLOWED = 8
"""Messages that are followed at one time; the workers take twice as many, so that people can ask too."""
_MEND = "pip install 'skerry[otel]', or leave telemetry.endpoint empty"
_log = log.get("telemetry")


class NodeTelemetry:
    """A service; without `telemetry.endpoint` it does nothing and has imported nothing.

    Raises `ConfigError` when made, where the extra is missing, or a file that the section names cannot be used.
    """

    def __init__(self, node: "Node", clock: Clock) -> None:
        self._node = node
        self._clock = clock
        self._config = node.config.telemetry
        self._received: dict[str, int] = {}
        self._followed: dict[str, asyncio.Task[None]] = {}
        self._resource = {
            "service.name": "skerry", "service.namespace": node.config.node.site, "service.instance.id": node.config.node.name,
            "service.version": node.version,
        }  # fmt: skip
        self._lanes: dict[str, Lane] = self._open() if self._config.endpoint else {}

    def _open(self) -> "dict[str, Lane]":
        """A lane for spans and one for points: what one of them cannot send holds up no other."""
        where = f"{place(self._node.config.path)}: telemetry"
        if not installed():
            raise ConfigError("the extra is not installed", where=f"{where}.endpoint", mend=_MEND)
        from skerry.telemetry import Lane, read_headers  # late: it brings protocol buffers

        config, base = self._config, self._node.config.base
        try:
            headers = read_headers(base / config.headers_file if config.headers_file else None)
            ca = str(base / config.ca) if config.ca else ""
            seconds, most = parse_duration(config.timeout) / 1e6, parse_size(config.queue)
            urls = {"spans": "/v1/traces", "points": "/v1/metrics"}
            posters = {kind: Poster(config.endpoint.rstrip("/") + path, "", seconds, ca=ca) for kind, path in urls.items()}
        except ConfigError as error:
            raise error.at(where) from error
        return {kind: Lane(poster, headers, most, joined=kind == "spans") for kind, poster in posters.items()}

    async def run(self) -> None:
        """Send until cancelled."""
        if self._lanes:
            await supervise(self._work, "telemetry", self._clock, _log)

    async def _work(self) -> None:
        works = [lane.run() for lane in self._lanes.values()]
        metrics, traces = (parse_duration(each) / 1e6 for each in (self._config.metrics, self._config.traces))
        works += [work(every) for work, every in ((self._measure, metrics), (self._sample, traces)) if every]
        try:
            await until_one_ends(*works)
        finally:
            for task in self._followed.values():
                task.cancel()

    async def _measure(self, every: float) -> None:
        from skerry.node.figures import families, figures_of  # late: only who sends or is scraped needs it
        from skerry.telemetry import encode_metrics  # late: it brings protocol buffers

        while True:
            await asyncio.sleep(every)
            figures = figures_of(self._node, self._reports(), self._node.view.ready()[0])
            self._lanes["points"].put(*encode_metrics(self._resource, families(figures), self._clock.now()))

    def _reports(self) -> Mapping[str, Any]:
        return merge_reports([worker.report for worker in self._node.pool.workers])

    async def _sample(self, every: float) -> None:
        """Follow a message of each pipeline that has received some since it was looked at last, eight at one time."""
        while True:
            await asyncio.sleep(every)
            self._followed = {name: task for name, task in self._followed.items() if not task.done()}
            for name, report in self._reports().items():
                received = int((report.books or {}).get("received", 0))
                if received == self._received.get(name) or name in self._followed or len(self._followed) >= MOST_FOLLOWED:
                    continue
                self._received[name] = received
                self._followed[name] = asyncio.create_task(self._follow(name))

    async def _follow(self, pipeline: str) -> None:
        try:
            found, spans = await follow(self._node, self._clock, pipeline, "", MOST_S)
        except SkerryError:
            return  # no message came, or people have asked for so many
        self._put(pipeline, found, spans)

    def _put(self, pipeline: str, found: Sample, spans: list[Row]) -> None:
        from skerry.telemetry import Span, encode_trace  # late: it brings protocol buffers

        began = began_of(found)
        steps = []
        for span in spans:
            begin = began + round(span["begin"] * 1000)
            steps.append(Span(span["step"], begin, begin + round(span["ms"] * 1000), {"skerry.what": span["what"]}))
        told: dict[str, str | int] = {
            "messaging.system": "mqtt", "messaging.destination.name": found.topic, "messaging.message.body.size": found.size,
            "skerry.pipeline": pipeline, "skerry.key": found.key, "skerry.sequence": found.sequence,
            "skerry.outcome": found.outcome, "skerry.batch": found.batch,
        }  # fmt: skip
        if found.event:
            told["skerry.event"] = found.event
        if found.start:
            told |= {"skerry.window.start": found.start, "skerry.window.end": found.end, "skerry.window.samples": found.samples}
        root = Span(f"process {pipeline}", began, max((step.end for step in steps), default=began), told)
        seed = f"{self._node.config.node.site}\0{pipeline}\0{found.sequence}"
        self._lanes["spans"].put(encode_trace(self._resource, seed, root, steps), len(steps) + 1)

    def figures(self) -> Mapping[str, tuple[int, int]]:
        """Sent and dropped, by kind; nothing where it is off."""
        return {kind: (lane.sent, lane.dropped) for kind, lane in self._lanes.items()}

    def status(self) -> Row | None:
        """`{endpoint, sentence, spans: {sent, dropped, waiting_bytes}, points: …}`; None where it is off."""
        if not self._lanes:
            return None
        kinds = {k: {"sent": each.sent, "dropped": each.dropped, "waiting_bytes": each.waiting} for k, each in self._lanes.items()}
        words = ", ".join(f"{counted(each.sent, kind[:-1])} sent and {each.dropped} dropped" for kind, each in self._lanes.items())
        return {"endpoint": self._config.endpoint, "sentence": f"to {self._config.endpoint}: {words}", **kinds}

    def warnings(self) -> list[str]:
        """What a person should look at, one sentence each."""
        return [f"telemetry, {kind}: {lane.trouble}" for kind, lane in self._lanes.items() if lane.trouble]
