"""Streams of three servers are given to the one whose node leads the cluster, and to no other."""

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from skerry.broker import api
from skerry.core.errors import UnavailableError
from skerry.core.service import cancel_and_wait
from skerry.node.cluster import gather
from tests.fixtures.nats import until
from tests.fixtures.nats_cluster import Servers


@pytest.mark.asyncio
async def test_all_streams_are_led_where_the_cluster_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "EVERY_S", 0.2)
    with Servers(tmp_path) as servers:
        client = await servers.all[0].client()
        for name in ("one", "two", "three"):
            plan = {"name": name, "subjects": [f"{name}.>"], "num_replicas": 3, "storage": "file"}
            await api(client, f"STREAM.CREATE.{name}", plan, timeout=30)
        leads = {"n2": True, "n3": False}

        async def strayed(server: str, number: int) -> bool:
            with suppress(UnavailableError):  # a stream that has just changed its leader may leave a question unanswered
                found = await gather.strayed_streams(client, server)
                return found is not None and len(found) == number
            return False

        for server, at_once in list(leads.items()):
            gathering = asyncio.create_task(gather.Gathering(server, lambda server=server: leads[server]).run(client))
            if not at_once:
                await asyncio.wait([gathering], timeout=1)
                await until(lambda server=server: strayed(server, 3), 60)  # nothing has moved while it does not lead
                leads[server] = True
            await until(lambda server=server: strayed(server, 0), 60)
            await cancel_and_wait(gathering)
        client.close()
