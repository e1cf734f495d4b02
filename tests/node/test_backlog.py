"""Reading the log back from a real nats-server: in order, whole, and in pages that are bounded in messages and bytes."""

import base64
from typing import Any

import pytest

from skerry.broker import LOG, WireClient, stream_state, trim
from skerry.core.clock import SECOND, SystemClock
from skerry.core.errors import RejectedError, UnavailableError
from skerry.node import backlog as backlog_module
from skerry.node.backlog import Backlog
from tests.fixtures.nats import put
from tests.node.test_outputs import link_of

pytestmark = pytest.mark.asyncio


async def every(backlog: Backlog, topic: str = "#", limit: int = 1000, since: int | None = None) -> list[dict[str, Any]]:
    """All pages, each behind the one before."""
    found: list[dict[str, Any]] = []
    page = await backlog.messages(topic, since, limit, None)
    while page["next"] is not None:
        assert len(page["messages"]) <= limit
        found += page["messages"]
        page = await backlog.messages(topic, None, limit, page["next"])
    return found


async def test_pages_are_the_log_in_order(client: WireClient, monkeypatch: pytest.MonkeyPatch) -> None:
    backlog = Backlog(link_of(client))
    assert await backlog.messages("#", None, 10, None) == {
        "messages": [], "next": None, "through": None, "oldest": None, "trimmed": False,
    }  # fmt: skip
    for at in range(40):
        await put(client, f"$MQTT.msgs.devices.{'ab'[at % 2]}.x", b"%d" % at)
    await put(client, "skerry.q0.$MQTT.msgs.devices.a.x", b"\xff\x00")
    await put(client, "skerry.retry.p.devices.a.x", b"again")
    await put(client, "$MQTT.msgs.devices.a.x", b"base64:")
    monkeypatch.setattr(backlog_module, "LOOKED_AT", 7)
    rows = await every(backlog, limit=5)
    assert [row["sequence"] for row in rows] == [*range(1, 42), 43]
    assert [row.get("payload") for row in rows[:40]] == [str(at) for at in range(40)]
    assert [base64.b64decode(row["payload_base64"]) for row in rows[40:]] == [b"\xff\x00", b"base64:"]
    assert [row["topic"] for row in rows[:2]] == ["devices/a/x", "devices/b/x"]
    assert abs(rows[0]["at"] - SystemClock().now() / SECOND) < 60
    assert [row["payload"] for row in await every(backlog, "devices/b/+")] == [str(at) for at in range(1, 40, 2)]
    later = await every(backlog, since=round(rows[20]["at"] * SECOND))
    assert later == [row for row in rows if row["sequence"] >= later[0]["sequence"]]
    assert rows[20]["at"] - 0.001 <= later[0]["at"] <= rows[20]["at"]
    assert await every(backlog, since=SystemClock().now() + 60 * SECOND) == []
    await trim(client, 10)
    page = await backlog.messages("#", None, 1, None)
    assert (page["trimmed"], page["oldest"]) == (True, rows[10]["at"])


async def test_a_page_reads_only_so_many_bytes(client: WireClient, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(20):
        await put(client, "$MQTT.msgs.devices.a.x", b"x" * 100_000)
    monkeypatch.setattr(backlog_module, "LOOKED_AT_BYTES", 350_000)
    page = await Backlog(link_of(client)).messages("#", None, 1000, None)
    assert 1 <= len(page["messages"]) <= 4
    assert len(await every(Backlog(link_of(client)))) == 20 == int((await stream_state(client, LOG))["messages"])


async def test_without_a_connection_or_with_a_wrong_token(client: WireClient) -> None:
    with pytest.raises(UnavailableError, match="the log does not answer now"):
        await Backlog(link_of(None)).messages("#", None, 1, None)
    with pytest.raises(RejectedError, match="no token of a page"):
        await Backlog(link_of(client)).messages("#", None, 1, "x")
