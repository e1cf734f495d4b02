"""News of the network: netlink messages, read as the kernel writes them, and a real interface that comes up."""

import asyncio
import struct
import subprocess

import pytest

from skerry.core.service import cancel_and_wait
from skerry.uplink.network import has_news, watch

LINK_GONE, ADDRESS, ADDRESS_GONE, ROUTE = 17, 20, 21, 24


def message(kind: int, size: int = 20) -> bytes:
    return struct.pack("=IHHII", size, kind, 0, 0, 0) + bytes((size + 3 & ~3) - 16)


@pytest.mark.parametrize(
    ("data", "news"),
    [
        (message(ADDRESS), True),
        (message(ROUTE, 21), True),
        (message(LINK_GONE), False),
        (message(ADDRESS_GONE, 33) + message(ADDRESS), True),
        (message(LINK_GONE) + message(ADDRESS_GONE), False),
        (struct.pack("=IHHII", 0, LINK_GONE, 0, 0, 0) * 2, False),
        (b"", False),
        (b"short", False),
    ],
)
def test_what_comes_is_told_from_what_goes(data: bytes, news: bool) -> None:
    assert has_news(data) is news


def ip(verb: str, address: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["ip", "address", verb, address, "dev", "lo"], capture_output=True, text=True, check=False)


@pytest.mark.asyncio
async def test_an_address_that_comes_is_noticed() -> None:
    seen = asyncio.Event()
    watching = asyncio.create_task(watch(seen.set))
    await asyncio.sleep(0.1)
    address = "127.7.7.7/32"
    added = await asyncio.to_thread(ip, "add", address)
    try:
        if added.returncode:
            pytest.skip(f"optional: no address can be added here: {added.stderr.strip()}")
        async with asyncio.timeout(20):
            await seen.wait()
    finally:
        await asyncio.to_thread(ip, "del", address)
        await cancel_and_wait(watching)
