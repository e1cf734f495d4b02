"""The rows "logins": how many devices a second get in, through the call-out with a token, and from the challenge on.

As a helper process (`python -m bench.logins PORT FILE`): a line `AT_ONCE SECONDS` on stdin, a line of JSON on stdout. The file
holds user names and tokens.
"""

import asyncio
import struct
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from itertools import cycle
from pathlib import Path

import msgspec
import uvloop

from bench.rows import Options, Row, Say, median_row
from bench.run import Helper
from bench.systems import Skerry, cpu_of
from skerry.device import CHALLENGE_PATH, TOKEN_PATH, answer_to, token_of
from skerry.http import AsyncClient
from skerry.trust import SigningKey

DEVICES = 256
AT_ONCE = 32
AT_ONCE_HTTP = 8
WARM_S = 0.5
PATIENCE_S = 10.0
ACCEPTED, DISCONNECT = b"\x20\x02\x00\x00", b"\xe0\x00"


class Made(msgspec.Struct):
    """What one load came to: log-ins, refusals, seconds; `slow_ms` is the 99th percentile."""

    accepted: int
    refused: int
    seconds: float
    p50_ms: float
    slow_ms: float

    @property
    def rate(self) -> float:
        return self.accepted / self.seconds


def connect_packet(user: str, password: str) -> bytes:
    """MQTT 3.1.1 CONNECT with a clean session; the client id is the user name."""
    fields = b"".join(struct.pack(">H", len(text)) + text.encode() for text in (user, user, password))
    body = b"\0\4MQTT\4\xc2\0\x3c" + fields
    assert len(body) < 128 * 128
    return bytes([0x10, len(body) & 127 | 128, len(body) >> 7]) + body


class Attempt(asyncio.Protocol):
    """One connection: CONNECT, its answer, good-bye."""

    def __init__(self, packet: bytes) -> None:
        self._packet = packet
        self._transport: asyncio.Transport | None = None
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.write(self._packet)  # type: ignore[attr-defined]  # uvloop's transports are no subclass
        self._transport = transport  # type: ignore[assignment]  # as above

    def data_received(self, data: bytes) -> None:
        if not self.answer.done():
            self.answer.set_result(data)
        assert self._transport is not None
        self._transport.write(DISCONNECT)
        self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.answer.done():
            self.answer.set_result(b"")


async def load(port: int, packets: list[bytes], at_once: int, seconds: float) -> Made:
    """Log in again and again, `at_once` at a time."""
    loop, turn = asyncio.get_running_loop(), cycle(packets)
    took: list[float] = []
    refused, began = 0, loop.time()

    async def work() -> None:
        nonlocal refused
        while loop.time() - began < seconds:
            start = loop.time()
            _, attempt = await loop.create_connection(lambda: Attempt(next(turn)), "127.0.0.1", port)
            answer = await asyncio.wait_for(attempt.answer, PATIENCE_S)
            if answer == ACCEPTED:
                took.append(loop.time() - start)
            else:
                refused += 1

    await asyncio.gather(*(work() for _ in range(at_once)))
    spent = loop.time() - began
    took.sort()
    p50, p99 = (1000 * took[int(part * len(took))] if took else float("inf") for part in (0.5, 0.99))
    return Made(len(took), refused, spent, p50, p99)


async def devices(system: Skerry, count: int) -> dict[str, SigningKey]:
    """Devices with a key that the node knows."""
    keys = {f"login-{number}": SigningKey.new() for number in range(count)}
    async with AsyncClient(f"http://127.0.0.1:{system.api}") as client:
        for name, key in keys.items():
            await client.post("/api/v1/devices", {"id": name, "key": key.public_pem()})
    return keys


async def token(client: AsyncClient, device: str, key: SigningKey) -> str:
    challenge = await client.post(CHALLENGE_PATH, {"device": device})
    return token_of(await client.post(TOKEN_PATH, answer_to(device, key, challenge)))[0]


async def tokens(system: Skerry, keys: dict[str, SigningKey]) -> tuple[dict[str, str], float]:
    """A token for each device, and how many a second there were."""
    found: dict[str, str] = {}
    left = iter(keys.items())

    async def work(client: AsyncClient) -> None:
        for name, key in left:
            found[name] = await token(client, name, key)

    async with AsyncClient(f"http://127.0.0.1:{system.api}", connections=AT_ONCE_HTTP) as client:
        began = time.monotonic()
        await asyncio.gather(*(work(client) for _ in range(AT_ONCE_HTTP)))
        return found, len(found) / (time.monotonic() - began)


async def logins(options: Options, say: Say) -> list[Row]:
    rates, slow, issued = [], [], []
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory(prefix="skerry-bench-") as folder:
            system = Skerry(Path(folder))
            helper = None
            try:
                await system.start()
                found, each = await tokens(system, await devices(system, DEVICES))
                issued.append(each)
                (Path(folder) / "tokens").write_bytes(msgspec.json.encode(found))
                helper = await Helper.start("bench.logins", str(system.port), str(Path(folder) / "tokens"))
                await helper.ask(f"{AT_ONCE} {WARM_S}")
                pids = {part: system.pid(part) for part in ("agent", "nats-server")}
                before = {part: cpu_of(pid) for part, pid in pids.items()}
                made = msgspec.json.decode(await helper.ask(f"{AT_ONCE} {options.seconds}"), type=Made)
                agent, broker = (1e6 * (cpu_of(pid) - before[part]) / max(1, made.accepted) for part, pid in pids.items())
            finally:
                if helper is not None:
                    await helper.stop()
                await system.stop()
        if made.refused:
            raise SystemExit(f"{made.refused} good tokens were refused")
        rates.append(made.rate)
        slow.append(made.slow_ms)
        say(
            f"  {made.rate:,.0f} log-ins/s, p50 {made.p50_ms:.1f} ms, p99 {made.slow_ms:.1f} ms, {AT_ONCE} at once; "
            f"CPU each: agent {agent:.0f} µs, nats-server {broker:.0f} µs; {each:,.0f} challenges answered a second over HTTP"
        )
    return [
        median_row("logins", "log-ins/s with call-out and token", "/s", "≥ 1,200", rates),
        median_row("logins", f"p99 of a log-in, {AT_ONCE} at once", "ms", "", slow),
        median_row("logins", "tokens/s: challenge, signature, token over HTTP", "/s", "", issued),
    ]


ROWS: dict[str, Callable[[Options, Say], Awaitable[list[Row]]]] = {"logins": logins}


async def serve(port: int, pairs: dict[str, str]) -> None:
    """The helper process."""
    packets = [connect_packet(user, password) for user, password in pairs.items()]
    loop = asyncio.get_running_loop()
    print("ready", flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        at_once, seconds = line.split()
        print(msgspec.json.encode(await load(port, packets, int(at_once), float(seconds))).decode(), flush=True)


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), msgspec.json.decode(Path(sys.argv[2]).read_bytes(), type=dict[str, str])))
