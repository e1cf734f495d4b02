"""A process of very many devices, each with a connection of its own and a message every some seconds.

`python -m bench.crowd '<Crowd as JSON>'` connects, says `ready` on stdout, then sends; a line on stdin is answered with the counts.
"""

import asyncio
import sys
import time
from typing import cast

import msgspec
import uvloop

from bench import packets
from skerry.runtime import allow_open_files

AT_ONCE = 200
"""Connections that are made at the same time."""


class Crowd(msgspec.Struct):
    """So many devices on a port of this machine, each with a message every `every_s`, evenly spread."""

    port: int
    devices: int
    every_s: float = 10.0


class Counts(msgspec.Struct):
    """What has happened so far. `connect_s`: until all were connected; `up`: connections now."""

    up: int = 0
    lost: int = 0
    sent: int = 0
    acknowledged: int = 0
    connect_s: float = 0.0


class Device(asyncio.Protocol):
    """One connection; a lost one is counted and not made again."""

    def __init__(self, name: str, counts: Counts) -> None:
        self.up: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._name = name
        self._counts = counts
        self._mid = 0
        self._rest = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by name
        self._transport.write(packets.connect(self._name, clean=True))

    def data_received(self, data: bytes) -> None:
        found, self._rest = packets.split(self._rest + data)
        for first, body in found:
            if first & 0xF0 == packets.PUBACK:
                self._counts.acknowledged += 1
            elif first & 0xF0 == packets.CONNACK and not self.up.done():
                if body[1]:
                    self.up.set_exception(SystemExit(f"{self._name} was refused with {body[1]}"))
                else:
                    self._counts.up += 1
                    self.up.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self.up.done():
            self._counts.up -= 1
            self._counts.lost += 1
        else:
            self.up.set_exception(SystemExit(f"{self._name} could not connect: {exc}"))

    def publish(self, reading: float) -> None:
        if self._transport is None:
            return
        self._mid = self._mid % 65_535 + 1
        payload = b'{"ts":%.6f,"x":%.4f,"y":%.4f,"z":%.4f}' % (time.time(), reading, -reading, 2 * reading)
        head = packets.publish_head(f"devices/{self._name}/vibration", len(payload))
        self._transport.write(head + self._mid.to_bytes(2, "big") + payload)
        self._counts.sent += 1


async def connected(crowd: Crowd, counts: Counts) -> list[Device]:
    """All devices, connected."""
    loop, began, gate = asyncio.get_running_loop(), time.monotonic(), asyncio.Semaphore(AT_ONCE)

    async def one(index: int) -> Device:
        async with gate:
            _, device = await loop.create_connection(lambda: Device(f"c{index:05d}", counts), "127.0.0.1", crowd.port)
            await asyncio.wait_for(device.up, 60)
            return device

    found = await asyncio.gather(*(one(index) for index in range(crowd.devices)))
    counts.connect_s = time.monotonic() - began
    return found


async def send(devices: list[Device], every_s: float) -> None:
    """One message a device each `every_s`, until cancelled."""
    began, at = time.monotonic(), 0
    while True:
        due = int((time.monotonic() - began) * len(devices) / every_s)
        for number in range(at, due):
            devices[number % len(devices)].publish((number % 97) / 97)
        at = max(at, due)
        await asyncio.sleep(0.002)


async def main() -> None:
    crowd, counts = msgspec.json.decode(sys.argv[1], type=Crowd), Counts()
    allow_open_files(crowd.devices + 200)
    devices = await connected(crowd, counts)
    print("ready", flush=True)
    sending = asyncio.create_task(send(devices, crowd.every_s))
    while await asyncio.to_thread(sys.stdin.readline):
        print(msgspec.json.encode(counts).decode(), flush=True)
    sending.cancel()


if __name__ == "__main__":
    uvloop.run(main())
