"""The node as its API sees it: fills `skerry.api.NodeView`."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import msgspec

from skerry.config import load, show
from skerry.core import log
from skerry.core.clock import Clock
from skerry.device import DeviceRegistry
from skerry.http import Request, Response
from skerry.inference import ModelConfig
from skerry.node.alarm_notes import OwnNotes
from skerry.node.alarms import Alarms
from skerry.node.backlog import Backlog
from skerry.node.books import last_windows, sum_books
from skerry.node.centre import LinkView
from skerry.node.cluster import ClusterLink, CopiedBucket
from skerry.node.devices import with_all_known, with_presence
from skerry.node.journal import Journal
from skerry.node.link import DEVICES
from skerry.node.live import LIVE_KEYS, READ_ANEW, with_live
from skerry.node.look import look_at, mark_of
from skerry.node.outputs import ALL, Outputs
from skerry.node.pipeline_rows import PipelineRows
from skerry.node.tracing import trace
from skerry.pipeline import LetterFilter

if TYPE_CHECKING:
    from skerry.api import BundlesView
    from skerry.node.life import Node
    from skerry.store import KeyValueStore

Row = dict[str, Any]
_log = log.get("node")


class View:
    """Answers what the API asks, from what the node's parts say."""

    def __init__(self, node: "Node", clock: Clock) -> None:
        self._node = node
        self._clock = clock
        self._outputs = Outputs(node.link)
        self.uplink = LinkView(node)
        self.alarms = Alarms(self._outputs, OwnNotes(self.store, node.config.store_path), clock)
        self._looked_up = DeviceRegistry(CopiedBucket(node.link, DEVICES), clock)
        self.connectors = node.connectors
        self.bundles: BundlesView = node.bundles
        self.cluster = ClusterLink(node.cluster, node.growth, clock)
        self.journal = Journal(node.config.data_dir)
        self._looked: dict[tuple[str, str], tuple[Any, Row]] = {}
        self._pipelines = PipelineRows(node, clock)

    def ready(self) -> tuple[bool, str]:
        node = self._node
        if node.growth.stands_by:
            return True, node.growth.sentence
        if node.cluster.lost:
            return False, node.cluster.sentence
        if not node.server.ready.is_set():
            return False, node.server.status
        if not node.link.opened.is_set():
            return False, f"the log is being prepared{': ' + node.linking.trouble if node.linking.trouble else ''}"
        if not node.cluster.quorum:
            return False, node.cluster.sentence
        if not node.pool.ready.is_set():  # while it changes over, what devices send is acknowledged and kept all the same
            why = node.uptime.changing if node.ready.is_set() else ""
            return bool(why), f"{why}: the workers change over, messages wait in the log" if why else "the workers are starting"
        for worker in node.pool.workers:
            if worker.restarts.quarantined:
                return False, worker.restarts.sentence(f"worker {worker.index}", worker.last_words)
        return True, "devices may connect, all workers read"

    def stale(self) -> str:
        return self._node.cluster.stale

    def pipelines(self) -> list[Row]:
        return self._pipelines.rows()

    def pipeline(self, name: str) -> Row | None:
        return self._pipelines.row(name)

    def windows(self, name: str) -> list[Row]:
        return last_windows(worker.windows.get(name, ()) for worker in self._node.pool.workers)

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
            "promises": node.promises.status(),
            "pipelines": pipelines,
            "models": self.models(),
            "broker": self._broker(),
            "storage": node.disk.status(),
            "history": node.history.status(),
            "resources": node.resources.status(),
            "uplink": node.uplink.status(),
            "connectors": node.connectors.rows(),
            "bundle": node.bundles.status(),
            "dashboard": node.dashboard.status(),
            "telemetry": node.telemetry.status(),
            "cluster": self.cluster.shown() if node.cluster.enabled else None,
            "ledger": {**sum_books([row["ledger"] for row in pipelines]), "given_up": node.link.gone.messages},
            "processes": node.processes(),
            "sinks": [relay.status() for relay in node.relays],
            "warnings": node.warnings(),
        }

    def uptime(self, over_us: int) -> Row:
        return self._node.uptime.report(over_us)

    def _broker(self) -> Row:
        node = self._node
        state = node.link.log_state
        return {
            "sentence": "; ".join([node.server.status, *(f"{name} on {at}" for name, at in node.tls.addresses.items() if at)]),
            "mqtt": node.mqtt_address if node.config.broker.mqtt else "",
            **node.tls.addresses,
            "http": node.http_address,
            "url": node.api.url,
            "log": {
                "messages": state.get("messages", 0),
                "bytes": state.get("bytes", 0),
                "last_sequence": state.get("last_seq", 0),
                "fill": round(node.link.fill, 4),
            },
            "refused": node.devices.refused(),
            "given_up": node.link.gone.messages,
        }

    def metrics(self) -> str:
        from skerry.node.figures import figures_of, render  # late: a node that nobody scrapes does not need what it brings

        return render(figures_of(self._node, self._pipelines.reports(), self.ready()[0]))

    async def model_server(self, request: Request) -> Response:
        answer = await self._node.serving.request(request.method, request.raw_path or request.path, request.headers, request.body)
        return Response(answer.status, answer.headers, answer.body)

    def models(self) -> list[Row]:
        """The catalogue's rows, with what the files say where they have been looked at."""
        described = {(row["name"], row["version"]): row for _, row in self._looked.values()}
        return [{**described.get((row["name"], row["version"]), {}), **row} for row in self._node.models.rows()]

    def model(self, name: str) -> Row | None:
        return self._node.models.row(name, self.models())

    async def model_add(
        self, name: str, file: str, version: str | None, labels: list[str], threshold: float | None, features: list[str],
        convert: bool,
    ) -> Row:  # fmt: skip
        given = {"labels": labels, "threshold": threshold, "features": features, "convert": convert}
        return await self._node.models.add(name, file, version or "", given)

    async def model_upload(self, name: str, file: bytes, version: str | None) -> Row:
        return await self._node.models.upload(name, file, version or "")

    async def model_activate(self, name: str, version: str) -> None:
        await self._node.models.activate(name, version)

    async def model_rollback(self, name: str) -> None:
        await self._node.models.rollback(name)

    async def model_shadow(self, name: str, version: str | None) -> None:
        await self._node.models.shadow(name, version)

    async def model_remove(self, name: str, version: str) -> None:
        await self._node.models.remove(name, version)

    async def describe_models(self) -> None:
        """Look at the model files in a process of its own: one that crashes the engine must not crash the node."""
        base = self._node.config.base
        known = {(row["name"], row["version"]) for row in self._node.models.rows() if row.get("inputs")}  # from their trial
        marks = {
            (table["name"], table["version"]): (table["file"], mark_of(base / table["file"]))
            for table in self._node.models.place()["models"]
            if (table["name"], table["version"]) not in known
        }
        seen = {key: found for key, found in self._looked.items() if marks.get(key) == found[0] and "error" not in found[1]}
        missing = marks.keys() - seen.keys()
        fresh = [ModelConfig(name, marks[name, version][0], version) for name, version in missing]
        for row in await look_at(fresh, base, self._node.models.host):
            key = row["name"], row["version"]
            seen[key] = (marks[key], row)
        self._looked = seen

    async def trace(self, pipeline: str, device: str, seconds: float) -> Row:
        return await trace(self._node, self._clock, pipeline, device, seconds)

    async def events(
        self, pipeline: str | None, key: str | None, since: int | None, limit: int, after: str | None
    ) -> tuple[list[Row], str | None]:
        return await self._outputs.events(pipeline, key, since, limit, after)

    async def last_events(self, pipeline: str | None, key: str | None, limit: int) -> tuple[list[Row], int]:
        return await self._outputs.last_events(pipeline, key, limit)

    def event_stream(self, after: int | None, pipeline: str | None, key: str | None) -> AsyncIterator[tuple[int, Row]]:
        return self._outputs.event_stream(after, pipeline, key)

    async def backup_begin(self) -> Row:
        return await self._node.backup.begin()

    async def backup_end(self) -> None:
        await self._node.backup.end()

    async def store(self) -> "KeyValueStore":
        return await self._node.storage.store()

    async def series(self, prefix: str, after: str, limit: int) -> list[str]:
        return await self._node.history.series(prefix, after, limit)

    async def series_page(self, name: str, start: int, end: int, every: int | None, aggregate: str, limit: int) -> Row | None:
        return await self._node.history.page(name, start, end, every, aggregate, limit)

    async def messages(self, topic: str, since: int | None, limit: int, after: str | None) -> Row:
        return await Backlog(self._node.link).messages(topic, since, limit, after)

    async def deadletters(
        self, pipeline: str, limit: int, after: str | None, which: LetterFilter = ALL
    ) -> tuple[list[Row], str | None]:
        return await self._outputs.deadletters(pipeline, limit, after, which)

    async def deadletters_retry(self, pipeline: str, which: LetterFilter = ALL) -> int:
        return await self._outputs.retry(pipeline, which)

    async def deadletters_drop(self, pipeline: str, which: LetterFilter = ALL) -> int:
        return await self._outputs.drop(pipeline, which)

    @property
    def _registry(self) -> DeviceRegistry:
        return self._node.devices.registry

    async def devices(self) -> list[Row]:
        return await with_presence(await self._looked_up.rows(), self._node.connections)

    def device_nodes(self) -> list[Row]:
        return self._node.common.nodes()

    async def device(self, id: str) -> Row | None:
        found = await self._looked_up.row(id)
        return None if found is None else await with_all_known(self._node, found)

    async def device_add(
        self, id: str, topics: list[str], password: str | None = None, key: str = "", certificate: str = ""
    ) -> Row:
        return await self._registry.add_with(id, topics, password=password, key=key, certificate=certificate)

    async def device_rotate(self, id: str, password: str | None, key: str, certificate: str) -> Row:
        row = await self._registry.rotate_with(id, password=password, key=key, certificate=certificate)
        await self._node.server_kick(id)
        return row

    async def auth_challenge(self, device: str, address: str) -> Row:
        return msgspec.structs.asdict(await self._node.devices.tokens.challenge(device, address))

    async def auth_token(self, device: str, challenge: str, signature: str, address: str) -> Row | None:
        answer = await self._node.devices.tokens.token(device, challenge, signature, address)
        return None if answer is None else msgspec.structs.asdict(answer)

    async def device_revoke(self, id: str) -> None:
        await self._node.devices.authenticator.revoke(id)
        await self._node.server_kick(id)

    async def device_remove(self, id: str) -> None:
        # before it too: where that fails it can be asked for again, and afterwards nobody knows the device any more
        await self._node.server_kick(id)
        await self._node.devices.authenticator.remove(id)
        await self._node.server_kick(id)
        await self._node.client_ids.forget(id)
        self._node.refusals.forget(id)
        self._node.login.forget(id)

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
        fixed = [name for name in changed if name not in (*LIVE_KEYS, *READ_ANEW)]
        notes = self._node.models.changed_files()
        for note in notes:
            _log.warning(note)
        if not set(changed).isdisjoint(LIVE_KEYS):
            await self._node.replace_pipelines(with_live(self._node.config, fresh))
            await self.describe_models()
        return {
            "changed": [name for name in changed if name not in fixed],
            "needs_restart": fixed,
            **({"notes": notes} if notes else {}),
        }
