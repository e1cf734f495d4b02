"""`skerry.Uplink`: what a program gives is on the disk, and arrives once and in order when there is a link."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from skerry import Uplink, UplinkConfig
from skerry.core.errors import OverloadedError, RejectedError, UnavailableError
from skerry.uplink import decode
from skerry.uplink import outlet as outlet_module
from skerry.uplink.config import BatchSection, QueueSection
from skerry.uplink.item import Item
from tests.fixtures.nats import until
from tests.fixtures.rough_link import RoughLink
from tests.uplink.centre import Centre
from tests.uplink.test_engine import alarm, values

pytestmark = pytest.mark.asyncio
CHILD = """\
import asyncio, sys
from skerry import Uplink, UplinkConfig
async def main():
    async with Uplink(UplinkConfig(kind="file", url="nowhere"), sys.argv[1], site="shore", node="rock") as uplink:
        for at in range(1 << 30):
            await uplink.put("p", "d", {"x": at}, at)
            print(at, flush=True)
asyncio.run(main())
"""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlet_module, "FIRST_S", 0.02)
    monkeypatch.setattr(outlet_module, "MOST_S", 0.2)


def uplink(folder: Path, port: int, **more: Any) -> Uplink:
    config = UplinkConfig(kind="http", url=f"http://127.0.0.1:{port}", batch=BatchSection(delay="50ms"), **more)
    return Uplink(config, folder / "q", site="shore", node="rock")


async def test_samples_and_events_arrive_in_order(tmp_path: Path) -> None:
    async with Centre() as centre, uplink(tmp_path, centre.port) as link:
        for at in range(50):
            await link.put("p", "d", {"x": at}, at)
        await link.event(json.loads(alarm(7)))
        assert await link.delivered(20)
        assert (values(centre), values(centre, "event")) == ([float(at) for at in range(50)], [7.0])
        assert (link.waiting, link.trouble, link.sent) == (0, "", sum(map(len, centre.taken)))
        assert (decode(centre.taken[-1])[0].site, decode(centre.taken[-1])[0].node) == ("shore", "rock")


async def test_what_waits_is_sent_by_the_next_life(tmp_path: Path) -> None:
    async with Centre() as centre, RoughLink(centre.port) as rough:
        rough.cut()
        for life in range(3):
            async with uplink(tmp_path, rough.port) as link:
                for at in range(10):
                    await link.put("p", "d", {"x": 10 * life + at}, at)
                assert not await link.delivered(0.2)
                await until(lambda link=link: link.trouble, 20)
        rough.mend()
        async with uplink(tmp_path, rough.port) as link:
            assert link.waiting == 30
            assert await link.delivered(20)
        assert values(centre) == [float(at) for at in range(30)]


async def test_what_was_given_before_a_kill_is_there(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", CHILD, str(tmp_path / "q")]
    child = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    assert child.stdout is not None
    given = -1
    while given < 200:
        given = int(await child.stdout.readline())
    child.kill()
    rest = await child.stdout.read()
    given = int(rest.split()[-1]) if rest.split() and rest.endswith(b"\n") else given
    await child.wait()
    async with Centre() as centre, uplink(tmp_path, centre.port) as link:
        assert await link.delivered(30)
        found = values(centre)
        assert found[: given + 1] == [float(at) for at in range(given + 1)]
        assert len(found) <= given + 2


async def test_what_is_marked_does_not_leave(tmp_path: Path) -> None:
    async with Centre() as centre, uplink(tmp_path, centre.port, redact=("gps.*", "key")) as link:
        await link.put("p", "pump-7", {"x": 1.5, "gps.lat": 53.123456}, 1)
        assert await link.delivered(20)
        record = decode(centre.taken[0])[0]
        assert (record.key, record.values) == ("", {"x": 1.5})
        assert sum(link.withheld.values()) == 2


async def test_a_full_queue_refuses_and_keeps_room_for_alarms(tmp_path: Path) -> None:
    config = UplinkConfig(kind="file", url="nowhere", queue=QueueSection(size="4MiB"))
    async with Uplink(config, tmp_path / "q", site="shore", node="rock") as link:
        big = Item("raw", "bulk", "i", "p", 1, 1, os.urandom(200_000))
        with pytest.raises(OverloadedError, match="wait for the link"):  # noqa: PT012 - how many fit is the store's matter
            for _ in range(60):
                await link._queue.put(big)
        await link.event(json.loads(alarm(1)))


async def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    async with Centre() as centre, uplink(tmp_path, centre.port) as link:
        with pytest.raises(RejectedError, match="that is no event"):
            await link.event({"id": "x"})
        with pytest.raises(UnavailableError):
            await uplink(tmp_path, centre.port).__aenter__()
