"""What every connector promises, whatever its kind: the kinds' own tests bring one whose other side is there, and these follow."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

from skerry.connector import Batch, Message, Outgoing, Place, Sink, Source, open_connector, parse_connector
from skerry.connector.contract import MOST_MESSAGES
from skerry.connector.intake import fault_of
from skerry.core.errors import SkerryError
from tests.connector.rig import LONGEST

WAIT_S = 30.0
Act = Callable[[], Awaitable[None]]


def opened(table: dict[str, Any], base: Path, **place: Any) -> Any:
    """A connector as the configuration makes it."""
    return open_connector(parse_connector(table, "c"), Place(table["name"], "rock", "sea", base, **place))


async def closed(connector: Any) -> None:
    close = getattr(connector, "close", None)
    if close is not None:
        await close()


async def take(source: Source, cursor: bytes, count: int, settled: bool) -> tuple[list[Message], bytes]:
    """At least so many messages, and the cursor behind them; `settled`: the last batch was stored too."""
    found: list[Message] = []
    async with asyncio.timeout(WAIT_S), aclosing(source.read(cursor)) as batches:  # type: ignore[type-var]  # a generator
        async for batch in batches:
            assert isinstance(batch, Batch)
            assert len(batch.messages) <= MOST_MESSAGES
            if len(found) >= count:
                return found, cursor
            found += batch.messages
            cursor = batch.cursor if batch.cursor is not None else cursor
            if len(found) >= count and not settled:
                return found, cursor
            if len(found) >= count:
                pending = asyncio.ensure_future(anext(batches))
                await asyncio.wait([pending], timeout=0.3)
                pending.cancel()
                await asyncio.gather(pending, return_exceptions=True)
                return found, cursor
    raise AssertionError("the source came to its end")


async def check_source(table: dict[str, Any], base: Path, say: Callable[[int], Awaitable[None]]) -> list[Message]:
    """`say` makes the other side say something with a number. What was read and not stored comes again, what was stored does not
    where there is a cursor; all of it fits into the log."""
    source = opened(table, base)
    assert isinstance(source, Source)
    assert await source.test()
    reading = asyncio.create_task(take(source, b"", 1, settled=False))
    first, _ = await _with(reading, say, 1)
    await closed(source)
    again = opened(table, base)
    second, cursor = await _with(asyncio.create_task(take(again, b"", 1, settled=True)), say, 2)
    await closed(again)
    assert first[0].payload == second[0].payload or table["kind"] not in ("mqtt", "file"), "what was not stored comes again"
    third = opened(table, base)
    last, _ = await _with(asyncio.create_task(take(third, cursor, 1, settled=True)), say, 3)
    await closed(third)
    for message in [*first, *second, *last]:
        assert isinstance(message, Message)
        assert fault_of(message, LONGEST) == ""
    return [*first, *second, *last]


async def _with(reading: "asyncio.Task[tuple[list[Message], bytes]]", say: Any, number: int) -> tuple[list[Message], bytes]:
    """Say it while somebody reads."""
    await asyncio.wait([reading], timeout=0.5)
    await say(number)
    return await reading


def outgoing(number: int, **more: Any) -> Outgoing:
    payload = b'{"id":"e%d","pipeline":"p","key":"d","state":"firing","score":%d.5}' % (number, number)
    return Outgoing(f"e{number}", "events/p/d", payload, "p", "d", "firing", **more)


async def check_sink(table: dict[str, Any], base: Path, came: Callable[[], Sequence[bytes]], stop: Act, start: Act) -> None:
    """`came`: what the other side has got. What `send` returned for is there; while the other side is down it raises, and the same
    batch is taken afterwards."""
    sink = opened(table, base)
    assert isinstance(sink, Sink)
    assert await sink.test()
    await sink.send([outgoing(number) for number in range(1, 4)])
    for number in range(1, 4):
        await _seen(came, outgoing(number).payload)
    await stop()
    failed = False
    try:
        async with asyncio.timeout(WAIT_S):
            await sink.send([outgoing(4)])
    except (SkerryError, OSError) as error:
        failed = bool(str(error))
    assert failed
    await start()
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                await sink.send([outgoing(4)])
            except (SkerryError, OSError):
                await asyncio.sleep(0.1)
            else:
                break
    await _seen(came, outgoing(4).payload)
    await closed(sink)


async def _seen(came: Callable[[], Sequence[bytes]], payload: bytes) -> None:
    async with asyncio.timeout(WAIT_S):
        while not any(payload in each for each in came()):  # noqa: ASYNC110 - the other side has no event for it
            await asyncio.sleep(0.02)
