"""A worker and a topic that the server cannot store: passed over, and pushed out of the log by one worker of several."""

import asyncio
from pathlib import Path

import pytest

from skerry.broker import LOG, stream_state
from skerry.broker.unreadable import RECLAIMED, ROOM
from skerry.pipeline import begin_checkpoints
from skerry.worker import holes as holes_module
from tests.fixtures.frames import sample
from tests.fixtures.nats import NatsServer, until
from tests.fixtures.raw_mqtt import RawMqtt
from tests.worker.test_engine import NOW, Running


@pytest.mark.asyncio
async def test_a_topic_too_long_for_the_server_is_passed_over_and_pushed_out_by_one_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with NatsServer(tmp_path) as server:
        client = await server.prepared()
        await begin_checkpoints(client, ["p"], 2, 0)
        too_long = b"devices/d1/" + b"x" * 65_520

        def publish() -> None:
            with RawMqtt(server.mqtt_port) as device:
                for topic in (b"devices/d1/v", too_long, too_long, b"devices/d1/v"):
                    assert device.publish(topic, sample(NOW, 1))

        workers = [Running(server, tmp_path, partition=at, partitions=2) for at in range(2)]
        async with workers[0], workers[1]:
            await asyncio.to_thread(publish)
            await until(lambda: sum(worker.received for worker in workers) == 2)
            filled = 4 + RECLAIMED // ROOM + 1
            await until(lambda: workers[0].report().cursor == filled, 30)
            await asyncio.to_thread(publish)
            await until(lambda: sum(worker.received for worker in workers) == 4)
            await asyncio.sleep(0.3)
            assert (await stream_state(client, LOG))["last_seq"] == filled + 4
            monkeypatch.setattr(holes_module, "EVERY_S", 0.0)
            await until(lambda: workers[0].report().cursor > filled + 4)
        client.close()
        await client.closed
