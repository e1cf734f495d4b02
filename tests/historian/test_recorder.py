"""The recorder over a real nats-server: every message's sample once, over kills, lost connections, lost logs and a full store."""

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skerry.broker import WireClient
from skerry.core.clock import SystemClock
from skerry.core.errors import StoreFull
from skerry.core.service import cancel_and_wait
from skerry.historian import Keeping, Place
from skerry.historian import recorder as recorder_module
from skerry.historian.recorder import Recorder
from skerry.store import StorageConfig, SyncKeyValueStore, pack
from skerry.store.blocks import key_of
from skerry.store.history import RAW, SERIES
from tests.fixtures.nats import NatsServer, put, until
from tests.historian.rig import DAY, HOUR, SECOND, assigned

pytestmark = pytest.mark.asyncio
NOW = SystemClock().now() // SECOND


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "TAKE_S", 0.05)
    monkeypatch.setattr(recorder_module, "STORE_S", 0.1)
    monkeypatch.setattr(recorder_module, "RETAIN_S", 0.3)


class Recording:
    """One recorder that runs; `die` ends it as a kill does, but for what the kernel would do: it lets go of the directory."""

    def __init__(self, server: NatsServer, folder: Path, **more: Any) -> None:
        self.recorder = Recorder(assigned(folder, **more), SystemClock())
        self.recorder.place(Place("127.0.0.1", server.port, "agent", "pw"))
        self.task = asyncio.create_task(self.recorder.run())

    async def die(self) -> None:
        await cancel_and_wait(self.task)
        self.recorder._store.close()

    async def close(self) -> None:
        await cancel_and_wait(self.task)
        await self.recorder.close()

    def rows(self, name: str = "d/v/x") -> dict[int, float]:
        times, values = self.recorder.archive.query(name, 0, 1 << 55)
        return dict(zip(times.tolist(), values.tolist(), strict=True))

    @property
    def cursor(self) -> int:
        return self.recorder.report().cursor


async def publish(client: WireClient, first: int, count: int, topic: str = "devices.d.v") -> dict[int, float]:
    """Messages with the values `first` and on, one a second; what the history should have of them."""
    for at in range(first, first + count):
        await put(client, f"$MQTT.msgs.{topic}", json.dumps({"ts": NOW - 3600 + at, "x": at}).encode())
    return {(NOW - 3600 + at) * SECOND: float(at) for at in range(first, first + count)}


async def test_samples_and_events_are_stored_with_their_cursor(server: NatsServer, client: WireClient, tmp_path: Path) -> None:
    found = Recording(server, tmp_path)
    wanted = await publish(client, 0, 50)
    event = {"pipeline": "p", "key": "d", "end": "2026-11-24T20:00:00.000Z", "score": 0.5, "features": {}}
    await put(client, "skerry.events.p.d", json.dumps(event).encode())
    await until(lambda: found.cursor == 50)
    assert found.rows() == wanted
    await until(lambda: found.recorder.report().series == 2)
    report = found.recorder.report()
    assert (report.samples, report.passed_over, report.trouble, report.caught_up) == (51, {}, "", True)
    await found.close()
    again = Recorder(assigned(tmp_path), SystemClock())
    assert again.archive.cursor("log") == 50
    assert again.archive.cursor("events") == 1
    await again.close()


async def test_what_was_not_stored_when_it_died_is_read_again(server: NatsServer, client: WireClient, tmp_path: Path) -> None:
    wanted: dict[int, float] = {}
    for life in range(4):
        found = Recording(server, tmp_path)
        wanted |= await publish(client, 40 * life, 40)
        if life % 2:
            await until(lambda found=found: found.cursor > 0)
        else:
            await until(lambda found=found: found.recorder._intake.count or found.recorder.archive.waiting or found.cursor > 0)
        await found.die()
    found = Recording(server, tmp_path)
    await until(lambda: found.cursor == 160)
    assert found.rows() == wanted
    await found.close()


async def test_it_finds_the_broker_again(server: NatsServer, client: WireClient, tmp_path: Path) -> None:
    found = Recording(server, tmp_path)
    wanted = await publish(client, 0, 10)
    await until(lambda: found.cursor == 10)
    server.kill()
    server.start()
    second = await server.client()
    wanted |= await publish(second, 10, 10)
    await until(lambda: found.cursor == 20)
    assert found.rows() == wanted
    second.close()
    await found.close()


async def test_a_log_that_ends_before_the_cursor_is_read_from_its_beginning(
    server: NatsServer, client: WireClient, tmp_path: Path
) -> None:
    first = Recorder(assigned(tmp_path), SystemClock())
    first.archive.append("d/v/x", np.array([NOW * SECOND]), np.array([-1.0]))
    first.archive.flush({"log": 100_000, "events": 100_000})
    await first.close()
    found = Recording(server, tmp_path)
    wanted = {NOW * SECOND: -1.0, **await publish(client, 0, 5)}
    await until(lambda: found.cursor == 5)
    assert found.rows() == wanted
    await found.close()


async def test_what_came_in_place_of_a_lost_end_of_the_log_is_read(server: NatsServer, client: WireClient, tmp_path: Path) -> None:
    first = Recorder(assigned(tmp_path), SystemClock())
    first.archive.append("d/v/x", np.array([NOW * SECOND]), np.array([-1.0]))
    first.archive.flush({"log": 8})
    await first.close()
    wanted = {NOW * SECOND: -1.0, **await publish(client, 0, 10)}
    found = Recording(server, tmp_path)
    await until(lambda: found.cursor == 10)
    assert found.rows() == wanted
    await found.close()


async def test_qos_0_of_the_topics_is_put_into_the_log_once(server: NatsServer, client: WireClient, tmp_path: Path) -> None:
    found = Recording(server, tmp_path, pipelines=[], topics=["devices/#", "devices/d/v"])
    await until(lambda: found.recorder.report().caught_up)
    await asyncio.sleep(0.1)
    client.publish(b"devices.d.v", b'{"x": 1}', header=b"Nmqtt-Pub: 0\r\n")
    client.publish(b"devices.d.v", b'{"x": 2}')  # not of a device: it has no mark
    await until(lambda: found.cursor > 0)
    assert list(found.rows().values()) == [1.0]
    await found.close()


def crammed(folder: Path) -> None:
    """A store of 32 MiB filled with the blocks of past days."""
    rng, hour = np.random.default_rng(1), NOW * SECOND // HOUR - 140
    with SyncKeyValueStore(StorageConfig(folder / "history", "32MiB", "none", "8MiB", "8MiB")) as store:
        store.set(b"old/v/x", b"", table=SERIES)
        with suppress(StoreFull):
            while True:
                block = pack(hour * HOUR + np.arange(100_000) * 30_000, rng.normal(size=100_000))
                store.set(key_of("old/v/x", hour), block, table=RAW, durable=False)
                hour += 1
    assert hour < NOW * SECOND // HOUR - 24


async def test_a_full_store_gives_up_its_oldest_samples_and_goes_on(server: NatsServer, client: WireClient, tmp_path: Path) -> None:
    crammed(tmp_path)
    found = Recording(server, tmp_path, max_size="32MiB")
    rng, wanted = np.random.default_rng(2), dict[int, float]()
    for device in range(12):
        values = rng.normal(size=20_000).tolist()
        rows = [{"ts": NOW - 3000 + at / 1000, "x": value} for at, value in enumerate(values)]
        await put(client, f"$MQTT.msgs.devices.d{device}.v", json.dumps(rows).encode())
        wanted = wanted or {round((NOW - 3000 + at / 1000) * SECOND): value for at, value in enumerate(values)}
    await until(lambda: found.cursor == 12, 30)
    report = found.recorder.report()
    assert report.trouble == ""
    assert report.bytes <= 32 << 20
    assert found.rows("d0/v/x") == wanted
    assert report.given_up > 0
    oldest = found.recorder.archive.page("old/v/x", 0, 1 << 55, None, "mean", 1)[0]
    assert oldest[0] >= (NOW * SECOND // HOUR - 139) * HOUR
    await found.close()


async def test_a_damaged_block_stops_the_history_and_is_told(server: NatsServer, client: WireClient, tmp_path: Path) -> None:
    with SyncKeyValueStore(StorageConfig(tmp_path / "history", "64MiB", "none")) as store:
        store.set(key_of("d/v/x", (NOW - 3600) * SECOND // HOUR), b"rubbish", table=RAW)
    found = Recording(server, tmp_path)
    await publish(client, 0, 5)
    await until(lambda: "not what was written" in found.recorder.report().trouble)
    assert found.cursor == 0
    assert not found.task.done()
    await found.close()


async def test_what_has_been_kept_for_its_time_goes(server: NatsServer, client: WireClient, tmp_path: Path) -> None:
    first = Recorder(assigned(tmp_path, keep=Keeping(100 * DAY, 100 * DAY, 100 * DAY)), SystemClock())
    first.archive.append("old/v/x", np.array([NOW * SECOND - 50 * DAY]), np.array([1.0]))
    first.archive.flush()
    await first.close()
    found = Recording(server, tmp_path, keep=Keeping(DAY, DAY, DAY))
    await publish(client, 0, 1)
    await until(lambda: found.recorder.archive.series() == ["d/v/x"])
    await found.close()
