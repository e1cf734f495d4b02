"""Handshakes that are bounded, whatever the peers do; on both loops, since the node uses uvloop and tools asyncio's own."""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import uvloop

from skerry.core.clock import SystemClock
from skerry.runtime import TlsListener
from skerry.trust import ServerTls, TlsFiles
from tests.fixtures.certificates import Site
from tests.fixtures.nats import until

LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [asyncio.new_event_loop, uvloop.new_event_loop]


class Echo(asyncio.Protocol):
    """Says back what it hears."""

    def __init__(self, up: "set[Echo]") -> None:
        self._up = up

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._up.add(self)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)  # type: ignore[attr-defined]  # uvloop's transports are no subclass

    def connection_lost(self, error: Exception | None) -> None:
        self._up.discard(self)


class Rig:
    """A listener, and what came of it."""

    def __init__(self, folder: Path, *, most: int = 50, each: int = 50) -> None:
        clock = SystemClock()
        self.site = Site(folder, clock.now())
        self.up: set[Echo] = set()
        self.failed: list[tuple[str, str]] = []
        self.most = most
        context = ServerTls(TlsFiles("t", self.site.cert, self.site.key), clock).context
        self.listener = TlsListener(
            "127.0.0.1", 0, lambda: context, lambda: Echo(self.up), most=lambda: self.most, each=each,
            failed=lambda address, why: self.failed.append((address, why)),
        )  # fmt: skip
        self.port = self.listener.port

    async def __aenter__(self) -> "Rig":
        self.listener.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.listener.close()
        await until(lambda: not accepts(self.port))
        for each in list(self.up):
            each.transport.abort()  # type: ignore[attr-defined]  # uvloop's transports are no subclass
        await until(lambda: not self.up)
        await asyncio.sleep(0.02)

    async def connect(self, address: str = "127.0.0.1") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        context = ssl.create_default_context(cafile=str(self.site.ca))
        return await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=context, server_hostname="localhost", local_addr=(address, 0)
        )


def accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.5):
        return True
    return False


@contextlib.asynccontextmanager
async def silent(rig: Rig, count: int, address: str) -> AsyncIterator[None]:
    """Connections that never say a word."""
    held = [await asyncio.open_connection("127.0.0.1", rig.port, local_addr=(address, 0)) for _ in range(count)]
    await asyncio.sleep(0.1)
    yield
    for _, writer in held:
        writer.transport.abort()


async def echoed(rig: Rig, address: str = "127.0.0.1") -> bool:
    """Whether a connection from there comes up and works."""
    try:
        reader, writer = await rig.connect(address)
    except (OSError, ssl.SSLError):
        return False
    writer.write(b"hello")
    found = await asyncio.wait_for(reader.readexactly(5), 5)
    writer.transport.abort()
    return found == b"hello"


def on_each_loop(test: Callable[[], "asyncio.Future[None]"]) -> None:
    for make in LOOPS:
        with asyncio.Runner(loop_factory=make) as runner:
            runner.run(test())  # type: ignore[arg-type]  # a coroutine function, of whose kind typing has no short name


def test_it_takes_connections_and_gives_the_port_back(tmp_path: Path) -> None:
    async def test() -> None:
        async with Rig(tmp_path / str(id(asyncio.get_running_loop()))) as rig:
            assert await echoed(rig)
            _, held = await rig.connect()
        assert not accepts(rig.port), "it listens no more"
        with socket.create_server(("127.0.0.1", rig.port)):
            pass
        held.transport.abort()

    on_each_loop(test)


def test_who_says_nothing_takes_no_more_than_the_share_of_an_address(tmp_path: Path) -> None:
    async def test() -> None:
        async with Rig(tmp_path / str(id(asyncio.get_running_loop())), most=8, each=4) as rig:
            async with silent(rig, 10, "127.0.0.5"):
                assert not await echoed(rig, "127.0.0.5")
                assert await echoed(rig)
            await until(lambda: len(rig.failed) == 4)
            assert await echoed(rig, "127.0.0.5"), "it was forgotten"

    on_each_loop(test)


def test_no_more_are_under_way_than_there_may_be(tmp_path: Path) -> None:
    async def test() -> None:
        async with Rig(tmp_path / str(id(asyncio.get_running_loop())), most=3) as rig:
            async with silent(rig, 3, "127.0.0.5"):
                assert not await echoed(rig)
                rig.most = 4
                assert await echoed(rig)
            await until(lambda: len(rig.failed) == 3)

    on_each_loop(test)


def test_why_a_handshake_failed(tmp_path: Path) -> None:
    async def test() -> None:
        async with Rig(tmp_path / str(id(asyncio.get_running_loop()))) as rig:
            await asyncio.to_thread(distrust, rig.port)
            await until(lambda: len(rig.failed) == 1)
            await asyncio.to_thread(plain, rig.port)
            await until(lambda: len(rig.failed) == 2)
            await asyncio.to_thread(reset, rig.port)
            await until(lambda: len(rig.failed) == 3)
        assert [address for address, _ in rig.failed] == ["127.0.0.1"] * 3
        whys = [why for _, why in rig.failed]
        assert "unknown ca" in whys[0]
        assert whys[1] in ("wrong version number", "http request")
        assert whys[2]

    on_each_loop(test)


def distrust(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 5) as raw, pytest.raises(ssl.SSLError):
        ssl.create_default_context().wrap_socket(raw, server_hostname="localhost")


def plain(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 5) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with contextlib.suppress(OSError):
            raw.recv(100)


def reset(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 5) as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            TlsListener("127.0.0.1", port, ssl.create_default_context, asyncio.Protocol, most=lambda: 1, each=1)


@pytest.mark.parametrize("host", ["::1", "::", "localhost", "0.0.0.0"])
def test_hosts(host: str) -> None:
    async def test() -> None:
        failed: list[str] = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        listener = TlsListener(
            host, 0, lambda: context, asyncio.Protocol, most=lambda: 1, each=1, failed=lambda address, why: failed.append(address)
        )
        listener.start()
        peer = "::1" if host == "::1" else "127.0.0.1"
        _, writer = await asyncio.open_connection(peer, listener.port)
        writer.transport.abort()
        await until(lambda: failed)
        listener.close()
        await until(lambda: not accepts(listener.port))
        assert failed[0].removeprefix("::ffff:") == peer

    asyncio.run(test())
