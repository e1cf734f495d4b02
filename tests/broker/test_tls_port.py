"""TLS ports before a real nats-server: who gets in and as whom, renewal under live connections, and peers that misbehave."""

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import struct
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from skerry.broker import TlsPort
from skerry.core.service import cancel_and_wait
from skerry.trust import certificate_fingerprint, certificate_names
from tests.broker.callout_rig import within
from tests.broker.tls_rig import TlsRig, tls_rig

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def rig(tmp_path: Path) -> AsyncIterator[TlsRig]:
    async with tls_rig(tmp_path) as found:
        yield found


async def connected(rig: TlsRig, name: str = "mqtts") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection with TLS, and nothing said yet."""
    context = ssl.create_default_context(cafile=str(rig.site.ca))
    return await asyncio.open_connection("127.0.0.1", rig.ports[name].port, ssl=context, server_hostname="localhost")


async def shown(rig: TlsRig, name: str) -> str:
    """Fingerprint of what a port shows now."""
    _, writer = await connected(rig, name)
    found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return certificate_fingerprint(ssl.DER_cert_to_PEM_cert(found))


async def test_passwords_certificates_and_anonymous_clients_on_one_port(rig: TlsRig) -> None:
    own = rig.site.device("pump-1")
    async with (
        rig.mqtt("a", user="dev-1", password="right") as first,
        rig.mqtt("b", own=own) as second,
        rig.mqtt("c") as third,
        rig.mqtt("d", own=own, user="pump-1", password="too") as fourth,
        rig.mqtt("e", user="dev-2", password="wrong") as refused,
    ):
        assert [each.code for each in (first, second, third, fourth)] == [0, 0, 0, 0]
        assert refused.code == 5 or refused.ended
        for each in (first, second, third):
            await each.publish("devices/x", b"1")
    asked = {request.client_id: request for request in rig.asked}
    assert [(asked[each].username, asked[each].password) for each in "abcd"] == [
        ("dev-1", "right"), ("", ""), ("", ""), ("pump-1", "too"),
    ]  # fmt: skip
    assert [asked[each].verified for each in "abcd"] == [False, True, False, True]
    assert certificate_names(asked["b"].certificates[0]) == ("pump-1",)
    assert certificate_fingerprint(asked["b"].certificates[0]) == certificate_fingerprint(own.read_bytes())
    assert {request.address for request in rig.asked} == {"127.0.0.1"}


async def test_messages_of_all_sizes_go_both_ways(rig: TlsRig) -> None:
    sizes = [0, 1, 100, 16_384, 70_000, 1_000_000]
    async with rig.mqtt("writer", user="w", password="p") as writer, rig.mqtt("reader", user="r", password="p") as reader:
        assert await reader.subscribe("devices/#") == 1
        for size in sizes:
            await writer.publish("devices/w", bytes(size))
        await reader.received(len(sizes))
    assert [len(payload) for _, payload, _ in reader.messages] == sizes


async def test_over_websocket(rig: TlsRig) -> None:
    async with rig.wss("w", user="dev-1", password="right") as browser, rig.plain("p", user="plain", password="p") as plain:
        assert (browser.code, plain.code) == (0, 0)
        await plain.subscribe("devices/#")
        await browser.publish("devices/dev-1", b"from a browser")
        await plain.received(1)
    assert plain.messages == [("devices/dev-1", b"from a browser", 1)]
    async with rig.wss("x", user="dev-1", password="wrong") as refused, rig.wss("y", own=rig.site.device("pump-1")) as known:
        assert refused.code != 0
        assert known.code == 0
    (request,) = [request for request in rig.asked if request.client_id == "y"]
    assert (request.username, certificate_names(request.certificates[0])) == ("", ("pump-1",))
    assert [request.address for request in rig.asked if request.client_id == "w"] == ["127.0.0.1"]


async def test_a_session_lives_on_over_both_doors(rig: TlsRig) -> None:
    async with rig.mqtt("s", user="s", password="p", clean=False) as reader:
        await reader.subscribe("devices/#")
    async with rig.plain("w", user="w", password="p") as writer:
        await writer.publish("devices/w", b"while away")
    async with rig.plain("s", user="s", password="p", clean=False) as back:
        await back.received(1)
    assert back.messages[0][1] == b"while away"


async def test_a_renewal_reaches_new_handshakes_and_cuts_nobody(rig: TlsRig) -> None:
    before = await shown(rig, "mqtts")
    async with rig.mqtt("held", user="h", password="p") as held, rig.wss("held-ws", user="h", password="p") as browser:
        pid = rig.server.pid
        rig.site.renew()
        assert rig.served.refresh()
        for name in ("mqtts", "websocket"):
            assert await shown(rig, name) == rig.served.facts.fingerprint != before
        await held.publish("devices/h", b"still here")
        await browser.publish("devices/h", b"still here")
        assert not held.ended
        assert not browser.ended
        async with rig.mqtt("new", user="n", password="p") as new:
            await new.publish("devices/n")
        assert rig.server.pid == pid


async def test_wrong_certificates_and_strangers_do_not_get_in(rig: TlsRig, tmp_path: Path) -> None:
    port = rig.ports["mqtts"].port
    for own in (rig.site.stranger("pump-1"), None):
        context = ssl.create_default_context(cafile=str(rig.site.ca) if own else None)
        if own is not None:
            context.load_cert_chain(own)
        reader, writer = None, None
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
            # in TLS 1.3 a client learns only with the first answer that its certificate was refused
            assert await reader.read() == b""
        if writer is not None:
            writer.close()
            with contextlib.suppress(ssl.SSLError, ConnectionError):
                await writer.wait_closed()
    async with rig.plain("raw", user="dev-1", password="right") as plain:
        assert plain.code == 0, "the port without TLS is open beside it"
    assert [request.client_id for request in rig.asked] == ["raw"]


@pytest.mark.parametrize(("version", "works"), [("-tls1", False), ("-tls1_1", False), ("-tls1_2", True), ("-tls1_3", True)])
async def test_versions(rig: TlsRig, version: str, works: bool) -> None:
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{rig.ports['mqtts'].port}", version, "-CAfile", str(rig.site.ca)]
    command += ["-verify_return_error", "-cipher", "ALL:@SECLEVEL=0"]
    done = await asyncio.to_thread(subprocess.run, command, input=b"", capture_output=True, timeout=20, check=False)
    assert (done.returncode == 0) is works, done.stderr


async def test_a_client_cannot_pass_as_one_that_came_over_tls(rig: TlsRig) -> None:
    async with rig.plain("x", user="$tls", password="0" * 48) as plain:
        assert plain.code == 0, "the rig takes any name; who it is was not changed"
    assert [(request.username, request.certificates) for request in rig.asked] == [("$tls", ())]


Misbehave = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def _rubbish(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert await reader.read() == b""


async def _mqtt_5(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"\x10\x0e\0\4MQTT\5\2\0\x3c\0\0\1c")
    assert (await reader.read())[:4] in (b"\x20\x02\x00\x01", b"")


async def _a_byte_at_a_time(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for byte in b"\x10\x0d\0\4MQTT\4\2\0\x3c\0\1z" + b"\xc0\x00":
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.001)
    assert await reader.readexactly(6) == b"\x20\x02\x00\x00\xd0\x00"


async def _gone_in_the_middle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"\x10\x7f\0\4MQTT")
    await writer.drain()
    writer.transport.abort()


@pytest.mark.parametrize("misbehave", [_rubbish, _mqtt_5, _a_byte_at_a_time, _gone_in_the_middle])
async def test_odd_peers(rig: TlsRig, misbehave: Misbehave) -> None:
    port = rig.ports["mqtts"]
    reader, writer = await connected(rig)
    async with asyncio.timeout(8):
        await misbehave(reader, writer)
    writer.transport.abort()
    await within(5, lambda: not port.open)


async def test_who_says_nothing_is_cut(tmp_path: Path) -> None:
    async with tls_rig(tmp_path, patience=0.2) as rig:
        reader, writer = await connected(rig)
        writer.write(b"\x10\x20\0\4")
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        writer.transport.abort()


async def test_connections_are_bounded(tmp_path: Path) -> None:
    async with tls_rig(tmp_path, most=2) as rig, rig.mqtt("a", user="a", password="p"), rig.mqtt("b", user="b", password="p"):
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            reader, writer = await connected(rig)
            async with asyncio.timeout(5):
                assert await reader.read() == b""
            writer.transport.abort()
        assert len(rig.ports["mqtts"].open) == 2


async def test_a_client_that_does_not_read_holds_up_its_sender_and_nobody_else(rig: TlsRig) -> None:
    """Between the two ends no more is held than the buffers of both; what the server does with a slow reader is its matter."""
    context = ssl.create_default_context(cafile=str(rig.site.ca))
    port = rig.ports["mqtts"]
    reader, writer = await asyncio.open_connection("127.0.0.1", port.port, ssl=context, server_hostname="localhost", limit=1024)
    writer.write(b"\x10\x0f\0\4MQTT\4\2\0\x3c\0\3lag")
    assert await reader.readexactly(4) == b"\x20\x02\x00\x00"
    writer.write(b"\x82\x0e\0\1\0\x09devices/#\0")
    assert await reader.readexactly(5) == b"\x90\x03\x00\x01\x00"
    async with rig.mqtt("writer", user="w", password="p") as sender:
        for _ in range(40):
            await sender.publish("devices/w", bytes(500_000))
    held = [each.transport.get_write_buffer_size() for each in port.open if each.transport is not None]
    assert max(held, default=0) < 4 << 20
    writer.transport.abort()
    await within(5, lambda: not port.open)


async def test_when_the_broker_is_away_clients_are_turned_away_and_come_back(rig: TlsRig) -> None:
    pid = rig.server.pid
    assert pid is not None
    async with rig.mqtt("held", user="h", password="p") as held:
        rig.server.ready.clear()
        os.kill(pid, signal.SIGKILL)
        await within(10, lambda: held.ended)
        await asyncio.wait_for(rig.server.ready.wait(), 15)
    _, writer = await connected(rig)
    writer.transport.abort()


async def test_a_port_that_is_taken_is_told_and_tried_again(rig: TlsRig) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        port = TlsPort("mqtts", ("127.0.0.1", taken), rig.server.mqtt_listener, lambda: rig.served.context, rig.callers, 10)
        task = asyncio.create_task(port.run())
        await within(5, lambda: "cannot listen" in port.status)
        assert port.status == f"broker.mqtts cannot listen on 127.0.0.1:{taken}: address already in use"
        assert port.address == ""
    try:
        await asyncio.wait_for(port.ready.wait(), 10)
        assert port.address == f"127.0.0.1:{taken}"
    finally:
        await cancel_and_wait(task)
    assert port.status == "mqtts is stopped"


async def test_when_it_ends_its_clients_end(rig: TlsRig) -> None:
    port = TlsPort("mqtts", ("127.0.0.1", 0), rig.server.mqtt_listener, lambda: rig.served.context, rig.callers, 10)
    task = asyncio.create_task(port.run())
    await port.ready.wait()
    context = ssl.create_default_context(cafile=str(rig.site.ca))
    reader, writer = await asyncio.open_connection("127.0.0.1", port.port, ssl=context, server_hostname="localhost")
    writer.write(b"\x10\x0d\0\4MQTT\4\2\0\x3c" + struct.pack(">H", 1) + b"e")
    assert await reader.readexactly(4) == b"\x20\x02\x00\x00"
    await cancel_and_wait(task)
    with contextlib.suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.transport.abort()


async def test_why_clients_fail_is_told_once_a_minute(
    rig: TlsRig, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    port = rig.ports["mqtts"]

    def distrust() -> None:
        with socket.create_connection(("127.0.0.1", port.port), 5) as raw, pytest.raises(ssl.SSLError):
            ssl.create_default_context().wrap_socket(raw, server_hostname="localhost")

    await asyncio.to_thread(distrust)
    await within(5, lambda: port.failed == 1)
    for _ in range(5):
        _, writer = await asyncio.open_connection("127.0.0.1", port.port)
        writer.write(b"\x10\x0d\0\4MQTT\4\2\0\x3c\0\1c")
        await writer.drain()
        writer.close()
    await within(5, lambda: port.failed == 6)
    # where it goes depends on whether the log was configured before
    lines = [line for line in (capsys.readouterr().out + caplog.text).splitlines() if "failed" in line]
    assert len(lines) == 1
    assert "mqtts: 1 handshake failed, the last by 127.0.0.1: " in lines[0]
    assert "unknown ca" in lines[0]


CONNECT = b"\x10\x0f\0\4MQTT\4\2\0\x3c\0\3far"
UPGRADE = (
    b"GET /mqtt HTTP/1.1\r\nHost: box\r\nX-Forwarded-For: 9.9.9.9\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
)


@pytest.mark.parametrize("name", ["mqtts", "websocket"])
async def test_the_log_in_knows_where_a_client_comes_from(rig: TlsRig, name: str) -> None:
    """Whatever the client says of that itself."""
    context = ssl.create_default_context(cafile=str(rig.site.ca))
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", rig.ports[name].port, ssl=context, server_hostname="localhost", local_addr=("127.0.0.77", 0)
    )
    if name == "websocket":
        half = len(UPGRADE) // 2
        writer.write(UPGRADE[:half])
        await asyncio.sleep(0.05)
        writer.write(UPGRADE[half:])
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).startswith(b"HTTP/1.1 101")
        writer.write(b"\x82" + bytes([0x80 | len(CONNECT)]) + bytes(4) + CONNECT)
    else:
        writer.write(CONNECT)
    assert (await asyncio.wait_for(reader.readexactly(4), 5))[-2:] in (b"\0\0", b"\x20\x02")
    assert [(request.client_id, request.address) for request in rig.asked] == [("far", "127.0.0.77")]
    writer.transport.abort()


async def test_a_head_without_an_end_is_cut(rig: TlsRig) -> None:
    reader, writer = await connected(rig, "websocket")
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        for _ in range(80):
            writer.write(b"GET /" + b"x" * 16_000)
            await writer.drain()
        assert (await asyncio.wait_for(reader.read(), 5)).startswith((b"HTTP/1.1 4", b""))
    writer.transport.abort()
    await within(5, lambda: not rig.ports["websocket"].open)


async def test_many_at_once_all_get_in_beside_those_that_say_nothing(tmp_path: Path) -> None:
    """The call-out has two seconds for each: handshakes that begin must not take the loop from log-ins that are under way."""
    async with tls_rig(tmp_path, most=1000) as rig:
        port = rig.ports["mqtts"].port
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(150)]
        context = ssl.create_default_context(cafile=str(rig.site.ca))

        async def log_in(number: int) -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
            client_id = b"%08d" % number
            writer.write(b"\x10\x1e\0\4MQTT\4\xc2\0\x3c\0\x08" + client_id + b"\0\3dev\0\3pwd")
            try:
                return await asyncio.wait_for(reader.readexactly(4), 20)
            finally:
                writer.transport.abort()

        assert set(await asyncio.gather(*(log_in(number) for number in range(150)))) == {b"\x20\x02\x00\x00"}
        for _, writer in silent:
            writer.transport.abort()
        await within(5, lambda: not rig.ports["mqtts"].open)
