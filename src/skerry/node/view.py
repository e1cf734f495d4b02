"""The node as its API sees it: fills `skerry.api.NodeView`."""

import asyncio
import json
import sys
from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import msgspec

from skerry.config import NodeConfig, load, show
from skerry.core.clock import Clock
from skerry.core.errors import UnavailableError
from skerry.core.settings import Tables
from skerry.core.units import show_size
from skerry.device import DeviceRegistry
from skerry.node.metrics import Figures, render
from skerry.node.outputs import Outputs
from skerry.worker import PipelineReport, merge_reports

if TYPE_CHECKING:
    from skerry.node.life import Node

Row = dict[str, Any]
LIVE_KEYS = ("pipelines", "models")


class View:
    """Answers what the API asks, from what the node's parts say."""

    def __init__(self, node: "Node", clock: Clock) -> None:
        self._node = node
        self._clock = clock
        self._outputs = Outputs(node.link)
        self._models: list[Row] = []
        self._rates: dict[str, deque[tuple[float, int]]] = {}

    def ready(self) -> tuple[bool, str]:
        node = self._node
        if not node.server.ready.is_set():
            return False, node.server.status
        if not node.link.opened.is_set():
            return False, f"the log is being prepared{': ' + node.trouble if node.trouble else ''}"
        if not node.pool.ready.is_set():
            return False, "the workers are starting"
        return True, "devices may connect, all workers read"

    def _reports(self) -> dict[str, PipelineReport]:
        return merge_reports([worker.report for worker in self._node.pool.workers])

    def pipelines(self) -> list[Row]:
        reports = self._reports()
        return [self._pipeline_row(spec.name, reports.get(spec.name)) for spec in self._node.config.pipelines]

    def _pipeline_row(self, name: str, report: PipelineReport | None) -> Row:
        if report is None or not report.books:
            words = [worker.report.failed or worker.last_words for worker in self._node.pool.workers]
            reason = report.state if report is not None else next(filter(None, words), "")
            report = PipelineReport(state="starting", books=_no_books()) if report is None else report
            return self._row(name, report, reason)
        return self._row(name, report, "")

    def _row(self, name: str, report: PipelineReport, reason: str) -> Row:
        spec = self._node.config.pipeline(name)
        books = report.books or _no_books()
        return {
            "name": name,
            "state": report.state.partition(":")[0],
            "reason": reason,
            "topic": spec.source.topic,
            "model": f"{report.model}@{report.version}" if report.model else spec.model or None,
            "rate": self._rate(name, books["received"]),
            "lag": self._lag(report),
            "keys": report.keys,
            "windows": report.windows,
            "events": report.events,
            "received_bytes": report.received_bytes,
            "cursor": report.cursor,
            "durable": report.durable,
            "latency_ms": {"p50": report.recent_p50_ms, "p99": report.recent_p99_ms},
            "ledger": books,
        }

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

    def pipeline(self, name: str) -> Row | None:
        for row, spec in zip(self.pipelines(), self._node.config.pipelines, strict=True):
            if spec.name == name:
                return {**row, "config": msgspec.to_builtins(spec)}
        return None

    async def status(self) -> Row:
        node = self._node
        ready, reason = self.ready()
        pipelines = self.pipelines()
        return {
            "node": node.config.node.name,
            "site": node.config.node.site,
            "version": node.version,
            "ready": ready,
            "reason": reason,
            "uptime_ratio": round(node.uptime.ratio, 6),
            "starts": node.uptime.starts,
            "pipelines": pipelines,
            "models": self._models,
            "broker": self._broker(),
            "storage": self._storage(),
            "uplink": None,
            "cluster": None,
            "ledger": {**sum_books([row["ledger"] for row in pipelines]), "given_up": node.link.gone.messages},
            "processes": node.processes(),
            "sinks": [relay.status() for relay in node.relays],
            "warnings": node.warnings(),
        }

    def _broker(self) -> Row:
        node = self._node
        state = node.link.log_state
        return {
            "sentence": node.server.status,
            "mqtt": node.mqtt_address,
            "http": node.http_address,
            "log": {
                "messages": state.get("messages", 0),
                "bytes": state.get("bytes", 0),
                "last_sequence": state.get("last_seq", 0),
                "fill": round(node.link.fill, 4),
            },
            "refused": dict(node.login.refused),
            "given_up": node.link.gone.messages,
        }

    def _storage(self) -> Row:
        sizes = self._node.sizes()
        total = sum(sizes.values())
        limit = self._node.disk_limit
        return {"sentence": f"{show_size(total)} of {show_size(limit)}", "bytes": sizes, "limit": limit}

    def metrics(self) -> str:
        node = self._node
        figures = Figures()
        figures.pipelines = {name: report for name, report in self._reports().items() if report.books}
        figures.restarts = {f"worker-{worker.index}": worker.restarts.total for worker in node.pool.workers}
        figures.restarts = {**figures.restarts, "nats-server": node.server.restarts}
        figures.refused = node.login.refused
        figures.store_bytes = node.sizes()
        figures.memory = {row["name"]: row["memory"] for row in node.processes()}
        figures.limits = node.limits()
        figures.uptime_ratio = node.uptime.ratio
        figures.ready = self.ready()[0]
        return render(figures)

    def models(self) -> list[Row]:
        return self._models

    async def describe_models(self) -> None:
        """Look at the model files in a process of its own: one that crashes the engine must not crash the node."""
        config = self._node.config
        if not config.models:
            self._models = []
            return
        question = {"models": [msgspec.to_builtins(model) for model in config.models], "base": str(config.base)}
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "skerry.inference", stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.DEVNULL
        )
        try:
            async with asyncio.timeout(60):
                answer, _ = await child.communicate(json.dumps(question).encode())
            self._models = json.loads(answer)
        except (TimeoutError, ValueError):
            rows = [{"name": model.name, "version": model.version, "file": model.file} for model in config.models]
            self._models = [{**row, "error": "looking at the model files ended the process that did"} for row in rows]
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()

    async def events(
        self, pipeline: str | None, key: str | None, since: int | None, limit: int, after: str | None
    ) -> tuple[list[Row], str | None]:
        return await self._outputs.events(pipeline, key, since, limit, after)

    async def last_events(self, pipeline: str | None, key: str | None, limit: int) -> tuple[list[Row], int]:
        return await self._outputs.last_events(pipeline, key, limit)

    def event_stream(self, after: int | None, pipeline: str | None, key: str | None) -> AsyncIterator[tuple[int, Row]]:
        return self._outputs.event_stream(after, pipeline, key)

    async def deadletters(self, pipeline: str, limit: int, after: str | None) -> tuple[list[Row], str | None]:
        return await self._outputs.deadletters(pipeline, limit, after)

    async def deadletters_retry(self, pipeline: str) -> int:
        return await self._outputs.retry(pipeline)

    async def deadletters_drop(self, pipeline: str) -> int:
        return await self._outputs.drop(pipeline)

    @property
    def _registry(self) -> DeviceRegistry:
        if self._node.link.registry is None:
            raise UnavailableError("the device registry does not answer now", mend="try again; `skerry status` says why")
        return self._node.link.registry

    async def devices(self) -> list[Row]:
        return await self._registry.rows()

    async def device(self, id: str) -> Row | None:
        return await self._registry.row(id)

    async def device_add(self, id: str, password: str | None, topics: list[str]) -> Row:
        return await self._registry.add_with_password(id, password, topics)

    async def device_revoke(self, id: str) -> None:
        await self._registry.revoke(id)
        await self._node.server_kick(id)

    async def device_remove(self, id: str) -> None:
        await self._registry.remove(id)
        await self._node.server_kick(id)

    async def pause(self, pipeline: str) -> None:
        await self._node.pause(pipeline, True)

    async def resume(self, pipeline: str) -> None:
        await self._node.pause(pipeline, False)

    def config(self) -> list[Row]:
        return [{"key": key, "value": value, "origin": origin} for key, value, origin in show(self._node.config.path)]

    async def reload(self) -> Row:
        """Read the file again; pipelines and models change live, what cannot is named."""
        fresh = load(self._node.config.path)
        before = {name: getattr(self._node.config, name) for name in fresh.__struct_fields__ if name != "tables"}
        changed = [name for name, value in before.items() if getattr(fresh, name) != value]
        fixed = [name for name in changed if name not in LIVE_KEYS]
        if len(fixed) < len(changed):
            await self._node.replace_pipelines(_with_live(self._node.config, fresh))
            await self.describe_models()
        return {"changed": [name for name in changed if name in LIVE_KEYS], "needs_restart": fixed}


def _with_live(running: NodeConfig, fresh: NodeConfig) -> NodeConfig:
    """What runs, with the parts of another configuration that can change live."""
    live = {name: fresh.tables.values.get(name, []) for name in LIVE_KEYS}
    tables = Tables({**running.tables.values, **live}, fresh.tables.origins, fresh.tables.path)
    return msgspec.structs.replace(running, pipelines=fresh.pipelines, models=fresh.models, tables=tables)


def _no_books() -> Row:
    names = ("received", "scored", "open", "waiting", "duplicates", "difference", "late_samples", "given_up")
    return {**dict.fromkeys(names, 0), "dead_letters": {}, "windows": 0}


def sum_books(all_books: list[Row]) -> Row:
    """The ledgers of several pipelines as one."""
    total = _no_books()
    for books in all_books:
        for name, value in books.items():
            if name == "dead_letters":
                for reason, count in value.items():
                    total["dead_letters"][reason] = total["dead_letters"].get(reason, 0) + count
            else:
                total[name] += value
    return total
