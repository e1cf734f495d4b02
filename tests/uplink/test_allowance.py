"""A pipeline that has sent what it may waits, the others and alarms do not, and nothing of it is lost or sent twice."""

import json
from pathlib import Path
from typing import Any

import pytest

from skerry.broker import WireClient
from skerry.uplink import decode
from skerry.uplink.envelope import read_envelope
from tests.fixtures.nats import NatsServer, put, until
from tests.uplink.centre import Centre
from tests.uplink.test_engine import NOW, TABLE, _quick, alarm, engine

pytestmark = pytest.mark.asyncio
__all__ = ["_quick"]  # the fixture counts here too
FEW, MANY = 100, 600


def table(name: str, network: str = "") -> dict[str, Any]:
    source = {**TABLE["source"], "topic": f"devices/+/{name}"}
    return {**TABLE, "name": name, "source": source, "resources": {"network": network} if network else {}}


async def samples(client: WireClient, name: str, count: int) -> None:
    for at in range(count):
        await put(client, f"$MQTT.msgs.devices.d.{name}", json.dumps({"ts": NOW + at, "x": at * 0.7123}).encode())


def raw(centre: Centre, name: str) -> list[float]:
    """Values of a pipeline in the order that they came, without those whose numbers came before."""
    found: list[float] = []
    last = 0
    for envelope in centre.taken:
        if read_envelope(envelope).header.lane != "bulk":
            continue
        records = [each for each in decode(envelope) if each.sequence > last]
        found += [each.values["x"] for each in records if each.pipeline == name and each.kind == "raw"]
        last = max(last, read_envelope(envelope).header.last)
    return found


def alarms(centre: Centre) -> int:
    return sum(each.kind == "event" for envelope in centre.taken for each in decode(envelope))


async def test_the_excess_of_one_waits_over_restarts_and_leaves_in_order(
    server: NatsServer, client: WireClient, tmp_path: Path
) -> None:
    held = [table("p", "64B/s"), table("q")]
    async with Centre() as centre:
        place = {"kind": "http", "url": f"http://127.0.0.1:{centre.port}"}
        async with engine(server, tmp_path, table=held, **place) as first:
            await samples(client, "p", MANY)
            await put(client, "skerry.events.p.d", alarm(1))
            await samples(client, "q", FEW)
            await until(lambda: len(raw(centre, "q")) == FEW and alarms(centre) == 1, 60)
            await until(lambda: first.report().held.get("p", 0) > 0, 60)
            assert "q" not in first.report().spent
            assert first.report().spent["p"] > 0
        assert 0 < len(raw(centre, "p")) < MANY
        async with engine(server, tmp_path, table=held, **place) as second:
            await until(lambda: second.report().held.get("p", 0) > 0, 60)
        async with engine(server, tmp_path, table=[table("p"), table("q")], **place) as last:
            await until(lambda: len(raw(centre, "p")) == MANY, 60)
            await until(lambda: not last.report().held, 60)
        assert raw(centre, "p") == pytest.approx([at * 0.7123 for at in range(MANY)])
        assert alarms(centre) == 1


async def test_what_is_held_leaves_as_time_goes_by(server: NatsServer, client: WireClient, tmp_path: Path) -> None:
    async with Centre() as centre:
        place = {"kind": "http", "url": f"http://127.0.0.1:{centre.port}"}
        async with engine(server, tmp_path, table=[table("p", "2KiB/s")], **place) as found:
            await samples(client, "p", 2 * MANY)
            await until(lambda: len(raw(centre, "p")) == 2 * MANY, 60)
            await until(lambda: not found.report().held, 60)
            assert raw(centre, "p") == pytest.approx([at * 0.7123 for at in range(2 * MANY)])
