"""The agent's side over real children: one while there is a centre, another when it was killed; orders and their answers."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from skerry.core.clock import SystemClock
from skerry.core.errors import UnavailableError
from skerry.core.service import cancel_and_wait
from skerry.core.settings import build
from skerry.uplink import Assignment, Broker, UplinkConfig, UplinkProcess
from tests.fixtures.nats import NatsServer, put, until
from tests.uplink.test_engine import TABLE, alarm

pytestmark = pytest.mark.asyncio


def assigned(folder: Path, **section: Any) -> Assignment:
    config = build(UplinkConfig, {"kind": "file", "url": "stick", **section}, "uplink")
    return Assignment("rock", "shore", config, str(folder), str(folder), [TABLE])


@pytest_asyncio.fixture
async def uplink(tmp_path: Path) -> AsyncIterator[UplinkProcess]:
    found = UplinkProcess(tmp_path / "run", SystemClock())
    running = asyncio.create_task(found.run())
    yield found
    await cancel_and_wait(running)
    assert found.pid is None


async def test_without_an_assignment_there_is_no_child(uplink: UplinkProcess) -> None:
    await asyncio.sleep(0.05)
    assert (uplink.pid, uplink.durable()) == (None, None)
    with pytest.raises(UnavailableError, match=r"has no uplink; set uplink\.url"):
        await uplink.test()


async def test_one_life_from_an_event_to_a_file_and_the_next(uplink: UplinkProcess, tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    with NatsServer(tmp_path) as server:
        client = await server.prepared()
        uplink.assign(assigned(tmp_path))
        await uplink.place(Broker("127.0.0.1", server.port, "agent", "pw"))
        await until(lambda: uplink.durable() == 0, 20)
        assert not (await uplink.test()).ok
        stick.mkdir()
        assert (await uplink.test()).ok
        await uplink.pause(True)
        await put(client, "skerry.events.p.d", alarm(1))
        await uplink.say(alarm(2))
        await until(lambda: uplink.report is not None and uplink.report.lanes["alarm"].waiting == 2, 20)
        first = uplink.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: uplink.pid not in (None, first) and uplink.durable() == 0, 20)
        assert (uplink.restarts.total, uplink.last_words) == (1, "ended by SIGKILL")
        assert uplink.report is not None
        assert uplink.report.paused
        await uplink.pause(False)
        await until(lambda: len(list(stick.glob("*-alarm-*.skup"))) == 1, 20)
        await until(lambda: uplink.report is not None and uplink.report.sent > 0, 20)
        uplink.assign(None)
        await until(lambda: uplink.pid is None, 20)
        client.close()
