"""A worker that cannot read the log says why, and no longer when it can."""

import json
from pathlib import Path

import pytest

from skerry.broker import LOG
from skerry.pipeline import begin_checkpoints
from tests.fixtures.nats import NatsServer, until
from tests.worker.test_engine import Running


@pytest.mark.asyncio
async def test_a_log_without_room_for_another_reader_is_told(tmp_path: Path) -> None:
    with NatsServer(tmp_path) as server:
        client = await server.prepared()
        await begin_checkpoints(client, ["p"], 1, 0)

        async def most_consumers(most: int) -> None:
            config = json.loads((await client.request(f"$JS.API.STREAM.INFO.{LOG}".encode(), b""))[3])["config"]
            body = json.dumps({**config, "max_consumers": most}).encode()
            answer = json.loads((await client.request(f"$JS.API.STREAM.UPDATE.{LOG}".encode(), body))[3])
            assert "error" not in answer

        # one that is there already takes all the room
        taken = {"stream_name": LOG, "config": {"name": "taken", "ack_policy": "none", "deliver_subject": "nowhere"}}
        await client.request(f"$JS.API.CONSUMER.CREATE.{LOG}.taken".encode(), json.dumps(taken).encode())
        await most_consumers(1)
        async with Running(server, tmp_path) as worker:
            await until(lambda: "consumer" in worker.engine.report().waiting)
            await client.request(f"$JS.API.CONSUMER.DELETE.{LOG}.taken".encode(), b"")
            await until(lambda: worker.engine.report().waiting == "")
        client.close()
        await client.closed
