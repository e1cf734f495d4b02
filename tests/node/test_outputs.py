"""Reading events and dead letters back from a real nats-server: pages, tokens, tails, retries of messages and whole windows."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import chain
from typing import Any

import pytest
import pytest_asyncio

from skerry.broker import LOG, LogReader, WireClient, read_page, stream_state
from skerry.core.clock import ManualClock, SystemClock, from_rfc3339, to_rfc3339
from skerry.core.errors import RejectedError, UnavailableError
from skerry.core.service import cancel_and_wait
from skerry.device import BrokerLogin
from skerry.node.link import Link
from skerry.node.outputs import ALL, Outputs
from skerry.pipeline import DEAD, DEAD_PREFIX, EVENTS_PREFIX, DeadLetter, LetterFilter, PipelineState, Runner, books, key_token
from skerry.pipeline.event import letters_output, window_letter
from skerry.window.state import Closed
from tests.fixtures.frames import spec_of
from tests.fixtures.nats import NatsServer, put, until

pytestmark = pytest.mark.asyncio(loop_scope="module")
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with NatsServer(tmp_path_factory.mktemp("nats")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", name="client")
async def connected(server: NatsServer) -> AsyncIterator[WireClient]:
    """A connection, and streams that hold nothing."""
    client = await server.prepared()
    for stream in ("skerry_events", DEAD, LOG):
        await client.request(f"$JS.API.STREAM.PURGE.{stream}".encode(), b"")
    yield client
    client.close()


@pytest.fixture(name="outputs")
def over(client: WireClient) -> Outputs:
    return Outputs(link_of(client))


def link_of(client: WireClient | None) -> Link:
    clock = ManualClock()

    async def find(device: str) -> None:
        return None

    login = BrokerLogin(find, clock)
    login.close()
    link = Link(clock, 32 * MIB, MIB, 10**12, login, [], lambda: 0, lambda: ([], 1))
    link.client = client
    link.opened.set()
    return link


async def event(client: WireClient, number: int, pipeline: str = "p", key: str = "a") -> int:
    return await put(client, f"{EVENTS_PREFIX}{pipeline}.{key_token(key)}", json.dumps({"n": number, "key": key}).encode())


async def pages(outputs: Outputs, limit: int, **only: Any) -> list[list[int]]:
    """The numbers of all pages, one after the other."""
    found, after = [], None
    while True:
        wanted = {"pipeline": None, "key": None, "since": None, **only}
        rows, after = await outputs.events(**wanted, limit=limit, after=after)
        found.append([row["n"] for row in rows])
        if after is None:
            return found


async def test_pages_have_all_events_once_and_in_order(client: WireClient, outputs: Outputs) -> None:
    assert await pages(outputs, 10) == [[]]
    for number in range(20):
        await event(client, number, "pq"[number % 2], "a" if number % 4 < 2 else "b/ü.>")
    assert await pages(outputs, 100) == [list(range(20))]
    found = await pages(outputs, 7)
    assert [len(page) for page in found] == [7, 7, 6]
    assert list(chain.from_iterable(found)) == list(range(20))
    assert list(chain.from_iterable(await pages(outputs, 5))) == list(range(20))
    assert list(chain.from_iterable(await pages(outputs, 1, pipeline="q"))) == list(range(1, 20, 2))
    assert list(chain.from_iterable(await pages(outputs, 3, key="b/ü.>"))) == [n for n in range(20) if n % 4 >= 2]
    assert list(chain.from_iterable(await pages(outputs, 3, pipeline="p", key="a"))) == list(range(0, 20, 4))
    assert await pages(outputs, 3, pipeline="none") == [[]]
    assert await pages(outputs, 3, key="") == [[]]


async def test_what_comes_while_pages_are_read_is_on_a_later_page(client: WireClient, outputs: Outputs) -> None:
    for number in range(4):
        await event(client, number)
    first, after = await outputs.events(None, None, None, 4, None)
    assert after is not None
    await event(client, 4)
    rest, end = await outputs.events(None, None, None, 4, after)
    assert [row["n"] for row in first + rest] == [0, 1, 2, 3, 4]
    assert end is None


async def test_since_a_time(client: WireClient, outputs: Outputs) -> None:
    for number in range(3):
        await event(client, number)
    await asyncio.sleep(0.05)
    middle = from_rfc3339(to_rfc3339(SystemClock().now())) + 1000
    await asyncio.sleep(0.05)
    for number in range(3, 9):
        await event(client, number, key="ab"[number % 2])
    assert list(chain.from_iterable(await pages(outputs, 2, since=middle))) == [3, 4, 5, 6, 7, 8]
    assert list(chain.from_iterable(await pages(outputs, 2, since=middle, key="a"))) == [4, 6, 8]
    assert list(chain.from_iterable(await pages(outputs, 4, since=0))) == list(range(9))
    assert await pages(outputs, 4, since=SystemClock().now() + 3_600_000_000) == [[]]


@pytest.mark.parametrize("token", ["", "x", "-1", "1.5", "²", "٣", "9" * 30, "9" * 6000, " 1"])
async def test_a_token_that_is_none(outputs: Outputs, token: str) -> None:
    with pytest.raises(RejectedError, match="no token of a page"):
        await outputs.events(None, None, None, 5, token)
    for letters in {token, f"{token}.0", f"0.{token}"} - {"1.5"}:
        with pytest.raises(RejectedError, match="no token of a page"):
            await outputs.deadletters("p", 5, letters)


@pytest.mark.parametrize("pipeline", [">", "*", "a.b", "a b", "..", "\n", "p.>", "ü"])
async def test_a_pipeline_that_is_no_name_has_no_events(client: WireClient, outputs: Outputs, pipeline: str) -> None:
    await event(client, 1)
    assert await outputs.events(pipeline, None, None, 5, None) == ([], None)
    assert (await outputs.last_events(pipeline, None, 5))[0] == []


async def test_the_last_events(client: WireClient, outputs: Outputs) -> None:
    end = int((await stream_state(client, "skerry_events"))["last_seq"])
    assert await outputs.last_events(None, None, 5) == ([], end)
    await event(client, 0, key="rare")
    for number in range(1, 450):
        client.publish(f"{EVENTS_PREFIX}p.{key_token('a')}".encode(), json.dumps({"n": number}).encode())
    await client.flush()
    await until(lambda: _stored(client, end + 450))
    rows, last = await outputs.last_events(None, None, 3)
    assert ([row["n"] for row in rows], last) == ([447, 448, 449], end + 450)
    rows, _ = await outputs.last_events("p", None, 1000)
    assert [row["n"] for row in rows] == list(range(450))
    rows, last = await outputs.last_events("p", "rare", 3)
    assert ([row["n"] for row in rows], last) == ([0], end + 450)


async def _stored(client: WireClient, sequence: int) -> bool:
    return int((await stream_state(client, "skerry_events"))["last_seq"]) >= sequence


async def test_the_tail_goes_on_where_the_last_events_ended(client: WireClient, outputs: Outputs) -> None:
    """Under load: what follows the last events misses none and repeats none."""
    begin = int((await stream_state(client, "skerry_events"))["last_seq"]) + 1

    async def load() -> None:
        for number in range(100_000):
            client.publish(f"{EVENTS_PREFIX}p.a".encode(), json.dumps({"n": begin + number}).encode())
            if number % 20 == 19:
                await asyncio.sleep(0.002)

    loading = asyncio.create_task(load())
    try:
        await until(lambda: _stored(client, begin + 200))
        for _ in range(10):
            rows, last = await outputs.last_events("p", None, 50)
            numbers = [row["n"] for row in rows]
            assert numbers == list(range(last - 49, last + 1))
    finally:
        await cancel_and_wait(loading)


async def test_the_stream_of_events_from_now_on_and_from_a_sequence(client: WireClient, outputs: Outputs) -> None:
    sequences = [await event(client, number) for number in range(3)]
    seen: list[tuple[int, Any]] = []

    async def follow(after: int | None) -> None:
        async for sequence, row in outputs.event_stream(after, "p", "a"):
            seen.append((sequence, row["n"]))

    for after, old in ((sequences[0], [1, 2]), (None, [])):
        seen.clear()
        following = asyncio.create_task(follow(after))
        try:
            await asyncio.sleep(0.3)
            await event(client, 90, key="other")
            new = await event(client, 91)
            await until(lambda: bool(seen) and seen[-1][1] == 91, 5)
            assert [number for _, number in seen] == [*old, 91]
            assert seen[-1][0] == new
        finally:
            await cancel_and_wait(following)
        if after is not None:
            await client.request(b"$JS.API.STREAM.PURGE.skerry_events", json.dumps({"seq": new + 1}).encode())


def letter(sequence: int, payload: bytes = b"x", topic: str = "devices/d/v", reason: str = "nan") -> DeadLetter:
    return DeadLetter(sequence, reason, f"about {sequence}", topic, "d", sequence * 1000, payload)


async def bury(client: WireClient, letters: list[DeadLetter], pipeline: str = "p") -> int:
    return await put(client, f"{DEAD_PREFIX}{pipeline}", letters_output(pipeline, letters).payload)


async def all_letters(outputs: Outputs, limit: int, pipeline: str = "p") -> list[list[dict[str, Any]]]:
    found, after = [], None
    while True:
        rows, after = await outputs.deadletters(pipeline, limit, after)
        found.append(rows)
        if after is None:
            return found


async def test_pages_of_dead_letters_cut_through_a_message_with_many(client: WireClient, outputs: Outputs) -> None:
    assert await all_letters(outputs, 5) == [[]]
    number = 0
    for size in (1, 250, 3, 1, 45):
        await bury(client, [letter(number + at) for at in range(size)])
        await bury(client, [letter(9000 + at) for at in range(2)], "other")
        number += size
    for limit in (1, 7, 100, 300, 1000):
        found = await all_letters(outputs, limit)
        assert [row["sequence"] for page in found for row in page] == list(range(number)), limit
        assert all(len(page) == limit for page in found[:-1])
        assert found[-1]
    row = (await outputs.deadletters("p", 1, None))[0][0]
    assert row == {
        "id": "0", "sequence": 0, "reason": "nan", "detail": "about 0", "topic": "devices/d/v", "key": "d", "messages": 1,
        "payload": "x", "at": "1970-01-01T00:00:00.000Z",
    }  # fmt: skip


async def test_a_page_after_one_that_was_dropped_meanwhile(client: WireClient, outputs: Outputs) -> None:
    await bury(client, [letter(at) for at in range(10)])
    _, after = await outputs.deadletters("p", 4, None)
    assert await outputs.drop("p") == 10
    await bury(client, [letter(at) for at in range(20, 23)])
    rows, _ = await outputs.deadletters("p", 9, after)
    assert [row["sequence"] for row in rows] == [20, 21, 22]


async def test_drop_takes_only_those_of_the_pipeline(client: WireClient, outputs: Outputs) -> None:
    for at in range(120):
        await bury(client, [letter(2 * at), letter(2 * at + 1)])
    await bury(client, [letter(1)], "p-2")
    assert await outputs.drop("p") == 240
    assert await outputs.drop("p") == 0
    assert await all_letters(outputs, 9) == [[]]
    assert len(await all_letters(outputs, 9, "p-2")) == 1


async def test_single_letters_and_those_of_a_kind(client: WireClient, outputs: Outputs) -> None:
    kinds = ("late", "nan", "late", "nan")
    await bury(client, [letter(100 + at, b"m%d" % at, reason=each) for at, each in enumerate(kinds)])
    await bury(client, [letter(110, b"other", reason="late")])
    window = Closed("w", 1_000_000, 2_000_000, [1.0e6, 7.0, 1.5e6, 8.0], 2, 2)
    await bury(client, [window_letter(window, "feature-error", "why", 120)])

    async def left(which: LetterFilter = ALL) -> list[str]:
        return [row["id"] for row in (await outputs.deadletters("p", 1000, None, which))[0]]

    assert await left(LetterFilter(reason="late")) == ["100", "102", "110"]
    assert await left(LetterFilter(key="w")) == ["w@2000000"]
    ((inside,), _) = await outputs.deadletters("p", 9, None, LetterFilter(ids=frozenset({"w@2000000"})))
    assert inside["window"]["values"] == [1.0e6, 7.0, 1.5e6, 8.0]
    assert (inside["window"]["start"], inside["window"]["samples"]) == ("1970-01-01T00:00:01.000Z", 2)

    before = int((await stream_state(client, LOG))["last_seq"])
    assert await outputs.retry("p", LetterFilter(ids=frozenset({"101", "110"}))) == 2
    back = await read_page(client, LOG, "skerry.retry.p.>", before, 10)
    assert [stored.payload for stored in back] == [b"m1", b"other"]
    assert sorted(await left()) == ["100", "102", "103", "w@2000000"]  # the others are what they were
    assert await outputs.drop("p", LetterFilter(reason="late")) == 2
    assert sorted(await left()) == ["103", "w@2000000"]
    assert await outputs.drop("p", LetterFilter(ids=frozenset({"77"}))) == 0
    assert int((await stream_state(client, LOG))["last_seq"]) == before + 2


async def test_two_who_choose_at_the_same_time(client: WireClient, outputs: Outputs) -> None:
    """What is left of a message is stored anew: neither may bring back what the other has taken."""
    await bury(client, [letter(200 + at) for at in range(20)])
    each = [LetterFilter(ids=frozenset({str(200 + at)})) for at in range(18)]
    assert sum(await asyncio.gather(*[outputs.drop("p", one) for one in each])) == 18
    (rows,) = await all_letters(outputs, 100)
    assert [row["id"] for row in rows] == ["218", "219"]


@asynccontextmanager
async def processing(client: WireClient, runner: Runner) -> AsyncIterator[None]:
    """A runner over the log from its beginning, as a worker has it."""
    reader = LogReader(
        client,
        [">"],
        lambda: runner.state.cursor,
        lambda frames, first, last: runner.feed(frames, first, last, 0),
    )
    reading = asyncio.create_task(reader.run())
    try:
        yield
    finally:
        await cancel_and_wait(reading)


async def test_messages_and_windows_come_back_once_and_to_their_pipeline_alone(client: WireClient, outputs: Outputs) -> None:
    spec = spec_of()
    odd = "devices/d.e/v"
    lost = [letter(1, b'{"ts": 1, "x": 5}'), letter(2, b'{"ts": 2, "x": 6}', odd), letter(3, b"still rubbish")]
    window = Closed("w", 1_000_000, 2_000_000, [1.0e6, 7.0, 1.5e6, 8.0], 2, 2)
    await bury(client, [*lost, window_letter(window, "feature-error", "why", 4)])
    mine, other = [Runner(each, None, "box", PipelineState()) for each in (spec, spec_of(name="other"))]
    async with processing(client, mine), processing(client, other):
        assert await outputs.retry("p") == 5
        await until(lambda: mine.state.ledger.received >= 5)
        await asyncio.sleep(0.2)
    events = [json.loads(output.payload) for output in mine.outputs if output.subject.startswith(EVENTS_PREFIX)]
    assert sorted((each["key"], each["score"], each["count"]) for each in events) == [("d", 5.0, 1), ("d.e", 6.0, 1), ("w", 8.0, 2)]
    assert books(mine.state)["dead_letters"] == {"undecodable": 1}
    assert books(mine.state)["difference"] == 0
    assert other.state.ledger.received == 0
    assert await all_letters(outputs, 9) == [[]]
    assert await outputs.retry("p") == 0


async def test_a_retry_that_was_cut_off_puts_nothing_back_twice(client: WireClient, outputs: Outputs) -> None:
    sequence = await bury(client, [letter(at) for at in range(30)])
    for at in range(10):
        await put(client, "skerry.retry.p.devices.d.v", b"x", f"Nats-Msg-Id: retry.{sequence}.{at}\r\n".encode())
    before = int((await stream_state(client, LOG))["messages"])
    assert await outputs.retry("p") == 30
    assert int((await stream_state(client, LOG))["messages"]) - before == 20


async def test_what_cannot_be_put_back_is_kept(client: WireClient, outputs: Outputs) -> None:
    """A window too large to be stored has no samples any more, an empty message gives nothing again: both stay named."""
    gone = DeadLetter(7, "feature-error", "why", "", "w", 7_000_000, b"", 12, True)
    await bury(client, [letter(1), gone, letter(2)])
    await bury(client, [letter(3, b"", reason="undecodable")])
    await bury(client, [letter(4)])
    assert await outputs.retry("p") == 3
    (rows,) = await all_letters(outputs, 9)
    assert sorted((row["sequence"], row["messages"], row["reason"]) for row in rows) == [
        (3, 1, "undecodable"),
        (7, 12, "feature-error"),
    ]
    assert await outputs.retry("p") == 0
    assert await all_letters(outputs, 9) == [rows]


async def test_a_letter_that_the_log_refuses_holds_up_no_other(server: NatsServer, client: WireClient, outputs: Outputs) -> None:
    """The log takes messages of the devices' bound; a whole window may be larger."""
    large = Closed("w", 0, 1, [0.0] * 400_000, 200_000, 3)
    await client.request(b"$JS.API.STREAM.UPDATE." + LOG.encode(), json.dumps(await _bounded(client, MIB)).encode())
    try:
        await bury(client, [window_letter(large, "feature-error", "why", 1)])
        await bury(client, [letter(2)])
        assert await outputs.retry("p") == 1
        ((kept,),) = await all_letters(outputs, 9)
        assert kept["messages"] == 3
        assert (await read_page(client, LOG, "skerry.retry.p.devices.d.v", 0)) != []
    finally:
        await client.request(b"$JS.API.STREAM.UPDATE." + LOG.encode(), json.dumps(await _bounded(client, -1)).encode())


async def _bounded(client: WireClient, longest: int) -> dict[str, Any]:
    info = json.loads((await client.request(b"$JS.API.STREAM.INFO." + LOG.encode(), b""))[3])
    config: dict[str, Any] = info["config"]
    return {**config, "max_msg_size": longest}


async def test_many_letters_come_back_in_order(client: WireClient, outputs: Outputs) -> None:
    for begin in range(0, 1200, 600):
        await bury(client, [letter(at, b"%d" % at) for at in range(begin, begin + 600)])
    assert await outputs.retry("p") == 1200
    stored = []
    after = 0
    while page := await read_page(client, LOG, "skerry.retry.p.>", after):
        stored += [int(each.payload) for each in page]
        after = page[-1].sequence
    assert stored == list(range(1200))


async def test_without_a_connection_it_says_so(client: WireClient) -> None:
    link = link_of(None)
    for asked in (
        Outputs(link).events(None, None, None, 1, None),
        Outputs(link).last_events(None, None, 1),
        Outputs(link).deadletters("p", 1, None),
        Outputs(link).retry("p"),
        Outputs(link).drop("p"),
    ):
        with pytest.raises(UnavailableError, match="the log does not answer now"):
            await asked
