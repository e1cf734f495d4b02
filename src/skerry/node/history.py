"""The node's history: what the historian is to keep, what holds the log for it, and what the API asks of it."""

import os
from pathlib import Path
from typing import Any

import msgspec

from skerry.config import NodeConfig, socket_path
from skerry.core.clock import Clock
from skerry.core.units import show_size
from skerry.historian import Answer, Assignment, Historian, Keeping, Place, Question
from skerry.runtime import Confinement

Row = dict[str, Any]


class NodeHistory(Historian):
    """The historian with what a node's configuration says; off where no pipeline has the sink and no topic is named."""

    def __init__(self, config: NodeConfig, clock: Clock, confinement: Confinement | None = None) -> None:
        super().__init__(config.data_dir / "run", clock, confinement)
        self._thin: list[str] = []
        self.take_config(config)

    def take_config(self, config: NodeConfig) -> None:
        """Keep what the configuration says from now on."""
        section = config.history
        wanted = {spec.name for spec in config.pipelines if any(sink.kind == "history" for sink in spec.sinks)}
        tables = [table for table in config.pipeline_tables() if table.get("name") in wanted]
        self.assign(
            Assignment(
                directory=str(config.history_path),
                max_size=section.max_size,
                keep=Keeping(section.kept("raw"), section.kept("1m"), section.kept("1h")),
                socket=str(_socket(config)),
                pipelines=tables,
                topics=list(section.topics),
                max_series=section.max_series,
            )
            if wanted or section.topics
            else None
        )

    async def give(self, host: str, port: int, user: str, password: str) -> None:
        """Say where the log is."""
        await self.place(Place(host, port, user, password, self._thin))

    async def thin(self, pipelines: list[str]) -> None:
        """Keep no samples of these pipelines for now: they go into the roll-ups alone."""
        if pipelines != self._thin:
            self._thin = pipelines
            if self._place is not None:
                await self.place(msgspec.structs.replace(self._place, thin=pipelines))

    def lowest(self, durable: int | None) -> int | None:
        """The lowest stored cursor, with the history's; None while that is not known."""
        if self.assignment is None or durable is None:
            return durable
        mine = self.durable()
        return None if mine is None else min(mine, durable)

    def status(self) -> Row | None:
        """What `status` says; None where no history is kept."""
        if self.assignment is None:
            return None
        report = self.report
        if report is None:
            return {"sentence": f"the historian is starting{': ' + self.last_words if self.last_words else ''}", "series": 0}
        words = f"{report.series} series, {show_size(report.bytes)} of {show_size(report.limit)}"
        return {
            "sentence": f"{words}; {report.trouble}" if report.trouble else words,
            "series": report.series,
            "samples": report.samples,
            "bytes": report.bytes,
            "limit": report.limit,
            "cursor": report.cursor,
            "given_up_bytes": report.given_up,
            "passed_over": report.passed_over,
        }

    def warnings(self) -> list[str]:
        """What a person should look at."""
        found = []
        if self.restarts.total:
            found.append(self.restarts.sentence("the historian", self.last_words))
        if self.report is not None and self.report.trouble:
            found.append(f"the history is not stored, the log waits: {self.report.trouble}")
        if self.report is not None and self.report.given_up:
            gone = show_size(self.report.given_up)
            found.append(f"the history was full (history.max_size) or the disk short: {gone} of its oldest samples were given up")
        if self.report is not None and self.report.clock_doubted:
            found.append("the clock was set by more than an hour: what is old in the history goes by the time before, for a day")
        if self.report is not None and self.report.passed_over.get("too many series"):
            found.append("the history has as many series as history.max_series allows: further ones are left out")
        return found

    async def series(self, prefix: str, after: str, limit: int) -> list[str]:
        """Names of series with a prefix, behind one."""
        return (await self.ask(Question(prefix=prefix, after=after, limit=limit))).names

    async def page(self, name: str, start: int, end: int, every: int | None, aggregate: str, limit: int) -> Row | None:
        """times and values (lists), and `next`; None for an unknown series."""
        answer: Answer = await self.ask(Question(name, start, end, every or 0, aggregate, limit))
        if not answer.known:
            return None
        return {
            "times": memoryview(answer.times).cast("q").tolist(),
            "values": memoryview(answer.values).cast("d").tolist(),
            "next": answer.following,
        }


def _socket(config: NodeConfig) -> Path:
    """The historian's socket; beside the node's own where that path would be too long for one."""
    usual = config.data_dir / "run" / "historian.sock"
    return usual if len(os.fsencode(usual)) <= 100 else socket_path(config).with_suffix(".history")
