"""What a node shows without a quorum says that it may be old: in a header of what is read, and to who asks by the client."""

import asyncio
from pathlib import Path

import pytest

from skerry.core.errors import RejectedError
from skerry.http import STALE, Client
from tests.api.test_api import serving

pytestmark = pytest.mark.asyncio
OLD = "no quorum since 2026-12-01T00:00:00.000Z: this is what this node has, and may be old"


async def head(port: int, line: str) -> dict[str, str]:
    """The headers of an answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{line} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    rows = answer.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    return {name.lower(): value for name, _, value in (row.partition(": ") for row in rows)}


async def test_what_is_read_says_so_and_nothing_else_does(tmp_path: Path) -> None:
    async with serving(tmp_path) as (view, api):
        assert STALE.lower() not in await head(api.port, "GET /api/v1/alarms")
        view.old = OLD
        found = await head(api.port, "GET /api/v1/alarms")
        assert (found[STALE.lower()], found["content-type"]) == (OLD, "application/json")
        assert STALE.lower() not in await head(api.port, "GET /api/v1/nothing")
        assert STALE.lower() not in await head(api.port, "POST /api/v1/alarms/a1/unshelve")
        view.old = ""
        assert STALE.lower() not in await head(api.port, "GET /api/v1/alarms")


async def test_who_asks_is_told_once_for_each_time_that_it_is_so(tmp_path: Path) -> None:
    told: list[str] = []
    async with serving(tmp_path) as (view, api):
        with Client(api.url, told=told.append) as asker:
            await asyncio.to_thread(asker.get, "/api/v1/alarms")
            assert told == []
            view.old = OLD
            for _ in range(3):
                await asyncio.to_thread(asker.get, "/api/v1/alarms")
            assert told == [OLD]
            with pytest.raises(RejectedError):
                await asyncio.to_thread(asker.get, "/api/v1/nothing")
            assert told == [OLD]
            view.old = ""
            await asyncio.to_thread(asker.get, "/api/v1/alarms")
            view.old = OLD
            await asyncio.to_thread(asker.get, "/api/v1/alarms")
            assert told == [OLD, OLD]
