"""What a client with TLS says first, byte by byte: what goes on to the broker, and what does not."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from skerry.broker.tls_client import SHORT, Allowance
from tests.broker.callout_rig import within
from tests.broker.tls_rig import TlsRig, tls_rig

pytestmark = pytest.mark.asyncio
_HELLO = (
    b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
)
_CONNECT = b"\x10\x16\0\4MQTT\4\xc2\0\x3c\0\3cut\0\1u\0\2pw"


@pytest_asyncio.fixture
async def rig(tmp_path: Path) -> AsyncIterator[TlsRig]:
    async with tls_rig(tmp_path) as found:
        yield found


async def connected(rig: TlsRig, name: str = "websocket") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection with TLS, and nothing said yet."""
    context = ssl.create_default_context(cafile=str(rig.site.ca))
    return await asyncio.open_connection("127.0.0.1", rig.ports[name].port, ssl=context, server_hostname="localhost")


def _piece(content: bytes, first: int) -> bytes:
    return bytes([first, 0x80 | len(content)]) + bytes(4) + content


@pytest.mark.parametrize(
    "frames",
    [
        [_piece(_CONNECT[:5], 0x82), _piece(_CONNECT[5:], 0x82)],
        [_piece(_CONNECT[:5], 0x02), _piece(b"", 0x00), _piece(_CONNECT[5:], 0x80)],
        [_piece(_CONNECT[:1], 0x02), _piece(_CONNECT[1:], 0x00), _piece(b"\xc0\x00", 0x80)],
        [_piece(_CONNECT + b"\xc0\x00", 0x82)],
    ],
    ids=["frames", "pieces", "a message that goes on", "more than it"],
)
async def test_a_connect_that_is_cut_tells_who_it_is_all_the_same(rig: TlsRig, frames: list[bytes]) -> None:
    reader, writer = await connected(rig)
    writer.write(_HELLO)
    async with asyncio.timeout(8):
        await reader.readuntil(b"\r\n\r\n")
        for each in frames:
            writer.write(each)
            await writer.drain()
            await asyncio.sleep(0.02)
        assert (await reader.readexactly(6))[2:] == b"\x20\x02\x00\x00"
    assert [(request.username, request.password, request.address) for request in rig.asked] == [("u", "pw", "127.0.0.1")]
    writer.transport.abort()


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (_piece(_CONNECT, 0xC2), b""),
        (_piece(b"", 0x89) + _piece(_CONNECT, 0x82), b""),
        (_piece(_CONNECT.replace(b"\0\1u", b"\0\1\xff"), 0x82), b""),
        (_piece(b"\x10\x18" + _CONNECT[2:] + b"ab", 0x82), b""),
        (_piece(_CONNECT.replace(b"MQTT\4", b"MQTT\5"), 0x82), b"\x82\x04\x20\x02\x00\x01"),
    ],
    ids=["squeezed", "a ping", "no text", "too long", "mqtt 5"],
)
async def test_what_cannot_be_written_anew_does_not_reach_the_broker(rig: TlsRig, said: bytes, answer: bytes) -> None:
    """There it would pass as said on this machine: with the node's own address, and without a certificate."""
    reader, writer = await connected(rig)
    writer.write(_HELLO)
    async with asyncio.timeout(8):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        assert await reader.read() == answer
    assert rig.asked == []
    writer.transport.abort()


async def test_the_head_of_a_websocket_has_a_bound(rig: TlsRig) -> None:
    reader, writer = await connected(rig)
    writer.write(b"GET /mqtt HTTP/1.1\r\nX: " + b"x" * 20_000)
    async with asyncio.timeout(5):
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
    writer.transport.abort()


async def test_long_first_packets_are_bounded_together_and_short_ones_get_in(rig: TlsRig) -> None:
    """Who has not said who it is must not fill the memory, from however many connections."""
    port, peers = rig.ports["mqtts"], []
    allowance = port._door.long
    allowance.most = 200_000
    begun = b"\x10\xff\xff\x1d\0\4MQTT\4\2\0\x3c\xff\xff"
    for _ in range(6):
        peers.append(await connected(rig, "mqtts"))
        peers[-1][1].write(begun + bytes(80_000 - len(begun)))
    await within(5, lambda: len(port.open) == 3)
    assert allowance.held == 3 * (80_000 - SHORT)
    async with rig.mqtt("short", user="u", password="p") as short:
        assert short.code == 0
    for _, writer in peers:
        writer.transport.abort()
    await within(5, lambda: not port.open)
    assert allowance.held == 0
    async with (
        rig.mqtt("long", user="u", password="p" * 60_000) as long,
        rig.wss("long-ws", user="u", password="p" * 60_000) as page,
    ):
        assert (long.code, page.code) == (0, 0)
        assert allowance.held == 0, "once it is handed on nothing is held"


async def test_what_is_counted() -> None:
    allowance = Allowance(1000)
    assert allowance.change(0, SHORT) == 0
    assert allowance.change(0, SHORT + 600) == 600
    assert allowance.change(0, SHORT + 401) is None
    assert allowance.change(0, SHORT + 400) == 400
    assert allowance.change(600, SHORT + 601) is None
    assert allowance.change(600, SHORT) == 0
    assert allowance.held == 400
