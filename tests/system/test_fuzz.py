"""Bytes at random and bent packets at each door of a node: nothing dies, hangs or leaks, and a device is served as before."""

import contextlib
import json
import socket
import ssl
import struct
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skerry.cli import main
from tests.fixtures.mutations import bent, in_pieces
from tests.fixtures.node import RunningNode, until
from tests.fixtures.raw_mqtt import RawMqtt, connect, packet, text

READINGS = """
[[pipelines]]
name = "readings"
source = { topic = "devices/+/numbers", values = ["n"] }
"""
EXAMPLES = 200
PATIENCE_S = 10.0
MORE_FILES = 4
MORE_MIB = 48
FUZZ = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)


CONNECT = connect("fuzz")
PACKETS = [
    CONNECT,
    connect("fuzz", clean=False),
    connect("fuzz", "pump", "secret"),
    packet(0x10, b"\0\4MQTT\4\x2e\0\x3c" + text("fuzz") + text("status/fuzz") + text("gone")),
    packet(0x10, b"\0\4MQTT\5\2\0\x3c\0" + text("five")),
    packet(0x30, text("devices/fuzz/numbers") + b'{"ts": 1, "n": 1}'),
    packet(0x32, text("devices/fuzz/numbers") + b"\0\1" + b'{"ts": 1, "n": 1}'),
    packet(0x34, text("devices/fuzz/numbers") + b"\0\2" + b"x"),
    packet(0x3D, text("devices/fuzz/numbers") + b"\0\3" + b"x"),
    packet(0x32, text("$MQTT/sub/x") + b"\0\1x"),
    packet(0x32, text("devices/+/#") + b"\0\1x"),
    packet(0x82, b"\0\4" + text("commands/fuzz/#") + b"\1"),
    packet(0x82, b"\0\5" + text("#") + b"\1" + text("devices/+/x") + b"\0"),
    packet(0x82, b"\0\6"),
    packet(0xA2, b"\0\7" + text("commands/fuzz/#")),
    packet(0x40, b"\0\1"), packet(0x62, b"\0\2"), packet(0x50, b"\0\3"), packet(0x70, b"\0\4"),
    packet(0xC0, b""), packet(0xE0, b""), packet(0xF0, b"\0"), b"\x10\xff\xff\xff\xff\x01", b"\x32\xff\xff\xff\x7f",
]  # fmt: skip
sessions = st.tuples(st.sampled_from([b"", CONNECT, CONNECT]), st.lists(bent(PACKETS, 3), max_size=5)).map(
    lambda parts: parts[0] + b"".join(parts[1])
)
mqtt_bytes = in_pieces(sessions | st.binary(max_size=200))

HOST = b"host: 127.0.0.1\r\n"
BODY = json.dumps({"device": "pump", "challenge": "A" * 44, "signature": "B" * 88}).encode()
REQUESTS = [
    b"GET /readyz HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET /api/v1/events?last=2&pipeline=readings HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET /api/v1/devices/pump HTTP/1.0\r\n\r\n",
    b"DELETE /api/v1/devices/nobody HTTP/1.1\r\n" + HOST + b"origin: http://evil.example\r\n\r\n",
    *(
        b"POST %b HTTP/1.1\r\n%bcontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (path, HOST, len(BODY), BODY)
        for path in (b"/auth/challenge", b"/auth/token", b"/api/v1/devices", b"/v2/models/m/infer", b"/api/v1/pipelines/none/pause")
    ),
    b"POST /auth/token HTTP/1.1\r\n" + HOST + b"transfer-encoding: chunked\r\n\r\n5\r\n{\"a\":\r\n2\r\n1}\r\n0\r\n\r\n",
    b"POST /v2/models/m/infer HTTP/1.1\r\n" + HOST + b"inference-header-content-length: 9\r\ncontent-length: 4\r\n\r\n{}xx",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]  # fmt: skip
http_bytes = in_pieces(bent(REQUESTS) | st.binary(max_size=200))

UPGRADE = (
    b"GET /mqtt HTTP/1.1\r\n" + HOST + b"upgrade: websocket\r\nconnection: upgrade\r\n"
    b"sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\nsec-websocket-version: 13\r\nsec-websocket-protocol: mqtt\r\n\r\n"
)


def masked(data: bytes, opcode: int = 2) -> bytes:
    """One frame of a client, with a mask of zeros."""
    size = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + struct.pack(">H", len(data))
    return bytes([0x80 | opcode]) + size + b"\0\0\0\0" + data


def hello() -> bytes:
    """What a TLS client says first."""
    said = ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), said, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return said.read()


HELLO = hello()
IN = masked(CONNECT)
FRAMES = [IN, *(IN + masked(each) for each in PACKETS), IN + masked(b"ping", 9), IN + masked(b"", 8), IN + masked(PACKETS[4], 0)]
frames = in_pieces(bent(FRAMES) | st.binary(max_size=200))
upgrades = in_pieces(bent([UPGRADE, UPGRADE + IN]))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the certificates are."""
    folder = tmp_path_factory.mktemp("site")
    assert main(["init", str(folder), "--tls", "-q"]) == 0
    (folder / "node").mkdir()
    return folder / "data" / "tls"


@pytest.fixture(scope="module")
def node(site: Path) -> Iterator[RunningNode]:
    files = f'cert = "{site}/server.pem", key = "{site}/server.key", ca = "{site}/ca.pem"'
    lines = f'mqtts = "127.0.0.1:0"\nwebsocket = "127.0.0.1:0"\ntls = {{ {files} }}'
    with RunningNode(site.parents[1] / "node", READINGS, broker=lines) as running:
        yield running


class Watch:
    """What a node holds: open files of agent and nats-server, and their memory."""

    def __init__(self, node: RunningNode) -> None:
        self._node = node
        self._processes = [node.processes(role)[0] for role in ("agent", "nats-server")]
        served(node)
        self._files = self.files()
        self._bytes = [process.memory_info().rss for process in self._processes]

    def files(self) -> list[int]:
        return [process.num_fds() for process in self._processes]

    def check(self) -> None:
        """The same processes run, hold no more files than before and little more memory, and serve a device."""
        assert all(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in self._processes)
        assert self._node.status()["ready"]
        served(self._node)
        # the question after the status is a connection of the agent's too, and a log may be written to for the first time
        until(lambda: all(now <= then + MORE_FILES for now, then in zip(self.files(), self._files, strict=True)), 10, "they end")
        more = [process.memory_info().rss - before for process, before in zip(self._processes, self._bytes, strict=True)]
        assert max(more) < MORE_MIB << 20, more


def served(node: RunningNode) -> None:
    """A device's reading becomes an event."""
    before = len(node.events("readings"))
    with RawMqtt(node.mqtt[1], "good") as device:
        assert device.publish(b"devices/good/numbers", b'{"n": 5}')
    until(lambda: len(node.events("readings")) > before, 10, "the reading became an event")


def answer(address: tuple[str, int], pieces: list[bytes], context: ssl.SSLContext | None = None, first: bytes = b"") -> bytes:
    """Send `first` and read its answer, then the pieces and no more; what comes until the node ends the connection: it must."""
    with contextlib.ExitStack() as closing:
        sock = closing.enter_context(socket.create_connection(address, PATIENCE_S))
        if context is not None:
            sock = closing.enter_context(context.wrap_socket(sock, server_hostname="localhost"))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        found = b""
        try:
            if first:
                sock.sendall(first)
                sock.recv(65536)
            for piece in pieces:
                sock.sendall(piece)
            sock.shutdown(socket.SHUT_WR)
            while more := sock.recv(65536):
                found += more
        except (ConnectionError, ssl.SSLError):
            pass  # it was ended before we had said all
        except OSError as error:
            if error.errno != 107:  # not connected any more: ended between two of our lines
                raise
        return found


def gets_in(address: tuple[str, int], context: ssl.SSLContext, *said: bytes) -> bool:
    """Whether what is bent in a test is good when it is not."""
    with socket.create_connection(address, PATIENCE_S) as plain, context.wrap_socket(plain, server_hostname="localhost") as sock:
        found = b""
        for each in said:
            sock.sendall(each)
            found = sock.recv(4096)
    return found.endswith(b"\x20\x02\x00\x00")


def address_of(node: RunningNode, name: str) -> tuple[str, int]:
    host, _, port = str(node.status()["broker"][name]).rpartition(":")
    return host, int(port)


def test_mqtt(node: RunningNode) -> None:
    watch, address = Watch(node), node.mqtt

    @FUZZ
    @given(mqtt_bytes)
    def fuzz(pieces: list[bytes]) -> None:
        answer(address, pieces)

    fuzz()
    watch.check()


def test_mqtt_inside_tls(node: RunningNode, site: Path) -> None:
    watch, address, context = Watch(node), address_of(node, "mqtts"), ssl.create_default_context(cafile=str(site / "ca.pem"))
    assert gets_in(address, context, CONNECT)

    @FUZZ
    @given(mqtt_bytes)
    def fuzz(pieces: list[bytes]) -> None:
        answer(address, pieces, context)

    fuzz()
    watch.check()


def test_web_sockets(node: RunningNode, site: Path) -> None:
    watch, address, context = Watch(node), address_of(node, "websocket"), ssl.create_default_context(cafile=str(site / "ca.pem"))
    assert gets_in(address, context, UPGRADE, IN)

    @FUZZ
    @given(st.tuples(st.just(UPGRADE), frames) | st.tuples(st.just(b""), upgrades))
    def fuzz(said: tuple[bytes, list[bytes]]) -> None:
        answer(address, said[1], context, said[0])

    fuzz()
    watch.check()


def test_before_tls(node: RunningNode) -> None:
    watch, address = Watch(node), address_of(node, "mqtts")

    @FUZZ
    @given(in_pieces(bent([HELLO, CONNECT]) | st.binary(max_size=200)))
    def fuzz(pieces: list[bytes]) -> None:
        answer(address, pieces)

    fuzz()
    watch.check()


def test_http(node: RunningNode) -> None:
    address = address_of(node, "http")
    answer(address, [REQUESTS[7]])  # the model server is started by the first request, and stays
    watch = Watch(node)

    @FUZZ
    @given(http_bytes)
    def fuzz(pieces: list[bytes]) -> None:
        found = answer(address, pieces)
        assert b"HTTP/1.1 500" not in found, found
        assert not found or found.startswith(b"HTTP/1."), found

    fuzz()
    watch.check()
