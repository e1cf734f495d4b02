"""A subscriber process on `events/#`: notes when each event came.

`python -m bench.sink PORT [NAME PASSWORD]` says `ready`, then answers each line `COUNT SECONDS` on stdin with the events since
the last answer as one JSON line, once there are as many or the seconds have passed.
"""

import asyncio
import sys
import time
from typing import cast

import msgspec
import uvloop

from bench import packets


class Event(msgspec.Struct):
    """What of an event is looked at."""

    key: str
    start: str
    end: str
    count: int
    id: str = ""


class Seen(msgspec.Struct, array_like=True):
    """One event and when it came (Unix seconds)."""

    at: float
    key: str
    start: str
    end: str
    count: int
    id: str


class Sink(asyncio.Protocol):
    """One connection with a kept session; an event is acknowledged when it is noted."""

    def __init__(self, port: int, username: str, password: str) -> None:
        self.seen: list[tuple[float, bytes]] = []
        self.granted = asyncio.Event()
        self._login = (port, username, password)
        self._rest = b""
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None

    async def connect(self, delay: float = 0.0) -> None:
        await asyncio.sleep(delay)
        while True:
            try:
                await asyncio.get_running_loop().create_connection(lambda: self, "127.0.0.1", self._login[0])
            except OSError:
                await asyncio.sleep(0.05)
            else:
                return

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's is none by name
        self._transport, self._rest = transport, b""
        transport.write(packets.connect("bench-sink", *self._login[1:], keep_alive=0))

    def connection_lost(self, exc: Exception | None) -> None:
        self._task = asyncio.get_running_loop().create_task(self.connect(0.2))

    def data_received(self, data: bytes) -> None:
        now = time.time()
        found, self._rest = packets.split(self._rest + data)
        answers = []
        for first, body in found:
            kind = first & 0xF0
            if kind == packets.PUBLISH:
                after = 2 + int.from_bytes(body[:2], "big")
                if first & 0x06:
                    answers.append(packets.puback(body[after : after + 2]))
                    after += 2
                self.seen.append((now, body[after:]))
            elif kind == packets.CONNACK:
                if body[1] and self._transport is not None:
                    self._transport.close()  # ask again
                    return
                answers.append(packets.subscribe("events/#"))
            elif kind == packets.SUBACK:
                self.granted.set()
        if answers and self._transport is not None:
            self._transport.write(b"".join(answers))


def answer(seen: list[tuple[float, bytes]]) -> bytes:
    decode = msgspec.json.Decoder(Event).decode
    rows = []
    for at, payload in seen:
        event = decode(payload)
        rows.append(Seen(at, event.key, event.start, event.end, event.count, event.id))
    return msgspec.json.encode(rows)


async def main() -> None:
    login = sys.argv[2:4] if len(sys.argv) > 3 else ["", ""]
    sink = Sink(int(sys.argv[1]), login[0], login[1])
    await sink.connect()
    await asyncio.wait_for(sink.granted.wait(), 20)
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        count, seconds = line.split()
        give_up = time.monotonic() + float(seconds)
        while len(sink.seen) < int(count) and time.monotonic() < give_up:  # noqa: ASYNC110 - no event for every event
            await asyncio.sleep(0.01)
        seen, sink.seen = sink.seen, []
        sys.stdout.write(answer(seen).decode() + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(main())
