"""A hole in the log that could not be filled stays noted."""

from pathlib import Path

import pytest

from skerry.broker import LOG, stream_state
from skerry.core.errors import UnavailableError
from skerry.worker.holes import EVERY_S, Holes
from tests.fixtures.nats import NatsServer
from tests.fixtures.raw_mqtt import RawMqtt


@pytest.mark.asyncio
async def test_one_whose_filling_failed_is_tried_again_later(tmp_path: Path) -> None:
    with NatsServer(tmp_path) as server:
        client, gone = await server.prepared(), await server.client()
        with RawMqtt(server.mqtt_port) as device:
            assert device.publish(b"devices/d1/v", b"1")
        gone.close()
        await gone.closed
        holes = Holes(mine=True)
        holes.note(1)
        with pytest.raises(UnavailableError):
            await holes.fill(gone, 0.0)
        await holes.fill(client, EVERY_S / 2)
        assert (await stream_state(client, LOG))["last_seq"] == 1
        await holes.fill(client, EVERY_S)
        filled = (await stream_state(client, LOG))["last_seq"]
        assert filled > 1
        await holes.fill(client, 2 * EVERY_S)
        assert (await stream_state(client, LOG))["last_seq"] == filled
        client.close()
        await client.closed
