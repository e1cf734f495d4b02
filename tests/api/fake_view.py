"""A node in memory: implements `NodeView` as the real one does, for the tests of the API and of the command line."""

import asyncio
import base64
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from skerry.api import Api, ApiConfig, NodeView, TokenStore
from skerry.core.clock import from_rfc3339, to_rfc3339
from skerry.core.errors import ConfigError, RejectedError, UnavailableError
from skerry.http import Request, Response, json_response
from skerry.pipeline import filter_matches
from skerry.store import KeyValueStore, StorageConfig
from tests.api.fake_bundles import FakeBundles
from tests.api.fake_cluster import FakeCluster
from tests.api.fake_connectors import FakeConnectors
from tests.api.fake_journal import FakeJournal
from tests.api.fake_letters import FakeLetters
from tests.api.fake_trace import traced
from tests.api.fake_uplink import FakeUplink
from tests.api.noted import Noted

Row = dict[str, Any]
BOOKS: Row = {
    "received": 1204,
    "scored": 1100,
    "open": 100,
    "waiting": 0,
    "duplicates": 1,
    "dead_letters": {"late": 2, "undecodable": 1},
    "difference": 0,
}


def event(number: int, pipeline: str = "bearing", key: str = "pump-1") -> Row:
    start = 1_764_000_000_000_000 + number * 1_000_000
    return {
        "id": f"{number:04x}",
        "pipeline": pipeline,
        "key": key,
        "node": "box",
        "start": to_rfc3339(start),
        "end": to_rfc3339(start + 1_000_000),
        "count": 50,
        "score": 0.5,
        "label": None,
        "state": "info",
        "severity": None,
        "features": {"x_mean": 1.0},
        "model": None,
        "version": None,
        "latency_ms": 2.5,
    }


class FakeAlarms:
    """One alarm, `a1`; what is done about it is kept in `noted`."""

    def __init__(self) -> None:
        self.noted: list[tuple[str, str, str, int]] = []

    async def shown(self) -> Row:
        return {"alarms": [{"alarm_id": "a1"}], "complete": True}

    async def note(self, id: str, what: str, by: str, comment: str, duration: int = 0) -> Row | None:
        if id != "a1":
            return None
        self.noted.append((what, by, comment, duration))
        return {"alarm_id": id}


class FakeView(FakeLetters):
    """Two pipelines, no devices; `add_event` puts an event out."""

    def __init__(self) -> None:
        self.is_ready = True
        self.uplink = FakeUplink()
        self.alarms, self.old = FakeAlarms(), ""
        self.connectors, self.bundles = FakeConnectors(), FakeBundles()
        self.connectors = FakeConnectors()
        self.journal = FakeJournal()
        self.cluster = FakeCluster()
        self.paused: set[str] = set()
        self.letters: dict[str, list[Row]] = {"bearing": [], "level": []}
        self.known: dict[str, Row] = {}
        self.nodes: list[Row] = []
        self.given: dict[str, str] = {}
        self.token_asks: list[tuple[str, str, str, str]] = []
        self.log: list[Row] = []
        self.bell = asyncio.Condition()
        self.streams = 0
        self.opened = asyncio.Event()
        self.closed = asyncio.Event()
        self.wrong_file = False
        self.broken_stream = False
        self.active = "2"
        self.shadow: str | None = None
        self.gone: set[str] = set()
        self.kept: KeyValueStore | None = None
        self.history: dict[str, list[tuple[int, float]]] = {}
        self.backed_up = False
        self.messages_log: list[Row] = []
        self.asked: tuple[int | None, str] = (None, "")

    async def add_event(self, row: Row) -> None:
        async with self.bell:
            self.log.append(row)
            self.bell.notify_all()

    def stale(self) -> str:
        return self.old

    def ready(self) -> tuple[bool, str]:
        return (True, "all works") if self.is_ready else (False, "the broker is starting")

    async def status(self) -> Row:
        ready, reason = self.ready()
        return {
            "node": "box",
            "site": "quay",
            "version": "0.1.0",
            "ready": ready,
            "reason": reason,
            "uptime_ratio": 0.99987,
            "pipelines": self.pipelines(),
            "models": self.models(),
            "broker": {"sentence": "serving MQTT on 127.0.0.1:1883", "url": "https://127.0.0.1:8080"},
            "storage": {"sentence": "12.0 MiB of 8.0 GiB"},
            "uplink": None,
            "cluster": None,
            "ledger": BOOKS,
            "warnings": ["the clock was set back by 3 s"],
        }

    def uptime(self, over_us: int) -> Row:
        times = {"begin": "2026-01-01T00:00:00.000Z", "end": "2026-01-01T00:01:30.000Z"}
        gap = {**times, "seconds": 90.0, "planned": True, "reason": "it was stopped", "over": True}
        sums = {"up_s": over_us / 1e6, "planned_s": 90.0, "unplanned_s": 0.0, "starts": 2, "gaps": [gap] if over_us else []}
        return {"since": times["begin"], "until": times["end"], "ratio": 0.99987, **sums}

    def pipelines(self) -> list[Row]:
        return [self._row("bearing"), self._row("level")]

    def _row(self, name: str) -> Row:
        return {
            "name": name,
            "state": "paused" if name in self.paused else "running",
            "reason": "",
            "rate": 1000.04,
            "lag": 12,
            "events": 33,
            "latency_ms": {"p50": 2.1, "p99": None},
            "ledger": BOOKS,
        }

    def pipeline(self, name: str) -> Row | None:
        return {**self._row(name), "config": {"window": "tumbling"}} if name in self.letters else None

    def _matching(self, pipeline: str | None, key: str | None) -> list[tuple[int, Row]]:
        return [
            (sequence, row)
            for sequence, row in enumerate(self.log, 1)
            if pipeline in (None, row["pipeline"]) and key in (None, row["key"])
        ]

    async def events(
        self, pipeline: str | None, key: str | None, since: int | None, limit: int, after: str | None
    ) -> tuple[list[Row], str | None]:
        if after is not None and not after.isdigit():
            raise RejectedError(f"{after!r} is no token of a page")
        found = [
            (sequence, row)
            for sequence, row in self._matching(pipeline, key)
            if sequence > int(after or 0) and (since is None or from_rfc3339(row["end"]) >= since)
        ]
        page = found[:limit]
        return [row for _, row in page], str(page[-1][0]) if len(found) > limit else None

    async def last_events(self, pipeline: str | None, key: str | None, limit: int) -> tuple[list[Row], int]:
        return [row for _, row in self._matching(pipeline, key)[-limit:]], len(self.log)

    async def event_stream(self, after: int | None, pipeline: str | None, key: str | None) -> AsyncIterator[tuple[int, Row]]:
        at = len(self.log) if after is None else after
        self.streams += 1
        self.opened.set()
        try:
            while True:
                for sequence, row in self._matching(pipeline, key):
                    if sequence > at:
                        at = sequence
                        yield sequence, row
                if self.broken_stream:
                    raise UnavailableError("the log does not answer", mend="wait")
                async with self.bell:
                    if not [one for one, _ in self._matching(pipeline, key) if one > at]:
                        await self.bell.wait()
        finally:
            self.streams -= 1
            self.closed.set()

    def windows(self, name: str) -> list[Row]:
        return [{"key": "pump-1", "end": "2026-01-01T00:00:00.000Z", "score": 0.5}] if name == "bearing" else []

    def metrics(self) -> str:
        return 'skerry_messages_received_total{pipeline="bearing"} 1204\n'

    async def model_server(self, request: Request) -> Response:
        return json_response({"served": request.path, "bytes": len(request.body)})

    def models(self) -> list[Row]:
        signature = {"name": "x", "dtype": "tensor(float)", "shape": [None, 18]}
        old = {"name": "bearing", "version": "1", "active": False, "file": "old.onnx", "error": "the file does not exist"}
        new = {"name": "bearing", "version": "2", "active": True, "file": "new.onnx", "inputs": [signature], "outputs": []}
        return [old, {**new, "metadata": {"labels": "good, bad"}}]

    def model(self, name: str) -> Row | None:
        versions = [row for row in self.models() if row["name"] == name and f"{name}@{row['version']}" not in self.gone]
        return {"name": name, "active": self.active, "versions": versions, "shadow": self.shadow} if versions else None

    async def model_add(
        self,
        name: str,
        file: str,
        version: str | None,
        labels: list[str],
        threshold: float | None,
        features: list[str],
        convert: bool,
    ) -> Row:
        if not file.endswith(".onnx"):
            raise RejectedError("the file is no ONNX model", where=file)
        given = {"labels": labels, "threshold": threshold, "features": features, "convert": convert}
        return {"name": name, "version": version or "3", "state": "staged", **given}

    async def model_upload(self, name: str, file: bytes, version: str | None) -> Row:
        if not file.startswith(b"\x08"):
            raise RejectedError("the file is no ONNX model", where="upload.onnx")
        return {"name": name, "version": version or "3", "state": "staged", "size": len(file)}

    async def model_activate(self, name: str, version: str) -> None:
        if version not in ("1", "2"):
            raise RejectedError(f"model {name!r} has no version {version!r}", mend="allowed: 1, 2")
        self.active = version

    async def model_rollback(self, name: str) -> None:
        self.active = "1"

    async def model_shadow(self, name: str, version: str | None) -> None:
        self.shadow = version

    async def model_remove(self, name: str, version: str) -> None:
        self.gone.add(f"{name}@{version}")

    async def devices(self) -> list[Row]:
        return list(self.known.values())

    async def device(self, id: str) -> Row | None:
        return self.known.get(id)

    def device_nodes(self) -> list[Row]:
        return self.nodes

    async def device_add(
        self, id: str, topics: list[str], password: str | None = None, key: str = "", certificate: str = ""
    ) -> Row:
        if id in self.known:
            raise RejectedError(f"device {id!r} is there already", mend="remove it first")
        self.known[id] = {"id": id, "kind": "password", "revoked": False, "topics": topics}
        return self._given(id, password, key, certificate)

    async def device_rotate(self, id: str, password: str | None, key: str, certificate: str) -> Row:
        if self.known[id]["revoked"]:
            raise RejectedError(f"device {id!r} is revoked", mend="remove it and add it again")
        return self._given(id, password, key, certificate)

    def _given(self, id: str, password: str | None, key: str, certificate: str) -> Row:
        self.given[id] = key or certificate or password or f"made-for-{id}"
        self.known[id]["kind"] = "key" if key else "certificate" if certificate else "password"
        return {**self.known[id]} if key or certificate else {**self.known[id], "password": password or f"made-for-{id}"}

    async def auth_challenge(self, device: str, address: str) -> Row:
        return {"challenge": base64.b64encode(bytes(32)).decode(), "expires_in": 30.0}

    async def auth_token(self, device: str, challenge: str, signature: str, address: str) -> Row | None:
        self.token_asks.append((device, challenge, signature, address))
        return {"token": f"token-of-{device}", "expires_in": 3600} if signature == "right" else None

    async def device_revoke(self, id: str) -> None:
        self.known[id]["revoked"] = True

    async def device_remove(self, id: str) -> None:
        del self.known[id]

    async def backup_begin(self) -> Row:
        return {"place": "backup", "copied": ["store"], "seconds": 900.0}

    async def backup_end(self) -> None:
        self.backed_up = True

    async def store(self) -> KeyValueStore:
        if self.kept is None:
            self.kept = KeyValueStore(StorageConfig(), memory=True)
            await self.kept.open()
        return self.kept

    async def series(self, prefix: str, after: str, limit: int) -> list[str]:
        return [name for name in sorted(self.history) if name.startswith(prefix) and name > after][:limit]

    async def series_page(self, name: str, start: int, end: int, every: int | None, aggregate: str, limit: int) -> Row | None:
        if name not in self.history:
            return None
        rows = [(time, value) for time, value in self.history[name] if start <= time < end]
        following = rows[limit][0] if len(rows) > limit else None
        self.asked = (every, aggregate)
        return {"times": [t for t, _ in rows[:limit]], "values": [v for _, v in rows[:limit]], "next": following}

    async def messages(self, topic: str, since: int | None, limit: int, after: str | None) -> Row:
        behind = [row for row in self.messages_log if row["sequence"] > int(after or 0) and row["at"] * 1e6 >= (since or 0)]
        page = [row for row in behind if filter_matches(topic, row["topic"])][:limit]
        last = page[-1] if page else None
        return {
            "messages": page,
            "next": str(last["sequence"]) if last else None,
            "through": last["at"] if last else None,
            "oldest": self.messages_log[0]["at"] if self.messages_log else None,
            "trimmed": bool(self.messages_log) and self.messages_log[0]["sequence"] > 1,
        }

    async def pause(self, pipeline: str) -> None:
        self.paused.add(pipeline)

    async def trace(self, pipeline: str, device: str, seconds: float) -> Row:
        return traced(pipeline, device, seconds)

    async def resume(self, pipeline: str) -> None:
        self.paused.discard(pipeline)

    def config(self) -> list[Row]:
        return [{"key": "node.name", "value": "box", "origin": "skerry.toml"}]

    async def reload(self) -> Row:
        if self.wrong_file:
            raise ConfigError("unknown key 'nmae'", where="skerry.toml: node", allowed="name, site")
        return {"changed": ["pipelines"], "needs_restart": ["broker"]}


class Serving:
    """The API over a fake node, in a thread with a loop of its own."""

    def __init__(self, socket: Path, config: ApiConfig | None = None, tokens: TokenStore | None = None) -> None:
        self.socket = socket
        self.config = config or ApiConfig(listen="127.0.0.1:0")
        self.tokens = tokens
        self.noted = Noted()
        self.url = ""
        self.view: FakeView
        self.loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._task: asyncio.Task[None] | None = None

    def add_event(self, row: Row) -> None:
        asyncio.run_coroutine_threadsafe(self.view.add_event(row), self.loop).result(5)

    async def _serve(self) -> None:
        self.view = FakeView()
        view: NodeView = self.view
        api = Api(view, self.config, self.socket, "0.1.0", tokens=self.tokens, audit=self.noted)
        self._task = asyncio.create_task(api.run())
        await api.listening.wait()
        self.url = f"http://{api.address}"
        self._started.set()
        await asyncio.gather(self._task, return_exceptions=True)
        if self.view.kept is not None:
            await self.view.kept.close()

    @contextmanager
    def running(self) -> Iterator["Serving"]:
        thread = threading.Thread(target=lambda: self.loop.run_until_complete(self._serve()))
        thread.start()
        assert self._started.wait(5)
        assert self._task is not None
        try:
            yield self
        finally:
            self.loop.call_soon_threadsafe(self._task.cancel)
            thread.join(10)
            self.loop.close()
