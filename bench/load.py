"""A publisher process: many devices, QoS 1, a steady rate; what it costs must not hide what is measured.

`python -m bench.load '<Load as JSON>'` connects, says `ready` on stdout, starts at a line on stdin, and ends with one JSON line.
"""

import asyncio
import sys
import time
from typing import cast

import msgspec
import numpy as np
import uvloop

from bench import packets

WINDOW = 32
TICK_S = 0.001
# from here on two milliseconds' worth is sent at once: a write for each message would cost more than all the rest
FAST = 8000.0
TOPIC = "devices/{}/vibration"
HELD = 4000
"""Messages without PUBACK, over all devices, at which the load waits: a limit of any real fleet of gateways too."""


class Load(msgspec.Struct):
    """What to publish.

    Attributes:
        rate: messages a second over all devices; 0: as fast as they are acknowledged.
        windows: whole windows of 32 messages for each device.
        password: empty: the devices log in without a name.
        patience: seconds after the last message within which all must be acknowledged.
        most_behind: seconds behind the plan at which the load gives up; 0: never.
    """

    port: int
    rate: float
    windows: int
    devices: int = 50
    password: str = ""
    patience: float = 30.0
    most_behind: float = 0.0


class Outcome(msgspec.Struct):
    """What was published. Times are Unix seconds.

    Attributes:
        planned, sent: by device, when the message that closes each window was due, and when it was written.
        stamps: by device, the time stamps of all messages, in milliseconds.
        gave_up: it fell `most_behind` and stopped.
        held: ticks at which the load had to wait for acknowledgements.
    """

    messages: int
    acknowledged: int
    seconds: float
    cpu_s: float
    held: int
    reconnects: int
    gave_up: bool
    planned: dict[str, list[float]]
    sent: dict[str, list[float]]
    stamps: dict[str, list[int]]


def name_of(index: int) -> str:
    return f"m{index:03d}"


def schedule(devices: int, windows: int) -> list[int]:
    """Device of each message, in order: round robin, but their windows close one after the other and not all at once."""
    position = np.arange(windows * WINDOW)[None, :] - (np.arange(devices) * WINDOW // devices)[:, None]
    order = np.argsort(position.T.ravel(), kind="stable")
    return [int(each) for each in order % devices]


def tails(count: int = 256) -> list[bytes]:
    """The readings part of payloads, all of one length; not random for the model, but not constant either."""
    angle = np.arange(count) * 0.37
    rows = np.stack([np.sin(angle), np.cos(1.7 * angle), 0.5 * np.sin(3.1 * angle)], axis=1)
    return [b',"x":%8.4f,"y":%8.4f,"z":%8.4f}' % (x, y, z) for x, y, z in rows]


class Device(asyncio.Protocol):
    """One connection, made again when it is lost, with what was not acknowledged sent again first."""

    def __init__(self, index: int, load: Load, fleet: "Fleet") -> None:
        self.name = name_of(index)
        self.fleet = fleet
        self.up = asyncio.Event()
        self.out: list[bytes] = []
        self.unacknowledged: dict[int, bytes] = {}
        self.number = 0
        self.reconnects = -1
        outcome = fleet.outcome
        self.stamps, self.planned, self.sent = outcome.stamps[self.name], outcome.planned[self.name], outcome.sent[self.name]
        self._load = load
        self._rest = b""
        self._transport: asyncio.Transport | None = None
        size = len(b'{"ts":%.6f' % time.time()) + len(fleet.tails[0])
        self._head = packets.publish_head(TOPIC.format(self.name), size)

    async def connect(self) -> None:
        while True:
            try:
                await asyncio.get_running_loop().create_connection(lambda: self, "127.0.0.1", self._load.port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                return

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's is none by name
        self._transport, self._rest = transport, b""
        password = self._load.password
        transport.write(packets.connect(self.name, self.name if password else "", password))

    def connection_lost(self, exc: Exception | None) -> None:
        self.up.clear()
        if not self.fleet.done:
            self.fleet.reconnect(self, 0.2)

    def data_received(self, data: bytes) -> None:
        data = self._rest + data if self._rest else data
        if data[0] == packets.CONNACK:
            if len(data) < 4:
                self._rest = data
                return
            if data[3] and self._transport is not None:
                self._transport.close()  # as devices do: ask again
                return
            self._went_up()
            data = data[4:]
        whole = len(data) & ~3
        for mid in packets.mids(data[:whole]):
            if self.unacknowledged.pop(mid, None) is not None:
                self.fleet.open -= 1
                self.fleet.acknowledged += 1
        self._rest = data[whole:]

    def _went_up(self) -> None:
        self.reconnects += 1
        self.up.set()
        again = [bytes([packet[0] | packets.DUP]) + packet[1:] for packet in self.unacknowledged.values()]
        self.out.clear()
        if again and self._transport is not None:
            self._transport.write(b"".join(again))

    def put(self, due: float) -> None:
        """Build the next message; it is written by `flush`."""
        number = self.number
        self.number += 1
        now = round(time.time(), 6)
        mid = number % 65_535 + 1
        packet = b'%b%c%c{"ts":%.6f%b' % (self._head, mid >> 8, mid & 255, now, self.fleet.tails[number & 255])
        self.unacknowledged[mid] = packet
        self.out.append(packet)
        self.stamps.append(round(now * 1e6) // 1000)
        if number % WINDOW == WINDOW - 1:
            self.planned.append(due or now)
            self.sent.append(now)

    def flush(self) -> None:
        if self.up.is_set() and self._transport is not None:
            self._transport.write(b"".join(self.out))
            self.out.clear()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.write(packets.DISCONNECT)
            self._transport.close()


class Fleet:
    """All devices, and the clock that drives them."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.tails = tails()
        self.open = self.acknowledged = 0
        self.done = False
        names = [name_of(index) for index in range(load.devices)]
        empty: list[dict[str, list[float]]] = [{name: [] for name in names} for _ in range(2)]
        stamps: dict[str, list[int]] = {name: [] for name in names}
        self.outcome = Outcome(0, 0, 0.0, 0.0, 0, 0, False, empty[0], empty[1], stamps)
        self.devices = [Device(index, load, self) for index in range(load.devices)]
        self._order = schedule(load.devices, load.windows)
        self._reconnecting: set[asyncio.Task[None]] = set()

    async def connect(self) -> None:
        for device in self.devices:
            await device.connect()
        await asyncio.wait_for(asyncio.gather(*(device.up.wait() for device in self.devices)), 30)

    def reconnect(self, device: Device, delay: float) -> None:
        async def connect() -> None:
            await asyncio.sleep(delay)
            await device.connect()

        task = asyncio.get_running_loop().create_task(connect())
        self._reconnecting.add(task)
        task.add_done_callback(self._reconnecting.discard)

    async def run(self) -> Outcome:
        """Publish the whole schedule, and wait until it is acknowledged."""
        rate, total = self.load.rate, len(self._order)
        tick = 2 * TICK_S if rate > FAST else TICK_S
        began, cpu = time.time(), time.process_time()
        at = 0
        while at < total:
            due = min(total, int((time.time() - began) * rate)) if rate else total
            if self.load.most_behind and due - at > self.load.most_behind * rate:
                self.outcome.gave_up = True
                break
            most = at + HELD - self.open
            if due > most:
                due = most
                self.outcome.held += bool(rate)
            if due > at:
                self._send(at, due, began)
                at = due
            await asyncio.sleep(tick)
        give_up = time.time() + self.load.patience
        while self.open and time.time() < give_up:  # noqa: ASYNC110 - the same tick as above, for what is still open
            await asyncio.sleep(TICK_S)
        self.outcome.seconds, self.outcome.cpu_s = time.time() - began, time.process_time() - cpu
        self.outcome.messages, self.outcome.acknowledged = at, self.acknowledged
        self.outcome.reconnects = sum(device.reconnects for device in self.devices)
        self.done = True
        for device in self.devices:
            device.close()
        return self.outcome

    def _send(self, first: int, end: int, began: float) -> None:
        step = 1 / self.load.rate if self.load.rate else 0.0
        touched = set()
        for at in range(first, end):
            device = self.devices[self._order[at]]
            device.put(began + at * step if step else 0.0)
            touched.add(device)
        self.open += end - first
        for device in touched:
            device.flush()


async def main() -> None:
    load = msgspec.json.decode(sys.argv[1], type=Load)
    fleet = Fleet(load)
    await fleet.connect()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    outcome = await fleet.run()
    sys.stdout.write(msgspec.json.encode(outcome).decode() + "\n")
    sys.stdout.flush()
    await asyncio.sleep(0.05)


if __name__ == "__main__":
    uvloop.run(main())
