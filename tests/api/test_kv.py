"""`/api/v1/kv` over a real store: text and bytes, pages in order, keys that need escaping."""

import base64
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest

from skerry.core.errors import RejectedError, SkerryError
from skerry.http import AsyncClient, NotFoundError
from tests.api.fake_view import FakeView
from tests.api.test_api import asking

pytestmark = pytest.mark.asyncio
KV = "/api/v1/kv"


@contextlib.asynccontextmanager
async def kv(tmp_path: Path) -> AsyncIterator[tuple[FakeView, AsyncClient]]:
    async with asking(tmp_path) as (view, client):
        await view.store()
        try:
            yield view, client
        finally:
            await (await view.store()).close()


async def test_a_value_is_set_read_and_deleted(tmp_path: Path) -> None:
    async with kv(tmp_path) as (view, client):
        assert await client.post(f"{KV}/limit", {"value": "7.5"}) == {"set": "limit"}
        assert await client.get(f"{KV}/limit") == {"key": "limit", "value": "7.5"}
        assert await (await view.store()).get(b"limit") == b"7.5"
        assert await client.delete(f"{KV}/limit") == {"deleted": "limit"}
        assert await client.delete(f"{KV}/limit") == {"deleted": "limit"}
        with pytest.raises(NotFoundError, match="no value of 'limit'"):
            await client.get(f"{KV}/limit")


@pytest.mark.parametrize("key", ["pump-1/limit", "a b", "100%", "ä/ö?x=1#y", "%2F", "…"])
async def test_keys_may_hold_anything_that_is_text(tmp_path: Path, key: str) -> None:
    async with kv(tmp_path) as (view, client):
        path = f"{KV}/{quote(key, safe='')}"
        assert await client.post(path, {"value": "ö"}) == {"set": key}
        assert await client.get(path) == {"key": key, "value": "ö"}
        assert await (await view.store()).get(key.encode()) == "ö".encode()
        assert await client.get(KV) == {"entries": [{"key": key, "value": "ö"}], "next": None}


async def test_bytes_go_as_base64(tmp_path: Path) -> None:
    async with kv(tmp_path) as (view, client):
        raw = bytes(range(256))
        await client.post(f"{KV}/raw", {"base64": base64.b64encode(raw).decode()})
        assert await (await view.store()).get(b"raw") == raw
        assert base64.b64decode((await client.get(f"{KV}/raw"))["value_base64"]) == raw
        await (await view.store()).set(b"\xff", b"1")
        assert (await client.get(KV))["entries"][1] == {"key_base64": "/w==", "value": "1"}


async def test_pages_are_in_order_and_of_a_prefix(tmp_path: Path) -> None:
    async with kv(tmp_path) as (view, client):
        store = await view.store()
        for number in range(25):
            await store.set(b"a/%02d" % number, b"")
        await store.set(b"b", b"")
        found: list[str] = []
        after = ""
        while True:
            page = await client.get(f"{KV}?prefix=a/&limit=10&after={after}")
            found += [row["key"] for row in page["entries"]]
            after = page["next"]
            if after is None:
                break
            assert len(page["entries"]) == 10
        assert found == [f"a/{number:02d}" for number in range(25)]
        assert len((await client.get(KV))["entries"]) == 26


async def test_a_page_is_bounded_by_bytes_too(tmp_path: Path) -> None:
    async with kv(tmp_path) as (view, client):
        store = await view.store()
        for number in range(4):
            await store.set(b"%d" % number, b"v" * (3 << 20), durable=False)
        await store.set(b"4", b"v" * (5 << 20))
        sizes, after = [], ""
        while after is not None:
            page = await client.get(f"{KV}?after={after}")
            sizes.append(len(page["entries"]))
            after = page["next"]
        assert sizes == [1, 1, 1, 1, 1]


async def test_a_time_to_live(tmp_path: Path) -> None:
    async with kv(tmp_path) as (_, client):
        await client.post(f"{KV}/k", {"value": "1", "ttl": "1h"})
        assert (await client.get(f"{KV}/k"))["value"] == "1"
        await client.post(f"{KV}/k", {"value": "1", "ttl": "1us"})
        with pytest.raises(NotFoundError):
            await client.get(f"{KV}/k")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "text or base64"),
        ({"value": "a", "base64": "YQ=="}, "text or base64"),
        ({"base64": "a*b"}, "not base64"),
        ({"value": "a", "ttl": "soon"}, "soon"),
        ({"value": "a", "ttl": "0s"}, "time to live"),
        ({"value": 5}, "body"),
        ({"valeu": "a"}, "valeu"),
    ],
)
async def test_what_will_not_do_is_said(tmp_path: Path, body: dict[str, object], words: str) -> None:
    async with kv(tmp_path) as (_, client):
        with pytest.raises(SkerryError, match=words):
            await client.post(f"{KV}/k", body)
        with pytest.raises(RejectedError, match="no `next` of a page"):
            await client.get(f"{KV}?after=%C3%A4")
