"""How many servers keep each stream."""

import os
from pathlib import Path

import pytest

from skerry.broker import LOG, MIB, bucket_plan, log_plan, stream_state, whole
from skerry.node.cluster.replicas import rescale, wanted_replicas
from tests.fixtures.nats import put, until
from tests.fixtures.nats_cluster import Servers, made


@pytest.mark.parametrize(
    ("asked", "servers", "replicas"), [(3, 3, 3), (3, 5, 3), (5, 3, 3), (5, 4, 3), (5, 5, 5), (5, 7, 5), (1, 3, 3)]
)
def test_three_or_five(asked: int, servers: int, replicas: int) -> None:
    assert wanted_replicas(asked, servers) == replicas


@pytest.mark.skipif(
    "SKERRY_SOAK" not in os.environ, reason='optional: five servers are too many for a busy machine; make soak ARGS="cluster"'
)
@pytest.mark.timeout(600)
@pytest.mark.asyncio
async def test_three_become_five_and_three_again(tmp_path: Path) -> None:
    with Servers(tmp_path, 5) as servers:
        await until(lambda: all(len(each.routes()) == 4 for each in servers.all), 60)
        client = await servers.all[0].client()

        await made(client, log_plan(64 * MIB, replicas=3), bucket_plan("skerry_test", 8 * MIB))
        for at in range(100):
            await put(client, "$MQTT.msgs.devices.a.x", b"%d" % at)
        for replicas in (5, 3):
            assert sorted(await rescale(client, replicas)) == [LOG, "KV_skerry_test"]
            assert await rescale(client, replicas) == []
            await until(lambda replicas=replicas: whole(client, replicas), 90)
        assert (await stream_state(client, LOG))["messages"] == 100
        client.close()
