"""Who shows what is there reads this node's own copy while there is no quorum; who changes something never does."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from skerry.broker import MIB, StreamPlan, WireClient, bucket_plan, ensure
from skerry.core.clock import SystemClock
from skerry.core.errors import UnavailableError
from skerry.device import BrokerLogin, DeviceRegistry
from skerry.node.cluster import CopiedBucket
from skerry.node.link import DEVICES, EVENTS_BYTES, Link, LinkedBucket
from skerry.node.outputs import Outputs
from skerry.pipeline import DEAD, EVENTS, EVENTS_PREFIX, key_token
from tests.fixtures.nats import NatsServer, put

pytestmark = pytest.mark.asyncio
CLOCK = SystemClock()


async def nobody(_: str) -> None:
    return None


@pytest_asyncio.fixture
async def client(tmp_path: Path) -> AsyncIterator[WireClient]:
    with NatsServer(tmp_path) as server:
        found = await server.client()
        for plan in (bucket_plan(DEVICES, MIB), *(StreamPlan(n, (f"{s}.>",), EVENTS_BYTES) for n, s in STREAMS.items())):
            await ensure(found, plan)
        yield found
        found.close()


STREAMS = {EVENTS: "skerry.events", DEAD: "skerry.dead"}


@pytest.fixture
def link() -> Link:
    """One whose connection to the log is gone, as on a node that was cut off."""
    login = BrokerLogin(nobody, CLOCK, anonymous=True)
    return Link(CLOCK, 32 * MIB, MIB, 10**12, login, [], lambda: 0, lambda: ([], 1))


async def write(client: WireClient, number: int, alarm: str | None = None) -> None:
    event = {"n": number, "alarm_id": alarm}
    await put(client, f"{EVENTS_PREFIX}p.{key_token('a')}", json.dumps(event, separators=(",", ":")).encode())


async def test_events_are_read_of_the_copy_and_of_nothing_where_there_is_none(client: WireClient, link: Link) -> None:
    outputs = Outputs(link)
    for ask in (outputs.events("p", None, None, 10, None), outputs.last_events("p", None, 10), outputs.deadletters("p", 10, None)):
        with pytest.raises(UnavailableError, match="the log does not answer now"):
            await ask
    link.copy = client
    assert await outputs.last_events("p", None, 10) == ([], 0)
    for number in range(5):
        await write(client, number, "x" if number == 3 else None)
    rows, following = await outputs.events("p", None, None, 3, None)
    assert ([row["n"] for row in rows], following) == ([0, 1, 2], "3")
    rows, last = await outputs.last_events("p", None, 2)
    assert ([row["n"] for row in rows], last) == ([3, 4], 5)
    alarms = [(sequence, payload is not None) async for sequence, payload in outputs.alarm_events(0)]
    assert alarms == [(1, False), (2, False), (3, False), (4, True), (5, False)]
    assert await outputs.deadletters("p", 10, None) == ([], None)


async def test_nothing_is_changed_over_the_copy(client: WireClient, link: Link) -> None:
    link.copy = client
    outputs = Outputs(link)
    for change in (outputs.retry("p"), outputs.drop("p")):
        with pytest.raises(UnavailableError, match="the log does not answer now"):
            await change
    bucket = CopiedBucket(link, DEVICES)
    for refused in (bucket.set("device/d", b"{}"), bucket.delete("device/d")):
        with pytest.raises(UnavailableError, match="only looked into"):
            await refused
    assert await bucket.items() == []


async def test_devices_are_shown_of_the_copy_and_let_in_by_none(client: WireClient, link: Link) -> None:
    there = LinkedBucket(DEVICES)
    there.bind(client)
    await DeviceRegistry(there, CLOCK).add_with("d1", [], password="a-password-of-a-test")
    shown, letting_in = DeviceRegistry(CopiedBucket(link, DEVICES), CLOCK), DeviceRegistry(link.devices, CLOCK)
    link.copy = client
    assert [row["id"] for row in await shown.rows()] == ["d1"]
    row = await shown.row("d1")
    assert row is not None
    assert (row["kind"], await shown.row("d2")) == ("password", None)
    with pytest.raises(UnavailableError):
        await letting_in.find("d1")  # it may have been revoked at a node that this one does not reach
    with pytest.raises(UnavailableError):
        await shown.revoke("d1")


async def test_a_copy_that_ended_counts_for_nothing(client: WireClient, link: Link) -> None:
    link.copy = client
    assert link.looking is client
    client.close()
    await client.closed
    with pytest.raises(UnavailableError):
        assert link.looking
