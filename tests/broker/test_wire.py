"""The wire client: frames cut out of any reads alike, and what its callers are told when the server is gone."""

import asyncio
import itertools
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.broker import Frame, WireClient, header_fields
from skerry.core.errors import UnavailableError
from skerry.runtime import free_ports
from tests.fixtures.nats import NatsServer, until
from tests.fixtures.proxy import Proxy

Message = tuple[bytes, bytes, bytes, bytes, bytes]
"""Subscription, subject, reply, header lines, payload."""
STATUS = b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 7\r\n\r\n"
tokens = st.text(st.sampled_from("abAB.-"), min_size=1, max_size=8).map(str.encode)
messages = st.tuples(
    st.sampled_from([b"1", b"2"]),
    tokens,
    tokens | st.just(b""),
    st.sampled_from([b"", b"NATS/1.0\r\n\r\n", b"NATS/1.0\r\nNmqtt-Pub:1\r\n\r\n", STATUS]),
    st.binary(max_size=20) | st.sampled_from([b"\r\n", b"MSG a 1 5\r\nhello\r\n", b"PING\r\n", b"x" * 300]),
)


def encoded(message: Message) -> bytes:
    sid, subject, reply, header, payload = message
    words = [subject, sid, *([reply] if reply else [])]
    if header:
        return b"HMSG %b %d %d\r\n%b%b\r\n" % (b" ".join(words), len(header), len(header) + len(payload), header, payload)
    return b"MSG %b %d\r\n%b\r\n" % (b" ".join(words), len(payload), payload)


class Taken:
    """Frames by subscription, in the lists that they came in."""

    def __init__(self, client: WireClient) -> None:
        self.runs: list[tuple[bytes, list[Frame]]] = []
        for sid in (b"1", b"2"):
            assert client.subscribe(b"s", lambda frames, sid=sid: self.runs.append((sid, frames))) == sid

    def of(self, wanted: bytes) -> list[Frame]:
        return [frame for sid, frames in self.runs if sid == wanted for frame in frames]


async def client_for_bytes() -> tuple[WireClient, Taken]:
    client = WireClient(b"")
    return client, Taken(client)


async def fed(stream: bytes, cuts: list[int]) -> Taken:
    client, taken = await client_for_bytes()
    bounds = sorted({0, len(stream), *[cut % (len(stream) + 1) for cut in cuts]})
    for begin, end in itertools.pairwise(bounds):
        client.data_received(stream[begin:end])
    assert client.received_bytes == len(stream)
    return taken


@settings(max_examples=60, deadline=None)
@given(st.lists(messages, max_size=8), st.lists(st.integers(0, 2000), max_size=10))
def test_frames_are_the_same_however_the_reads_cut_them(sent: list[Message], cuts: list[int]) -> None:
    stream = b"".join(encoded(message) + b"PING\r\n" * (at % 3 == 0) + b"+OK\r\n" * (at % 2) for at, message in enumerate(sent))
    whole, cut = asyncio.run(fed(stream, [])), asyncio.run(fed(stream, cuts))
    assert len({sid for sid, _ in whole.runs}) == len(whole.runs), "one read, and a subscription was called twice"
    for taken, sid in itertools.product((whole, cut), (b"1", b"2")):
        assert taken.of(sid) == [tuple(rest) for to, *rest in sent if to == sid]


def test_frames_are_the_same_byte_by_byte_and_cut_anywhere() -> None:
    sent = [
        (b"1", b"a.b", b"", b"", b""),
        (b"2", b"c", b"r.1", STATUS, b""),
        (b"1", b"d", b"r", b"NATS/1.0\r\nA: b\r\n\r\n", b"\r\nMSG\r\n"),
    ]
    stream = b"".join(map(encoded, sent))
    taken = asyncio.run(fed(stream, list(range(len(stream)))))
    expected = [(sid, tuple(rest)) for sid, *rest in sent]
    assert [(sid, frame) for sid, (frame,) in taken.runs] == expected
    for at in range(len(stream)):
        cut = asyncio.run(fed(stream, [at]))
        assert sorted((sid, frame) for sid, frames in cut.runs for frame in frames) == sorted(expected), f"cut at {at}"


def test_frames_of_an_ended_subscription_are_dropped() -> None:
    async def run() -> Taken:
        client, taken = await client_for_bytes()
        client.unsubscribe(b"2")
        client.data_received(
            encoded((b"1", b"a", b"", b"", b"1")) + encoded((b"2", b"b", b"", b"", b"2")) + encoded((b"9", b"c", b"", b"", b"3"))
        )
        return taken

    assert asyncio.run(run()).runs == [(b"1", [(b"a", b"", b"", b"1")])]


def test_frames_without_the_wanted_header_are_passed_over() -> None:
    async def run() -> list[bytes]:
        client, found = WireClient(b""), list[bytes]()
        sid = client.subscribe(
            b"s", lambda frames: found.extend(frame[3] for frame in frames), only=(b"NATS/1.0\r\nA:0", b"NATS/1.0\r\nA: 0")
        )
        for header, payload in ((b"A:0", b"1"), (b"A:1", b"2"), (b"A: 0", b"3"), (b"B:0", b"4")):
            client.data_received(encoded((sid, b"s", b"", b"NATS/1.0\r\n" + header + b"\r\n\r\n", payload)))
        client.data_received(encoded((sid, b"s", b"", b"", b"plain")))
        return found

    assert asyncio.run(run()) == [b"1", b"3"]


def test_header_fields_are_read_by_lower_case_name() -> None:
    assert header_fields(b"NATS/1.0 100 Idle\r\nNats-Last-Consumer: 7\r\nA:b:c\r\nbroken\r\n\r\n") == {
        "nats-last-consumer": "7",
        "a": "b:c",
    }
    assert header_fields(b"") == header_fields(b"NATS/1.0\r\n\r\n") == {}
    assert header_fields(b"NATS/1.0\r\nA: \xff\r\n\r\n") == {"a": "�"}


@pytest.mark.asyncio
async def test_publishing_with_header_and_reply_and_large_payloads(tmp_path: Path) -> None:
    with NatsServer(tmp_path) as server:
        client = await server.client()
        taken: list[Frame] = []
        client.subscribe(b"t.>", taken.extend)
        client.publish(b"t.a", b"")
        client.publish(b"t.b", b"payload", b"reply.to", b"A: 1\r\nB: 2\r\n")
        client.publish(b"t.c", b"x" * 7_000_000)
        await client.flush()
        await until(lambda: len(taken) == 3)
        assert taken[0] == (b"t.a", b"", b"", b"")
        assert taken[1][:2] == (b"t.b", b"reply.to")
        assert (header_fields(taken[1][2]), taken[1][3]) == ({"a": "1", "b": "2"}, b"payload")
        assert len(taken[2][3]) == 7_000_000
        assert client.buffered == 0
        client.close()
        assert "server closed" in await client.closed


@pytest.mark.asyncio
async def test_a_queue_group_gives_each_message_to_one_member(tmp_path: Path) -> None:
    with NatsServer(tmp_path) as server:
        clients = [await server.client(), await server.client()]
        taken: list[bytes] = []
        for client in clients:
            client.subscribe(b"q", lambda frames: taken.extend(frame[3] for frame in frames), b"group")
            await client.flush()
        for number in range(200):
            clients[0].publish(b"q", b"%d" % number)
        await until(lambda: len(taken) >= 200)
        for client in clients:
            await client.flush()
        assert sorted(taken, key=int) == [b"%d" % number for number in range(200)]
        for client in clients:
            client.close()
            await client.closed


@pytest.mark.asyncio
async def test_requests_are_answered_or_refused(tmp_path: Path) -> None:
    with NatsServer(tmp_path) as server:
        client = await server.client()
        client.subscribe(b"echo", lambda frames: [client.publish(frame[1], frame[3].upper()) for frame in frames] and None)
        answers = await asyncio.gather(*[client.request(b"echo", b"a%d" % number) for number in range(50)])
        assert [frame[3] for frame in answers] == [b"A%d" % number for number in range(50)]
        with pytest.raises(UnavailableError, match="nothing answers on nobody"):
            await client.request(b"nobody", b"")
        client.subscribe(b"silent", lambda frames: None)
        with pytest.raises(UnavailableError, match=r"no answer on silent within 0\.1 s"):
            await client.request(b"silent", b"", timeout=0.1)
        client.close()
        await client.closed


@pytest.mark.asyncio
async def test_who_waits_is_told_when_the_server_dies_and_who_asks_later_too(tmp_path: Path) -> None:
    with NatsServer(tmp_path) as server:
        client = await server.client()
        client.subscribe(b"silent", lambda frames: None)
        waiting = asyncio.create_task(client.request(b"silent", b"", timeout=20))
        await client.flush()
        server.kill()
        with pytest.raises(UnavailableError, match="the connection to the broker ended"):
            await asyncio.wait_for(waiting, 5)
        for call in (client.request(b"x", b""), client.flush()):
            with pytest.raises(UnavailableError, match="ended"):
                await call
        client.publish(b"x", b"into the void")
        assert client.closed.done()


@pytest.mark.asyncio
async def test_a_server_that_hangs_does_not_hang_us(tmp_path: Path) -> None:
    with NatsServer(tmp_path) as server:
        (await server.client()).close()
        async with Proxy(server.port) as proxy:
            client = await WireClient.connect("127.0.0.1", proxy.port, "agent", "pw", "test")
            await client.flush()
            proxy.swallow_answers_with(b"PONG")
            with pytest.raises(UnavailableError, match="does not answer a ping"):
                await client.flush(timeout=0.2)
            client.close()
            await client.closed


@pytest.mark.asyncio
async def test_a_port_that_nobody_listens_on_and_a_wrong_password_are_told_apart(tmp_path: Path) -> None:
    with NatsServer(tmp_path) as server:
        (await server.client()).close()
        with pytest.raises(UnavailableError, match=re.compile("authorization violation", re.IGNORECASE)):
            await WireClient.connect("127.0.0.1", server.port, "sys", "wrong", "test")
    (port,) = free_ports("127.0.0.1", [0])
    with pytest.raises(UnavailableError, match=f"the broker at 127.0.0.1:{port} does not answer"):
        await WireClient.connect("127.0.0.1", port, "agent", "pw", "test")


@pytest.mark.asyncio
async def test_a_flood_is_read_to_its_end_and_timers_go_on_meanwhile(tmp_path: Path) -> None:
    with NatsServer(tmp_path) as server:
        client, sender = await server.client(), await server.client()
        count, longest, before = 0, 0.0, asyncio.get_running_loop().time()

        def take(frames: list[Frame]) -> None:
            nonlocal count
            count += len(frames)

        client.subscribe(b"flood", take)
        await client.flush()
        for _ in range(30):
            for _ in range(2000):
                sender.publish(b"flood", b"x" * 100)
            await asyncio.sleep(0)
            now = asyncio.get_running_loop().time()
            longest, before = max(longest, now - before), now
        await until(lambda: count == 60_000)
        assert longest < 2.0
        await client.flush()
        for each in (client, sender):
            each.close()
            await each.closed


@pytest.mark.asyncio
async def test_what_the_server_refuses_is_the_reason_of_the_end(tmp_path: Path) -> None:
    with NatsServer(tmp_path) as server:
        client = await server.client()
        client.publish(b"x" * 5000, b"")
        assert "maximum control line" in await asyncio.wait_for(client.closed, 5)
