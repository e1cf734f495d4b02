"""The rows "uplink": bytes on the wire of what the uplink sends, beside each message published by itself at QoS 1.

Both go over one TCP connection to a nats-server that speaks MQTT. Bytes are those of both directions with 52 for the headers of
each segment (IPv4 20, TCP 20, its time stamps 12); the kernel counts the segments.
"""

import asyncio
import contextlib
import json
import math
import random
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from bench.packets import PUBACK, connect, publish_head, split
from bench.rows import Options, Row, Say, median_row
from bench.systems import Skerry
from skerry.broker import find_binary
from skerry.config import load
from skerry.core.service import cancel_and_wait
from skerry.core.settings import build
from skerry.core.units import parse_duration
from skerry.demo.computer import message, sensors_topic
from skerry.demo.config import PUMP_ALARMS, demo_config
from skerry.demo.devices import PumpFleet
from skerry.node.check import scorer_of
from skerry.pipeline import PipelineSpec, SinkSpec
from skerry.runtime import free_ports
from skerry.uplink import UplinkConfig, encode_envelope, preview_of
from skerry.uplink.envelope import read_envelope
from skerry.uplink.item import Item

DEVICES, EACH = 50, 20
VALUES = ("vibration_x", "vibration_y", "vibration_z")
DEMO_S = 600
SEGMENT = 52
_TCP_INFO_SEGMENTS = 136
_START = 1_700_000_040_000_000
_KEY = bytes(32)
_SERVER = """\
server_name: bench
listen: "127.0.0.1:{port}"
jetstream {{ store_dir: "{store}" }}
mqtt {{ host: 127.0.0.1, port: {mqtt} }}
"""
NODE = """\
[node]
name = "edge-1"
site = "plant"
data_dir = "{data}"
[broker]
mqtt = "127.0.0.1:{mqtt}"
anonymous = true
[api]
listen = "127.0.0.1:{api}"
[dashboard]
enabled = false
[uplink]
kind = "mqtt"
url = "mqtt://127.0.0.1:{centre}"
[[pipelines]]
name = "vibration"
source = {{ topic = "devices/+/vibration", time = "ts", values = {values} }}
window = {{ kind = "tumbling", size = "1m" }}
features = ["mean"]
sinks = [{{ kind = "uplink", select = ["raw"] }}]
"""
Message = tuple[str, bytes]


class Wire:
    """An MQTT connection that knows what it cost."""

    def __init__(self, port: int, client: str, host: str = "127.0.0.1") -> None:
        self._socket = socket.create_connection((host, port), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._payload = 0
        self._rest = b""
        self._send(connect(client))
        self._receive()

    def publish(self, topic: str, payload: bytes, mid: int) -> None:
        """One message at QoS 1; its acknowledgement has come when this is done."""
        self._send(publish_head(topic, len(payload)) + mid.to_bytes(2, "big") + payload)
        first, _ = self._receive()
        assert first & 0xF0 == PUBACK

    def cost(self) -> int:
        """Bytes on the wire so far, in both directions."""
        return self._payload + SEGMENT * segments(self._socket)

    def close(self) -> None:
        self._socket.close()

    def _send(self, data: bytes) -> None:
        self._payload += len(data)
        self._socket.sendall(data)

    def _receive(self) -> tuple[int, bytes]:
        while True:
            packets, self._rest = split(self._rest)
            if packets:
                return packets[0]
            data = self._socket.recv(4096)
            assert data, "the server closed the connection"
            self._payload += len(data)
            self._rest += data


def segments(sock: socket.socket) -> int:
    """TCP segments of a connection in both directions, as the kernel counts them."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    return sum(struct.unpack_from("<II", info, _TCP_INFO_SEGMENTS))


@contextmanager
def broker() -> Iterator[int]:
    """A nats-server that speaks MQTT; its port."""
    with tempfile.TemporaryDirectory(prefix="skerry-bench-") as folder:
        port, mqtt = free_ports("127.0.0.1", [0, 0])
        config = Path(folder) / "nats.conf"
        config.write_text(_SERVER.format(port=port, mqtt=mqtt, store=Path(folder) / "store"))
        child = subprocess.Popen([str(find_binary().path), "-c", str(config), "-l", str(Path(folder) / "log")])
        try:
            for _ in range(300):
                try:
                    socket.create_connection(("127.0.0.1", mqtt), timeout=1).close()
                    break
                except OSError:
                    time.sleep(0.1)
            yield mqtt
        finally:
            child.terminate()
            child.wait(20)


def bytes_of(port: int, messages: Iterable[Message], client: str) -> int:
    """What it takes on the wire to publish these, each acknowledged before the next."""
    with closing(Wire(port, client)) as wire:
        before = wire.cost()
        for number, (topic, payload) in enumerate(messages):
            wire.publish(topic, payload, number % 65_535 + 1)
        return wire.cost() - before


def raw_messages(seed: int) -> list[Message]:
    """1,000 messages of 50 devices in 20 rounds: three values with two decimals that wander, time stamps with some jitter."""
    draw = random.Random(seed)
    level = [[draw.uniform(10, 60) for _ in "xyz"] for _ in range(DEVICES)]
    found = []
    for turn in range(EACH):
        for device in range(DEVICES):
            ts = _START / 1e6 + turn + device / DEVICES + round(draw.gauss(0, 0.003), 3)
            values = [
                round(base + math.sin(turn / 9 + at) + draw.gauss(0, 0.05), 2) for at, base in enumerate(level[device])
            ]  # fmt: skip
            body = {"ts": round(ts, 3), **dict(zip(VALUES, values, strict=True))}
            found.append((f"devices/sensor-{device:02}/vibration", json.dumps(body).encode()))
    return found


class Meter:
    """A port in front of a broker's that knows what all connections through it cost on the client's side."""

    def __init__(self, broker_port: int) -> None:
        self._broker_port = broker_port
        self._payload = 0
        self._segments: dict[int, int] = {}
        self._open: dict[int, socket.socket] = {}
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    def cost(self) -> int:
        """Bytes on the wire so far, in both directions."""
        for number, sock in self._open.items():
            self._segments[number] = segments(sock)
        return self._payload + SEGMENT * sum(self._segments.values())

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        await cancel_and_wait(*self._tasks)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        there, out = await asyncio.open_connection("127.0.0.1", self._broker_port)
        number, sock = len(self._segments), writer.get_extra_info("socket")
        self._segments[number] = 0
        self._open[number] = sock
        pumps = [asyncio.create_task(self._pump(reader, out)), asyncio.create_task(self._pump(there, writer))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._segments[number] = segments(sock)
            del self._open[number]
            for each in (out, writer):
                each.close()
            self._tasks.discard(task)
            await cancel_and_wait(*pumps)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                self._payload += len(data)
                writer.write(data)
                await writer.drain()


class Sender(Skerry):
    """A node whose pipeline sends its raw samples to a central broker."""

    def __init__(self, folder: Path, centre: int) -> None:
        super().__init__(folder)
        text = NODE.format(data=folder / "data", mqtt=self.port, api=self.api, centre=centre, values=json.dumps(VALUES))
        (folder / "skerry.toml").write_text(text)

    async def sent(self, envelopes: int) -> None:
        """Until so many envelopes of raw samples are acknowledged and nothing waits."""
        async with asyncio.timeout(120):
            while True:
                self.check()
                lanes = (await self.call("GET", "/uplink"))["uplink"].get("lanes") or {}
                bulk = lanes.get("bulk") or {}
                if bulk.get("envelopes", 0) >= envelopes and not bulk.get("waiting"):
                    return
                await asyncio.sleep(0.2)


async def raw(options: Options, say: Say) -> list[Row]:
    """1,000 raw messages: each by itself at QoS 1, against what a node sends of them over its uplink."""
    mine: list[float] = []
    theirs: list[float] = []
    with tempfile.TemporaryDirectory(prefix="skerry-bench-") as folder, broker() as port:
        meter = Meter(port)
        node = Sender(Path(folder), await meter.start())
        try:
            await node.start()
            await node.call("POST", "/uplink/test")  # it is connected then
            for turn in range(options.rounds):
                messages = raw_messages(turn)
                theirs.append(await asyncio.to_thread(bytes_of, port, messages, f"each-{turn}"))
                before = meter.cost()
                await asyncio.to_thread(bytes_of, node.port, messages, f"devices-{turn}")
                await node.sent(turn + 1)
                mine.append(meter.cost() - before)
                size = sum(len(payload) for _, payload in messages) / len(messages)
                say(f"  1,000 messages of {size:.0f} B: each {theirs[-1]:,.0f} B, uplink {mine[-1]:,.0f} B")
        finally:
            await node.stop()
            await meter.close()
    return [saved("uplink-raw", "bytes on the wire, 1,000 raw messages", "≥ 50", mine, theirs)]


KINDS: dict[str, dict[str, Any]] = {
    "events and 1-minute roll-ups": {},
    'the same, batch.alarms = "30s"': {"batch": {"alarms": "30s"}},
    "the same, with the features of events": {"select": ["event", "features", "1m"]},
    "1-minute roll-ups alone": {"select": ["1m"]},
}
GOAL = 'the same, batch.alarms = "30s"'


async def demo(options: Options, say: Say) -> list[Row]:
    """Ten minutes of the demo's pump station: all its messages, against its alarms and roll-ups of a minute as they leave."""
    mine: dict[str, list[float]] = {kind: [] for kind in KINDS}
    theirs: list[float] = []
    with tempfile.TemporaryDirectory(prefix="skerry-bench-") as folder, broker() as port:
        file = Path(folder) / "skerry.toml"
        file.write_text(demo_config(str(Path(folder) / "data"), "127.0.0.1:0", "127.0.0.1:0"), encoding="utf-8")
        config = load(file)
        plain = config.pipeline(PUMP_ALARMS)
        spec: PipelineSpec = msgspec.structs.replace(plain, sinks=(SinkSpec("uplink"),))
        scorer = scorer_of(config, plain)
        for turn in range(options.rounds):
            timed = demo_messages(turn)
            each = [(topic, payload) for topic, payload, _ in timed]
            theirs.append(await asyncio.to_thread(bytes_of, port, each, f"each-{turn}"))
            say(f"  {len(each):,} messages, each by itself: {theirs[-1]:,.0f} B")
            for kind, keys in KINDS.items():
                settings: UplinkConfig = build(UplinkConfig, keys, "uplink")
                shown = preview_of(settings, spec, scorer, timed, ("edge-1", "plant"), _KEY)
                sent = [("uplink/plant/edge-1", envelope) for envelope in as_they_leave(shown.envelopes, settings)]
                mine[kind].append(await asyncio.to_thread(bytes_of, port, sent, f"uplink-{turn}-{len(mine)}"))
                events = sum(record.kind == "event" for record in shown.records)
                say(f"  {kind}: {events} events, {len(sent)} envelopes, {mine[kind][-1]:,.0f} B")
    goals = dict.fromkeys(KINDS, "") | {GOAL: "≥ 300"}
    return [saved("uplink-demo", f"bytes on the wire, demo: {kind}", goals[kind], found, theirs) for kind, found in mine.items()]


def as_they_leave(envelopes: Iterable[bytes], settings: UplinkConfig) -> Iterator[bytes]:
    """The items of envelopes in those that an outlet makes of them: alarms at once or `batch.alarms` after the ones before, the
    others when one has waited for `batch.delay`."""
    for envelope in envelopes:
        header, items = read_envelope(envelope)
        alarms = header.lane == "alarm"
        pause = parse_duration(settings.batch.alarms if alarms else settings.batch.delay)
        groups: list[list[tuple[int, Item]]] = []
        leaves = -pause
        for number, item in sorted(items, key=lambda found: found[1].time):
            if not groups or item.time > leaves:
                groups.append([])
                leaves = max(item.time, leaves + pause) if alarms else item.time + pause
            groups[-1].append((number, item))
        for group in groups:
            numbered = list(zip(sorted(number for number, _ in group), (item for _, item in group), strict=True))
            yield encode_envelope(header.node, header.site, header.epoch, header.lane, numbered)


def demo_messages(seed: int) -> list[tuple[str, bytes, int]]:
    readings = islice(PumpFleet(seed, _START).readings(), 3 * 10 * DEMO_S)
    return [
        (sensors_topic(each.device), json.dumps(message(each.ts_us, each.values)).encode(), each.ts_us + 1000) for each in readings
    ]  # fmt: skip


def saved(name: str, figure: str, goal: str, mine: list[float], theirs: list[float]) -> Row:
    """A row whose ratio is how many times less it takes."""
    row = median_row(name, figure, "B", f"ratio {goal}" if goal else "", mine, theirs)
    assert row.peer is not None
    row.ratio = row.peer / row.skerry if row.skerry else None
    return row


ROWS = {"uplink-raw": raw, "uplink-demo": demo}
