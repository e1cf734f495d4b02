"""The outbox: what was handed over survives the death of the process and of the broker, in order, and is bounded."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from skerry import KeyValueStore, StorageConfig
from skerry.core.errors import ConfigError, CorruptError, OverloadedError, RejectedError, UnavailableError
from skerry.mqtt import MqttClient, MqttConfig
from skerry.mqtt.outbox import IDS, Outbox
from tests.mqtt.brokers import DURABLE, Broker, until

pytestmark = pytest.mark.asyncio
PUBLISHER = Path(__file__).with_name("outbox_publisher.py")
ROOT = PUBLISHER.parents[2]


class Publisher:
    """The process, its words, and its death."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.acknowledged: list[int] = []

    async def says(self, word: str) -> str:
        assert self.process.stdout is not None
        async with asyncio.timeout(60):
            while line := (await self.process.stdout.readline()).decode():
                if line.startswith(word):
                    return line.strip()
                if line.strip().isdigit():
                    self.acknowledged.append(int(line))
        raise AssertionError(f"it ended before it said {word}")

    async def goes_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        await self.process.stdin.drain()

    async def killed(self) -> None:
        self.process.kill()
        await self.process.wait()


@contextlib.asynccontextmanager
async def publisher(url: str, store: Path, first: int, count: int, qos: int, version: str = "auto") -> AsyncIterator[Publisher]:
    argv = [sys.executable, str(PUBLISHER), url, str(store), str(first), str(count), str(qos), version]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*argv, cwd=ROOT, stdin=pipe, stdout=pipe)
    try:
        yield Publisher(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.parametrize("broker", DURABLE, indirect=True)
@pytest.mark.parametrize("qos", [1, 2])
async def test_what_was_handed_over_comes_after_the_process_was_killed(broker: Broker, tmp_path: Path, qos: int) -> None:
    found: list[int] = []

    async def read(client: MqttClient) -> None:
        async with client.subscribe("out/#") as messages:
            async for message in messages:
                found.append(int(message.payload))
                await message.ack()

    async with MqttClient(broker.config(client_id="reader")) as reader:
        reading = asyncio.create_task(read(reader))
        await asyncio.sleep(0.3)
        async with publisher(broker.url, tmp_path / "kv", 0, 300, qos) as first:
            await first.says("connected 0")
            # mosquitto does not know its sessions after a kill
            await broker.stop(signal.SIGKILL if broker.kind == "nats" else signal.SIGTERM)
            await first.goes_on()
            await first.says("kept")
            await first.killed()
        await broker.start()
        async with publisher(broker.url, tmp_path / "kv", 300, 100, qos) as second:
            assert await second.says("connected") != "connected 0"
            await second.goes_on()
            await second.says("empty")
            assert sorted(second.acknowledged) == list(range(300, 400))
        await until(lambda: set(found) >= set(range(400)), 40)
        assert list(dict.fromkeys(found)) == list(range(400))
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


class Peer:
    """A broker that takes what comes and acknowledges nothing: the PUBLISH packets as (flags, packet id, payload)."""

    def __init__(self) -> None:
        self.packets: list[tuple[int, int, bytes]] = []
        self.acknowledges = False
        self.open = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                first = (await reader.readexactly(1))[0]
                length = (await reader.readexactly(1))[0]
                body = await reader.readexactly(length)
                if first >> 4 == 1:
                    writer.write(b"\x20\x02\x01\x00")
                elif first >> 4 == 3:
                    topic = int.from_bytes(body[:2])
                    self.packets.append((first & 15, int.from_bytes(body[2 + topic : 4 + topic]), body[4 + topic :]))
                    if self.acknowledges:
                        writer.write(b"\x40\x02" + body[2 + topic : 4 + topic])
                await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        self.open -= 1


async def test_a_new_process_sends_with_the_old_packet_ids_marked_as_duplicates(tmp_path: Path) -> None:
    peer = Peer()
    async with await asyncio.start_server(peer.serve, "127.0.0.1", 0) as server:
        url = f"mqtt://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with publisher(url, tmp_path / "kv", 0, 10, 1, "3.1.1") as first:
            await first.goes_on()
            await until(lambda: len(peer.packets) == 10, 30)
            await first.killed()
        sent, peer.packets = peer.packets, []
        assert {flags for flags, _, _ in sent} == {0b0010}
        peer.acknowledges = True
        async with publisher(url, tmp_path / "kv", 10, 2, 1, "3.1.1") as second:
            await second.goes_on()
            await second.says("empty")
        await until(lambda: not peer.open)
        again, new = peer.packets[:10], peer.packets[10:]
        assert again == [(0b1010, packet_id, payload) for _, packet_id, payload in sent]
        assert [(flags, payload) for flags, _, payload in new] == [(0b0010, b"10"), (0b0010, b"11")]


@pytest.mark.parametrize("broker", ["mosquitto"], indirect=True)
async def test_it_is_bounded_and_what_is_given_up_on_stays_in_it(broker: Broker, tmp_path: Path) -> None:
    async with KeyValueStore(StorageConfig(path=tmp_path / "kv")) as kv:
        config = broker.config(client_id="c", max_outbox=3)
        async with MqttClient(config, outbox=kv) as client:
            await client.publish("a", b"x")
            assert client.waiting == 0
            await broker.stop()
            for _ in range(3):
                with pytest.raises(UnavailableError, match=r"was not acknowledged within 0\.2 s"):
                    await client.publish("a", b"x", timeout=0.2)
            assert client.waiting == 3
            with pytest.raises(OverloadedError, match="3 messages of 3 bytes wait for the broker"):
                await client.publish("a", b"x")
            with pytest.raises(RejectedError, match="it is no topic"):
                await client.publish("a/#", b"x")
        await broker.start()
        async with MqttClient(config, outbox=kv) as client:
            await until(lambda: client.waiting == 0)
            await client.publish("a", b"x")
        assert [key async for key, _ in kv.scan()] == []


async def test_bytes_are_bounded_too(tmp_path: Path) -> None:
    async with KeyValueStore(StorageConfig(path=tmp_path / "kv")) as kv:
        outbox = Outbox(kv, "c", 10, 10)
        first = await outbox.keep("a", b"123456789", 1, False)
        with pytest.raises(OverloadedError):
            await outbox.keep("a", b"12", 1, False)
        await outbox.forget(first)
        kept = [await outbox.keep("a", b"12", 1, True), await outbox.keep("b", b"3", 2, False)]
        other = Outbox(kv, "c", 10, 10)
        assert await other.load() == kept
        assert (other.count, other.size) == (2, 3)
        assert (await other.keep("c", b"", 1, False)).place == kept[-1].place + 1
        assert await Outbox(kv, "c2", 10, 10).load() == []
        assert all(0 < each.packet_id <= IDS for each in kept)


async def test_one_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    async with KeyValueStore(StorageConfig(path=tmp_path / "kv")) as kv:
        outbox = Outbox(kv, "c", 10, 10)
        await outbox.keep("a", b"", 1, False)
        ((key, _),) = [row async for row in kv.scan()]
        await kv.set(key, b"\xc1")
        with pytest.raises(CorruptError, match="message 0 of the outbox cannot be read"):
            await outbox.load()


async def test_it_needs_a_name() -> None:
    with pytest.raises(ConfigError, match="client_id"):
        MqttClient(MqttConfig("mqtt://localhost"), outbox=object())  # type: ignore[arg-type]  # it does not come to that
