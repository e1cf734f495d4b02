"""The row "tls": what TLS of devices costs a node: messages, latency, the agent's CPU, log-ins.

As a helper process (`python -m bench.tls`): a line `PORT CA RATE SECONDS` on stdin (CA `-`: without TLS, RATE 0: as many as go), a
line of JSON on stdout.
"""

import asyncio
import ssl
import struct
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import uvloop

from bench.rows import Options, Row, Say, median_row
from bench.run import Helper
from bench.systems import Skerry, cpu_of
from skerry.core.clock import SystemClock
from skerry.http import AsyncClient
from skerry.trust import SiteAuthority

DEVICES = 50
RATE = 1000.0
PAYLOAD = b"x" * 100
LOGINS_AT_ONCE = 32
LINES = """\
mqtts = "127.0.0.1:0"
tls = { cert = "data/tls/server.pem", key = "data/tls/server.key" }
"""


class Made(msgspec.Struct):
    """What one load came to: messages a second, and how long a PUBACK took; log-ins a second before it."""

    rate: float
    p50_ms: float
    p99_ms: float
    logins: float


def packet(kind: int, body: bytes) -> bytes:
    """An MQTT packet of less than 16 KiB."""
    size = len(body)
    head = bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])
    return bytes([kind]) + head + body


def text(content: str) -> bytes:
    raw = content.encode()
    return struct.pack(">H", len(raw)) + raw


class Load:
    """So many devices that publish at QoS 1, one message under way each."""

    def __init__(self, port: int, ca: str) -> None:
        self._port = port
        self._tls = ssl.create_default_context(cafile=ca) if ca != "-" else None
        self._took: list[float] = []

    async def run(self, rate: float, seconds: float) -> Made:
        turn = asyncio.Semaphore(LOGINS_AT_ONCE)
        began = time.perf_counter()
        links = await asyncio.gather(*(self._log_in(number, turn) for number in range(DEVICES)))
        logins = DEVICES / (time.perf_counter() - began)
        stop = time.perf_counter() + seconds
        await asyncio.gather(*(self._publish(number, rate / DEVICES, stop, *link) for number, link in enumerate(links)))
        for _, writer in links:
            writer.transport.abort()
        took = sorted(self._took)
        p50, p99 = (1000 * took[int(part * len(took))] for part in (0.5, 0.99))
        return Made(len(took) / seconds, p50, p99, logins)

    async def _log_in(self, number: int, turn: asyncio.Semaphore) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with turn:
            name = "localhost" if self._tls else None
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port, ssl=self._tls, server_hostname=name)
            writer.write(packet(0x10, b"\0\4MQTT\4\2\0\x3c" + text(f"tls-{number}")))
            if await reader.readexactly(4) != b"\x20\x02\x00\x00":
                raise SystemExit("a device was refused")
            return reader, writer

    async def _publish(
        self, number: int, each: float, stop: float, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        sent = packet(0x32, text(f"devices/{number}/load") + b"\0\1" + PAYLOAD)
        await asyncio.sleep(number / DEVICES / each if each else 0)
        while (began := time.perf_counter()) < stop:
            writer.write(sent)
            await reader.readexactly(4)
            took = time.perf_counter() - began
            self._took.append(took)
            if each:
                await asyncio.sleep(max(0.0, 1 / each - took))


async def start(folder: Path) -> Skerry:
    """A node with both ports."""
    system = Skerry(folder)
    authority, now = SiteAuthority(folder / "data" / "tls"), SystemClock().now()
    authority.create("bench", now)
    authority.issue_server(("localhost", "127.0.0.1"), now)
    system.configure("anonymous = true\n", f"anonymous = true\n{LINES}")
    await system.start()
    return system


async def port_of(system: Skerry) -> int:
    """Of TLS, as the node says."""
    async with AsyncClient(f"http://127.0.0.1:{system.api}") as client:
        return int((await client.get("/api/v1/node"))["broker"]["mqtts"].rpartition(":")[2])


async def tls(options: Options, say: Say) -> list[Row]:
    most: dict[str, list[float]] = {"tls": [], "plain": []}
    slow: dict[str, list[float]] = {"tls": [], "plain": []}
    cpu, logins = [], []
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory(prefix="skerry-bench-") as folder:
            system, helper = await start(Path(folder)), await Helper.start("bench.tls")
            try:
                ways = {"plain": f"{system.port} -", "tls": f"{await port_of(system)} {folder}/data/tls/ca.pem"}
                agent = system.pid("agent")
                for name, way in ways.items():
                    steady = msgspec.json.decode(await helper.ask(f"{way} {RATE} {options.seconds}"), type=Made)
                    before = cpu_of(agent)
                    made = msgspec.json.decode(await helper.ask(f"{way} 0 {options.seconds}"), type=Made)
                    spent = 1e6 * (cpu_of(agent) - before) / (made.rate * options.seconds)
                    most[name].append(made.rate)
                    slow[name].append(steady.p99_ms)
                    say(
                        f"  {name}: {made.rate:,.0f} messages/s, CPU of the agent {spent:.0f} µs each; at {RATE:,.0f}/s PUBACK "
                        f"p50 {steady.p50_ms:.2f} ms, p99 {steady.p99_ms:.2f} ms; {steady.logins:,.0f} log-ins/s"
                    )
                cpu.append(spent)
                logins.append(steady.logins)
            finally:
                await helper.stop()
                await system.stop()
    return [
        median_row("tls", f"QoS 1 messages/s of {DEVICES} devices with TLS; peer: without", "/s", "", most["tls"], most["plain"]),
        median_row("tls", f"p99 of a PUBACK at {RATE:,.0f}/s with TLS; peer: without", "ms", "", slow["tls"], slow["plain"]),
        median_row("tls", "CPU of the agent a message with TLS", "µs", "", cpu),
        median_row("tls", "handshakes and log-ins/s", "/s", "", logins),
    ]


ROWS: dict[str, Callable[[Options, Say], Awaitable[list[Row]]]] = {"tls": tls}


async def serve() -> None:
    """The helper process."""
    loop = asyncio.get_running_loop()
    print("ready", flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        port, ca, rate, seconds = line.split()
        made = await Load(int(port), ca).run(float(rate), float(seconds))
        print(msgspec.json.encode(made).decode(), flush=True)


if __name__ == "__main__":
    uvloop.run(serve())
