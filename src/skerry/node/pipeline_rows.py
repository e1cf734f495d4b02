"""How pipelines stand, as `status` and the API show it: a row each, out of what workers report and what the node knows."""

from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec

from skerry.core.clock import Clock
from skerry.core.units import show_size
from skerry.node.books import no_books
from skerry.pipeline import PipelineSpec
from skerry.worker import PipelineReport, merge_reports

if TYPE_CHECKING:
    from skerry.node.life import Node

Row = dict[str, Any]


class PipelineRows:
    """The rows of a node's pipelines."""

    def __init__(self, node: "Node", clock: Clock) -> None:
        self._node = node
        self._clock = clock
        self._rates: dict[str, deque[tuple[float, int]]] = {}

    def reports(self) -> dict[str, PipelineReport]:
        """What all workers report, by pipeline."""
        return merge_reports([worker.report for worker in self._node.pool.workers])

    def rows(self) -> list[Row]:
        """Of all pipelines, in the order of the configuration."""
        reports = self.reports()
        return [self._reported(spec.name, reports.get(spec.name)) for spec in self._node.config.pipelines]

    def row(self, name: str) -> Row | None:
        """One pipeline's, with its configuration; None where there is no such pipeline."""
        for row, spec in zip(self.rows(), self._node.config.pipelines, strict=True):
            if spec.name == name:
                return {**row, "config": msgspec.to_builtins(spec)}
        return None

    def _reported(self, name: str, report: PipelineReport | None) -> Row:
        if report is None or not report.books:
            words = [worker.report.failed or worker.last_words for worker in self._node.pool.workers]
            reason = report.state if report is not None else next(filter(None, words), "")
            report = PipelineReport(state="starting", books=no_books()) if report is None else report
            return self._row(name, report, reason)
        return self._row(name, report, "")

    def _row(self, name: str, report: PipelineReport, reason: str) -> Row:
        spec = self._node.config.pipeline(name)
        books = report.books or no_books()
        state, reason = self._state(spec, report, reason)
        return {
            "name": name,
            **self._node.schedule.row(name, state, reason),
            "topic": spec.source.topic,
            "model": f"{report.model}@{report.version}" if report.model else spec.model or None,
            "rate": self._rate(name, books["received"]),
            "lag": self._lag(report),
            "keys": report.keys,
            "windows": report.windows,
            "events": report.events,
            "received_bytes": report.received_bytes,
            "memory": report.memory,
            "cursor": report.cursor,
            "durable": report.durable,
            "latency_ms": {"p50": report.recent_p50_ms, "p99": report.recent_p99_ms},
            "age_ms": {"p50": report.age_p50_ms, "p99": report.age_p99_ms},
            "ledger": books,
            "drift": msgspec.to_builtins(report.drift),
            "nodes": self._node.cluster.places(name),
        }

    def _state(self, spec: PipelineSpec, report: PipelineReport, reason: str) -> tuple[str, str]:
        """Its state in a word, and why it does not run where it does not."""
        why = self._node.pool.quarantined.get(spec.name)
        if why:
            return "quarantined", f"quarantined: {why}"
        if report.over:
            return "stopped", f"used {show_size(report.over)} of {show_size(report.allowed)}; it is tried again"
        return self._node.cluster.not_here(spec) or (report.state.partition(":")[0], reason)

    def _lag(self, report: PipelineReport) -> int:
        """Messages waiting; of a pipeline that does not read, all that the log holds behind its cursor, others' among them."""
        if report.state == "running":
            return report.lag
        return max(report.lag, self._node.link.last_sequence - report.cursor) if report.cursor else report.lag

    def _rate(self, name: str, received: int) -> float:
        """Messages a second over the last some seconds, from one call to the next."""
        seen = self._rates.setdefault(name, deque(maxlen=50))
        now = self._clock.monotonic()
        seen.append((now, received))
        while len(seen) > 2 and seen[0][0] < now - 10:
            seen.popleft()
        (then, before), passed = seen[0], now - seen[0][0]
        return round(max(0, received - before) / passed, 1) if then < now and passed > 0.2 else 0.0
