"""Stored reads in pages and fenced writes, on a real server."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from skerry.broker import LOG, MIB, WireClient, api, bucket_plan, ends, ensure, kv_get, kv_put, log_plan, read_page, trim
from skerry.core.errors import FencedError, RejectedError, UnavailableError
from tests.fixtures.nats import NatsServer, put


@pytest_asyncio.fixture
async def client(server: NatsServer) -> AsyncIterator[WireClient]:
    found = await server.client()
    await ensure(found, log_plan(64 * MIB))
    await ensure(found, bucket_plan("b", 4 * MIB))
    yield found
    found.close()
    await found.closed


@pytest.mark.asyncio
async def test_the_api_answers_or_refuses_in_the_servers_words(client: WireClient) -> None:
    assert (await api(client, f"STREAM.INFO.{LOG}"))["config"]["name"] == LOG
    with pytest.raises(RejectedError, match=r"STREAM.INFO.nothing: stream not found \(10059\)"):
        await api(client, "STREAM.INFO.nothing")


@pytest.mark.asyncio
async def test_pages_hold_what_matches_in_order_and_end(client: WireClient) -> None:
    for number in range(25):
        await put(client, "$MQTT.msgs.a" if number % 2 else "$MQTT.msgs.b", b"%d" % number, b"N: %d\r\n" % number)
    page = await read_page(client, LOG, "$MQTT.msgs.a", 0, 5)
    assert [stored.payload for stored in page] == [b"1", b"3", b"5", b"7", b"9"]
    assert [(stored.subject, stored.headers["n"]) for stored in page[:1]] == [("$MQTT.msgs.a", "1")]
    assert [stored.payload for stored in await read_page(client, LOG, "$MQTT.msgs.a", page[-1].sequence, 100)] == [
        b"%d" % number for number in range(11, 25, 2)
    ]
    assert await read_page(client, LOG, "$MQTT.msgs.a", 25) == []
    assert await read_page(client, LOG, "$MQTT.msgs.nobody", 0) == []


@pytest.mark.asyncio
async def test_many_pages_at_once_do_not_mix(client: WireClient) -> None:
    for number in range(40):
        await put(client, f"$MQTT.msgs.k{number % 4}", b"%d" % number)
    pages = await asyncio.gather(*[read_page(client, LOG, f"$MQTT.msgs.k{at % 4}", 0) for at in range(20)])
    assert [[int(stored.payload) % 4 for stored in page] for page in pages] == [[at % 4] * 10 for at in range(20)]


@pytest.mark.asyncio
async def test_reading_what_is_not_there_or_no_more_is_an_error_of_ours(server: NatsServer, client: WireClient) -> None:
    with pytest.raises(UnavailableError, match="cannot be read"):
        await read_page(client, "nothing", ">", 0, timeout=2)
    with pytest.raises(UnavailableError):
        await kv_get(client, "nothing", "k")
    other = await server.client()
    server.kill()
    await other.closed
    with pytest.raises(UnavailableError):
        await read_page(other, LOG, ">", 0, timeout=2)
    with pytest.raises(UnavailableError):
        await kv_put(other, "b", "k", b"", None)


@pytest.mark.asyncio
async def test_a_write_with_a_revision_is_fenced(client: WireClient) -> None:
    first = await kv_put(client, "b", "k", b"1", 0)
    assert await kv_get(client, "b", "k") == (b"1", first)
    with pytest.raises(FencedError, match="b/k was written by another owner"):
        await kv_put(client, "b", "k", b"2", 0)
    second = await kv_put(client, "b", "k", b"2", first, b"Note: here\r\n")
    with pytest.raises(FencedError):
        await kv_put(client, "b", "k", b"3", first)
    assert await kv_get(client, "b", "k") == (b"2", second)
    assert await kv_put(client, "b", "k", b"4", None) == second + 1
    assert await kv_get(client, "b", "other") is None


@pytest.mark.asyncio
async def test_a_full_bucket_refuses_and_forgets_nothing(client: WireClient) -> None:
    await ensure(client, bucket_plan("small", 3000))
    await kv_put(client, "small", "a", b"x" * 1000, None)
    with pytest.raises(UnavailableError, match="small/b was not written"):
        await kv_put(client, "small", "b", b"x" * 2500, None)
    assert (await kv_get(client, "small", "a") or (b"",))[0] == b"x" * 1000


@pytest.mark.asyncio
async def test_the_ends_of_a_stream_are_read_without_asking_who_leads_it(client: WireClient) -> None:
    assert await ends(client, LOG) == (0, 0)
    for number in range(5):
        await put(client, f"$MQTT.msgs.k{number}", b"%d" % number)
    assert await ends(client, LOG) == (1, 5)
    await trim(client, 2)
    assert await ends(client, LOG) == (3, 5)
    await trim(client, 5)
    assert await ends(client, LOG) == (0, 0)
    with pytest.raises(UnavailableError):
        await ends(client, "nothing")
