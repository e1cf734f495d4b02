"""Events as chunks: heartbeats, errors, bounds."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from skerry.api.stream import EventStreams
from skerry.core.errors import OverloadedError, UnavailableError

pytestmark = pytest.mark.asyncio
Item = tuple[int, dict[str, object]]


class Source:
    """Items with pauses before them, then an end, or an error."""

    def __init__(self, *pauses: float, error: Exception | None = None) -> None:
        self.closed = False
        self._pauses = pauses
        self._error = error

    async def items(self) -> AsyncIterator[Item]:
        try:
            for number, pause in enumerate(self._pauses, 7):
                await asyncio.sleep(pause)
                yield number, {"n": number}
            if self._error:
                raise self._error
        finally:
            self.closed = True


async def test_ids_names_and_data() -> None:
    streams, source = EventStreams(), Source(0, 0)
    assert [chunk async for chunk in streams.chunks(source.items())] == [
        b"retry: 2000\n\n",
        b'id: 7\nevent: event\ndata: {"n":7}\n\n',
        b'id: 8\nevent: event\ndata: {"n":8}\n\n',
    ]
    assert source.closed
    assert streams.readers == 0


async def test_a_heartbeat_loses_no_event() -> None:
    streams, source = EventStreams(heartbeat=0.02), Source(0.07, 0.07)
    chunks = [chunk async for chunk in streams.chunks(source.items())]
    assert chunks.count(b": alive\n\n") >= 4
    assert [chunk[:5] for chunk in chunks if chunk.startswith(b"id")] == [b"id: 7", b"id: 8"]


async def test_an_error_is_told() -> None:
    chunks = [chunk async for chunk in EventStreams().chunks(Source(0, error=UnavailableError("gone", mend="wait")).items())]
    assert chunks[-1].startswith(b"event: error\ndata: {")
    assert b'"detail":"gone"' in chunks[-1]


async def test_a_reader_that_leaves_closes_the_source() -> None:
    streams, source = EventStreams(heartbeat=0.02), Source(0, 60)
    chunks = streams.chunks(source.items())
    for _ in range(3):
        await anext(chunks)
    assert streams.readers == 1
    await chunks.aclose()
    assert source.closed
    assert streams.readers == 0


async def test_readers_are_bounded() -> None:
    streams = EventStreams(most=1)
    chunks = streams.chunks(Source(60).items())
    streams.admit()
    await anext(chunks)
    with pytest.raises(OverloadedError, match="1 event streams are open already"):
        streams.admit()
    await chunks.aclose()
    streams.admit()
