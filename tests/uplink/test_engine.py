"""The uplink's engine over a real nats-server and a real centre: deaths at any moment, days without a link, a full queue."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from skerry.broker import StreamPlan, WireClient, ensure, read_page, store_all
from skerry.core.clock import SECOND, Clock, ManualClock, SystemClock
from skerry.core.service import cancel_and_wait
from skerry.core.settings import build
from skerry.uplink import UplinkConfig, decode, encode_envelope
from skerry.uplink import collector as collector_module
from skerry.uplink import outlet as outlet_module
from skerry.uplink.engine import Engine
from skerry.uplink.envelope import read_envelope
from skerry.uplink.protocol import Assignment, Broker, LinkTest, Pause, Said
from tests.fixtures.nats import NatsServer, put, until
from tests.fixtures.rough_link import RoughLink
from tests.uplink.centre import Centre

pytestmark = pytest.mark.asyncio
NOW = SystemClock().now() // SECOND
DAY = 86_400
WIDE = "xabcdefg"
TABLE: dict[str, Any] = {
    "name": "p",
    "source": {"topic": "devices/+/v", "values": ["x"], "time": "ts", "max_future": "30d"},
    "sinks": [{"kind": "uplink", "select": ["event", "raw"]}],
}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlet_module, "FIRST_S", 0.02)
    monkeypatch.setattr(outlet_module, "MOST_S", 0.2)
    monkeypatch.setattr(collector_module, "STEP_S", 0.02)
    monkeypatch.setattr(collector_module, "COMMIT_S", 0.05)


@asynccontextmanager
async def engine(
    server: NatsServer, folder: Path, clock: Clock | None = None, table: Any = TABLE, **more: Any
) -> AsyncIterator[Engine]:
    """One life; its end is a death: nothing is said good-bye to."""
    section = {"batch": {"messages": 10, "delay": "50ms"}, **more}
    config = build(UplinkConfig, section, "uplink")
    tables = table if isinstance(table, list) else [table]
    found = Engine(Assignment("rock", "shore", config, str(folder), str(folder), tables), clock or SystemClock())
    found.order(Broker("127.0.0.1", server.port, "agent", "pw"))
    running = asyncio.create_task(found.run())
    try:
        await until(lambda: running.done() or found.report().cursor >= 0, 20)
        yield found
    finally:
        await cancel_and_wait(running)


async def sample(client: WireClient, at: int, value: float, pad: str = "") -> None:
    await put(client, "$MQTT.msgs.devices.d.v", json.dumps({"ts": at, "x": value, "pad": pad}).encode())


def alarm(at: int) -> bytes:
    event = {
        "id": f"e{at}", "pipeline": "p", "key": "d", "node": "rock", "start": "2026-11-24T20:00:00.000Z",
        "end": "2026-11-24T20:00:01.000Z", "count": 1, "score": float(at), "label": None, "state": "firing", "severity": "warning",
        "features": {}, "model": None, "version": None, "latency_ms": 1.0,
    }  # fmt: skip
    return json.dumps(event).encode()


def values(centre: Centre, kind: str = "raw") -> list[float]:
    """Of all records that came, without those whose numbers came before."""
    found: list[float] = []
    last: dict[str, int] = {}
    for envelope in centre.taken:
        lane = read_envelope(envelope).header.lane
        fresh = [record for record in decode(envelope) if record.sequence > last.get(lane, 0) and record.kind == kind]
        found += [record.values["x" if kind == "raw" else "score"] for record in fresh]
        last[lane] = max(last.get(lane, 0), read_envelope(envelope).header.last)
    return found


async def test_deaths_at_any_moment_lose_and_double_nothing(server: NatsServer, client: WireClient, tmp_path: Path) -> None:
    async with Centre() as centre:
        url = f"http://127.0.0.1:{centre.port}"
        sent = 0
        async with engine(server, tmp_path, kind="http", url=url):
            pass
        for life in range(8):
            async with engine(server, tmp_path, kind="http", url=url):
                for _ in range(25):
                    await sample(client, NOW + sent, sent)
                    await put(client, "skerry.events.p.d", alarm(sent))
                    sent += 1
                await asyncio.sleep(0.03 * life)
        async with engine(server, tmp_path, kind="http", url=url) as last:
            await until(lambda: len(values(centre)) >= sent and last.report().caught_up, 30)
            await until(lambda: not any(lane.waiting for lane in last.report().lanes.values()), 20)
        assert values(centre) == [float(at) for at in range(sent)]
        assert values(centre, "event") == [float(at) for at in range(sent)]


async def test_the_broker_killed_takes_nothing_with_it(server: NatsServer, client: WireClient, tmp_path: Path) -> None:
    async with Centre() as centre, engine(server, tmp_path, kind="http", url=f"http://127.0.0.1:{centre.port}") as found:
        for at in range(30):
            await sample(client, NOW + at, at)
        server.kill()
        server.start()
        second = await server.client()
        for at in range(30, 60):
            await sample(second, NOW + at, at)
        await until(lambda: len(values(centre)) >= 60, 30)
        assert values(centre) == [float(at) for at in range(60)]
        assert found.report().trouble == ""
        second.close()


async def test_seven_days_without_a_link(server: NatsServer, client: WireClient, tmp_path: Path) -> None:
    clock = ManualClock(NOW * SECOND)
    async with Centre() as centre, RoughLink(centre.port) as link:
        link.cut()
        async with engine(
            server, tmp_path, clock, kind="http", url=f"http://127.0.0.1:{link.port}", batch={"delay": "5s"}
        ) as found:
            for day in range(7):
                for at in range(20):
                    await sample(client, NOW + day * DAY + at, 100 * day + at)
                await put(client, "skerry.events.p.d", alarm(day))
                await until(lambda day=day: found.report().cursor >= 20 * (day + 1), 20)
                clock.advance(DAY * SECOND)
            await until(lambda: found.report().lanes["alarm"].waiting == 7 and found.report().trouble, 20)
            link.mend()
            found.order(Pause(False))

            def arrived() -> bool:
                clock.advance(SECOND)
                return len(values(centre)) >= 140 and len(values(centre, "event")) >= 7

            await until(arrived, 30)
        assert values(centre) == [float(100 * day + at) for day in range(7) for at in range(20)]
        assert values(centre, "event") == [float(day) for day in range(7)]


async def test_a_full_queue_thins_old_raw_data_and_keeps_alarms(server: NatsServer, client: WireClient, tmp_path: Path) -> None:
    async with Centre() as centre, RoughLink(centre.port) as link:
        link.cut()
        more = {"queue": {"size": "4MiB"}, "batch": {"messages": 2000, "delay": "50ms"}}
        table = {**TABLE, "source": {**TABLE["source"], "values": list(WIDE)}}
        async with engine(server, tmp_path, None, table, kind="http", url=f"http://127.0.0.1:{link.port}", **more) as found:
            rng, step = random.Random(1), 250
            for at in range(300):
                times = [NOW - 600_000 + (at * step + n) / 1000 for n in range(step)]
                rows = [{"ts": time, **{name: rng.random() for name in WIDE}} for time in times]
                await put(client, "$MQTT.msgs.devices.d.v", json.dumps(rows).encode())
                if at % 30 == 0:
                    await put(client, "skerry.events.p.d", alarm(at))
            await until(lambda: found.report().cursor >= 300, 60)
            await until(lambda: found.report().thinned > 0, 20)
            report = found.report()
            assert report.queue_bytes <= 4 * 1024 * 1024
            assert report.lanes["alarm"].waiting == 10
            link.mend()
            found.order(Pause(False))
            await until(lambda: not any(lane.waiting for lane in found.report().lanes.values()), 30)
        assert values(centre, "event") == [float(at) for at in range(0, 300, 30)]
        rolled = [record for envelope in centre.taken for record in decode(envelope) if record.kind == "rollup"]
        raw = values(centre)
        assert raw
        counted = sum(record.values["x"]["count"] for record in rolled)
        assert counted + len(raw) == 300 * step


async def test_a_queue_full_of_alarms_waits_and_loses_none(
    server: NatsServer, client: WireClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collector_module, "FULL_S", 0.05)
    rng = random.Random(2)
    async with Centre() as centre, RoughLink(centre.port) as link:
        link.cut()
        more = {"queue": {"size": "4MiB"}, "batch": {"messages": 100, "delay": "50ms"}}
        wide = {**TABLE, "sinks": [{"kind": "uplink", "select": ["event", "features"]}]}
        async with engine(server, tmp_path, table=wide, kind="http", url=f"http://127.0.0.1:{link.port}", **more) as found:
            features = {f"f{number}": rng.random() for number in range(400)}
            events = [json.dumps({**json.loads(alarm(at)), "features": features}).encode() for at in range(1000)]
            await store_all(client, [(b"skerry.events.p.d", event, b"") for event in events])
            await until(lambda: "full" in found.report().gathering, 30)
            assert found.report().dropped == 0
            link.mend()
            found.order(Pause(False))
            await until(lambda: found.report().caught_up and not found.report().lanes["alarm"].waiting, 40)
            assert found.report().gathering == ""
        assert values(centre, "event") == [float(at) for at in range(1000)]


async def test_orders(server: NatsServer, client: WireClient, tmp_path: Path) -> None:
    async with Centre() as centre, engine(server, tmp_path, kind="http", url=f"http://127.0.0.1:{centre.port}") as found:
        found.order(Pause(True))
        found.order(LinkTest(7))
        await until(lambda: found.report().tested.number == 7, 20)
        assert found.report().tested.ok
        assert "has acknowledged an envelope in" in found.report().tested.sentence
        assert found._queue is not None
        assert centre.taken == [encode_envelope("rock", "shore", found._queue.checkpoint.epoch, "alarm", [])]
        await sample(client, NOW, 1)
        found.order(Said(alarm(5)))
        await until(lambda: found.report().lanes["alarm"].waiting == 1, 20)
        assert (found.report().paused, len(centre.taken)) == (True, 1)
        found.order(Pause(False))
        await until(lambda: values(centre, "event") == [5.0], 20)
        await until(lambda: values(centre) == [1.0], 20)
        await until(lambda: found.report().sent == sum(map(len, centre.taken[1:])), 20)
        centre.commands = ["aGFsbG8="]
        found.order(LinkTest(8))
        await until(lambda: found.report().commands == [b"hallo"], 20)


async def test_a_test_without_a_centre_says_why(server: NatsServer, client: WireClient, tmp_path: Path) -> None:
    async with engine(server, tmp_path, kind="file", url="stick") as found:
        found.order(LinkTest(1))
        await until(lambda: found.report().tested.number == 1, 20)
        assert not found.report().tested.ok
        assert "it is not there; plug in the stick" in found.report().tested.sentence


async def test_a_central_nats_server_has_all_over_a_cut_and_its_death(
    server: NatsServer, client: WireClient, tmp_path: Path
) -> None:
    (tmp_path / "central").mkdir()
    credentials = tmp_path / "centre.creds"
    credentials.touch(0o600)
    credentials.write_text('username = "agent"\npassword = "pw"\n')
    with NatsServer(tmp_path / "central") as central:
        reading = await central.client()
        await ensure(reading, StreamPlan("central", ("uplink.>",), 16 << 20, "new"))
        async with RoughLink(central.port) as link:
            more = {"kind": "nats", "url": f"nats://127.0.0.1:{link.port}", "credentials": credentials.name}
            async with engine(server, tmp_path, **more) as found:
                for at in range(40):
                    await sample(client, at, float(at))
                    if at == 10:
                        link.cut()
                    elif at == 20:
                        link.mend()
                    elif at == 30:
                        reading.close()
                        central.kill()
                        central.start()
                await until(lambda: found.report().caught_up and not found.report().lanes["bulk"].waiting, 60)
        reading = await central.client()
        records = [record for each in await read_page(reading, "central", "uplink.>", 0) for record in decode(each.payload)]
        once = {(record.sequence, record.index): record.values["x"] for record in records if record.kind == "raw"}
        assert [once[place] for place in sorted(once)] == [float(at) for at in range(40)]
        reading.close()
