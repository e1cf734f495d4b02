"""The frames between agent and model server: cut anywhere, many at once, too large, no frames at all."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.serving.frames import BODY, Answer, Ask, Frames

pytestmark = pytest.mark.asyncio


def ask(number: int, body: bytes) -> Ask:
    return Ask(number, "POST", "/v2/models/a/infer", {"a": "b"}, body)


def frame(message: Ask) -> bytes:
    packed = msgspec.msgpack.encode(message)
    return len(packed).to_bytes(4, "big") + packed


class Ends:
    """Both ends of a connection, and what has been taken at each."""

    def __init__(self) -> None:
        self.asked: list[list[Ask]] = []
        self.answered: list[list[Answer]] = []
        self.agent: Frames[Answer] = Frames(Answer, lambda found, _: self.answered.append(found))
        self.server: Frames[Ask] = Frames(Ask, lambda found, _: self.asked.append(found))

    async def until(self, asked: int) -> list[Ask]:
        async with asyncio.timeout(10):
            while sum(map(len, self.asked)) < asked:  # noqa: ASYNC110 - both ends are callbacks
                await asyncio.sleep(0.001)
        return [each for together in self.asked for each in together]


@asynccontextmanager
async def connected() -> AsyncIterator[Ends]:
    loop = asyncio.get_running_loop()
    ends = Ends()
    left, right = socket.socketpair()
    first, _ = await loop.create_connection(lambda: ends.agent, sock=left)
    second, _ = await loop.create_connection(lambda: ends.server, sock=right)
    try:
        yield ends
    finally:
        first.close()
        second.close()
        await asyncio.gather(ends.agent.lost, ends.server.lost)


async def test_what_is_sent_in_one_turn_comes_together() -> None:
    async with connected() as ends:
        for number in range(20):
            ends.agent.send(ask(number, b"x" * number))
        assert await ends.until(20) == [ask(number, b"x" * number) for number in range(20)]
        assert len(ends.asked) == 1
        ends.server.send(Answer(3, 200, {}, b"yes"))
        ends.agent.send(ask(21, b""))
        await ends.until(21)
        assert ends.answered in ([[Answer(3, 200, {}, b"yes")]], [])


async def test_large_bodies_between_small_ones() -> None:
    async with connected() as ends:
        sent = [ask(1, b"a"), ask(2, b"b" * 9_000_000), ask(3, b"c"), ask(4, bytes(3_000_000)), ask(5, b"")]
        for each in sent:
            ends.agent.send(each)
            await asyncio.sleep(0)
        assert await ends.until(5) == sent


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=40), min_size=1, max_size=6), st.lists(st.integers(0, 400), max_size=8))
async def test_frames_may_be_cut_anywhere(bodies: list[bytes], cuts: list[int]) -> None:
    sent = [ask(number, body) for number, body in enumerate(bodies)]
    raw = b"".join(map(frame, sent))
    taken: list[Ask] = []
    frames: Frames[Ask] = Frames(Ask, lambda found, _: taken.extend(found))
    at = 0
    for cut in [*sorted(cut for cut in cuts if cut < len(raw)), len(raw)]:
        frames.data_received(raw[at:cut])
        at = cut
    assert taken == sent


@pytest.mark.parametrize("raw", [(BODY * 2).to_bytes(4, "big"), b"\0\0\0\1\xc1", b"\0\0\0\0", b"\0\0\0\3abc"])
async def test_what_is_no_frame_closes_the_connection(raw: bytes) -> None:
    loop = asyncio.get_running_loop()
    taken: list[list[Ask]] = []
    left, right = socket.socketpair()
    frames: Frames[Ask]
    _, frames = await loop.create_connection(lambda: Frames(Ask, lambda found, _: taken.append(found)), sock=right)
    left.setblocking(False)
    await loop.sock_sendall(left, raw)
    async with asyncio.timeout(5):
        await frames.lost
    assert taken == []
    frames.send(ask(1, b"into the void"))
    left.close()
