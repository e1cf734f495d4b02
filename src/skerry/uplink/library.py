"""The uplink as a library: what a program gives is on its disk when the call returns, and goes when there is a link."""

import asyncio
import secrets
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from skerry.core.clock import Clock, SystemClock
from skerry.core.errors import CorruptError, OverloadedError, RejectedError
from skerry.core.service import Bell, cancel_and_wait
from skerry.core.units import parse_rate, parse_size
from skerry.pipeline import PipelineSpec, parse_pipeline
from skerry.runtime import Throttle
from skerry.store import KeyValueStore, StorageConfig
from skerry.uplink import network
from skerry.uplink.config import UplinkConfig
from skerry.uplink.item import PRIORITIES, Item, Priority, encode_item
from skerry.uplink.key_file import site_key
from skerry.uplink.notice import encode_event, read_event
from skerry.uplink.outlet import Batch, Name, Outlet
from skerry.uplink.redact import Fields, Privacy
from skerry.uplink.table import encode_rows
from skerry.uplink.targets import Place, open_target

_META = b"meta"
_MOST_SHAPES = 1000


class _Meta(msgspec.Struct, array_like=True):
    epoch: str
    sequence: int = 0


class DiskQueue:
    """The outlets' source on a key-value store: a key is a lane and a number, and numbers only grow."""

    def __init__(self, kv: KeyValueStore, size: int) -> None:
        self.bell = Bell()
        self.sealing = asyncio.Lock()
        self.meta = _Meta(secrets.token_hex(6))
        self._kv = kv
        self._size = size
        self._waiting: Counter[Priority] = Counter()
        self._bytes = 0
        self._writing = asyncio.Lock()

    async def open(self) -> None:
        """Find what is there. Raises `CorruptError`."""
        found = await self._kv.get(_META)
        if found is not None:
            try:
                self.meta = msgspec.msgpack.decode(found, type=_Meta)
            except msgspec.MsgspecError as error:
                raise CorruptError("the queue's numbers cannot be read", where="uplink") from error
        for lane in PRIORITIES:
            async for _, body in self._kv.scan(prefix=_prefix(lane)):
                self._waiting[lane] += 1
                self._bytes += len(body)

    async def put(self, item: Item) -> None:
        """Durable when it returns. Raises `OverloadedError` when the queue is full; the last tenth is for alarms."""
        room = self._size if item.priority == "alarm" else self._size * 9 // 10
        body = encode_item(item)
        async with self._writing:
            if self._bytes + len(body) > room:
                raise OverloadedError(f"the queue holds {self._bytes} bytes", where="queue.size", mend="wait for the link")
            number = self.meta.sequence + 1
            async with self._kv.batch() as batch:
                batch.set(_prefix(item.priority) + number.to_bytes(8, "big"), body)
                batch.set(_META, msgspec.msgpack.encode(_Meta(self.meta.epoch, number)))
            self.meta.sequence = number
            self._bytes += len(body)
        self._waiting[item.priority] += 1
        self.bell.ring()

    def waits(self, lane: Priority) -> int:
        return self._waiting[lane]

    async def read(self, lane: Priority, limit: int, most_bytes: int) -> list[tuple[int, bytes]]:
        found: list[tuple[int, bytes]] = []
        size = 0
        async for key, body in self._kv.scan(prefix=_prefix(lane)):
            if len(found) >= limit or (found and size + len(body) > most_bytes):
                break
            found.append((int.from_bytes(key[-8:], "big"), body))
            size += len(body)
        return found

    async def drop(self, lane: Priority, through: int) -> None:
        gone: list[tuple[bytes, int]] = []
        async for key, body in self._kv.scan(prefix=_prefix(lane)):
            if int.from_bytes(key[-8:], "big") > through:
                break
            gone.append((key, len(body)))
        async with self._kv.batch() as batch:
            for key, _ in gone:
                batch.delete(key)
        self._waiting[lane] -= len(gone)
        self._bytes -= sum(size for _, size in gone)
        self.bell.ring()


def _prefix(lane: Priority) -> bytes:
    return lane.encode() + b"/"


class Uplink:
    """Store-and-forward to a centre; an async context manager. What a life before has left is sent first.

        async with Uplink(UplinkConfig(kind="http", url="https://centre:8443"), "queue", site="shore", node="rock") as uplink:
            await uplink.put("pumps", "pump-7", {"pressure": 4.2})

    Args:
        config: as `[uplink]` in skerry.toml; `select`, `receive` and `commands` have no meaning here.
        directory: of the queue; one process at a time.
        base: what relative paths of the configuration start from.
    """

    def __init__(
        self,
        config: UplinkConfig,
        directory: str | Path,
        *,
        site: str,
        node: str,
        base: str | Path = ".",
        clock: Clock | None = None,
    ) -> None:
        self._config = config
        self._directory = Path(directory)
        self._clock = clock or SystemClock()
        size = parse_size(config.queue.size)
        self._kv = KeyValueStore(StorageConfig(self._directory / "queue", f"{max(2 * size, 64 << 20)}B", "none"))
        self._queue = DiskQueue(self._kv, size)
        self._site, self._node = site, node
        start = Path(base)
        self._place = Place(
            config.kind, config.url, node, site, config.topic, start / config.credentials if config.credentials else None,
            str(start / config.ca) if config.ca else "",
        )  # fmt: skip
        self._shapes: dict[tuple[str, tuple[str, ...]], Fields] = {}
        self._works: list[asyncio.Task[None]] = []
        self._outlets: list[Outlet] = []
        self.sent = 0

    async def __aenter__(self) -> Self:
        """Open the queue and begin to send. Raises `ConfigError`, `UnavailableError` where another process has the queue."""
        await self._kv.open()
        try:
            await self._queue.open()
            key = await asyncio.to_thread(site_key, self._directory)
            self._privacy = Privacy(self._config.rules(), self._config.allow, key)
            self._target = open_target(self._place, lambda command: None)
        except BaseException:
            await self._kv.close()
            raise
        config = self._config
        batch = Batch.of(config.batch)
        name, woken, running = Name(self._node, self._site, self._queue.meta.epoch), Bell(), asyncio.Event()
        throttle = Throttle(parse_rate(config.rate) if config.rate else 0, self._clock)
        running.set()
        self._outlets = [
            Outlet(
                lane, name, self._queue, self._target, throttle, batch, config.compression, self._clock, woken, running, self._sent
            )
            for lane in PRIORITIES
        ]
        self._works = [asyncio.create_task(outlet.run()) for outlet in self._outlets]
        self._works.append(asyncio.create_task(network.watch(woken.ring)))
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await cancel_and_wait(*self._works)
        await self._target.close()
        await self._kv.close()

    def _sent(self, size: int) -> None:
        self.sent += size

    @property
    def waiting(self) -> int:
        """What the centre has not acknowledged yet."""
        return sum(self._queue.waits(lane) for lane in PRIORITIES)

    @property
    def trouble(self) -> str:
        """Why nothing gets through; empty while it does."""
        return next((outlet.trouble for outlet in self._outlets if outlet.trouble), "")

    @property
    def withheld(self) -> Mapping[str, int]:
        """Fields that did not leave as they were, by rule."""
        return self._privacy.withheld

    async def put(self, pipeline: str, key: str, values: Mapping[str, float], at: int | None = None) -> None:
        """One sample; `at` in microseconds, now by default. On the disk when it returns.

        Raises `OverloadedError` when the queue is full, `ConfigError` for names that will not do."""
        names = tuple(values)
        fields = self._fields(pipeline, names)
        moment = self._clock.now() if at is None else at
        row: list[float] = [moment]
        left: list[str] = []
        for name, action in zip(names, fields.values, strict=True):
            if action is not None:
                fields.withhold(action)
            if action is None or not action.drops:
                left.append(name)
                row.append(float(values[name]) if action is None else action.number(float(values[name])))
        body = encode_rows({fields.shown_key(key): [tuple(row)]}, tuple(left))
        await self._queue.put(Item("raw", "bulk", secrets.token_hex(8), pipeline, moment, 1, body))

    async def event(self, event: Mapping[str, Any]) -> None:
        """One event in the form that pipelines put out; with a state `firing` or `cleared` it leaves before all else.

        Raises `RejectedError` for what is none, `OverloadedError` when the queue is full."""
        known = read_event(msgspec.json.encode(event))
        if known is None:
            raise RejectedError("that is no event", mend="give the fields that `skerry data events --json` shows")
        fields = self._fields(known.pipeline, ())
        urgent: Priority = "alarm" if known.state in ("firing", "cleared") else "normal"
        body = encode_event(known, fields)
        await self._queue.put(Item("event", urgent, fields.shown_id(known.id), known.pipeline, self._clock.now(), 1, body))

    async def delivered(self, timeout: float | None = None) -> bool:
        """Wait until the centre has acknowledged all; False after `timeout` seconds."""
        end = None if timeout is None else self._clock.monotonic() + timeout
        while self.waiting:
            left = 1.0 if end is None else end - self._clock.monotonic()
            if left <= 0:
                return False
            await self._queue.bell.wait(min(left, 1.0))
        return True

    def _fields(self, pipeline: str, names: tuple[str, ...]) -> Fields:
        found = self._shapes.get((pipeline, names))
        if found is None:
            table = {"name": pipeline, "source": {"topic": f"devices/+/{pipeline}", "values": list(names or ("value",))}}
            spec: PipelineSpec = parse_pipeline(table, pipeline)
            if len(self._shapes) >= _MOST_SHAPES:
                self._shapes.clear()
            found = self._shapes[pipeline, names] = Fields(spec, self._privacy)
        return found
