"""The process at work over a real nats-server: stored before resumed, a cursor that lasts, one that fails hurts no other."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from skerry.broker import MIB, WireClient, bucket_plan, ensure, log_plan
from skerry.connector import ConnectorProcess, Message
from skerry.connector.intake import fault_of, store
from skerry.core.clock import SystemClock
from skerry.core.service import cancel_and_wait
from tests.connector.rig import LONGEST, assigned, installed, payloads, prepared, stored, working
from tests.fixtures.nats import NatsServer, until

pytestmark = pytest.mark.asyncio
NUMBERS = {"kind": "numbers"}
ENTRY = {"numbers": "plugin:Numbers"}


async def test_messages_are_stored_as_those_of_devices_and_read_on_from_the_cursor(server: NatsServer, tmp_path: Path) -> None:
    client = await prepared(server)
    with installed(tmp_path, ENTRY):
        async with working([{"name": "n", "last": 3, **NUMBERS}], server, tmp_path) as engine:
            await until(lambda: engine.report().connectors["n"].moved == 3, 20)
        found = await stored(client)
        assert [each.payload for each in found] == [b"1", b"2", b"3"]
        assert found[0].subject == "$MQTT.msgs.devices.n.n"
        assert (found[0].headers["nmqtt-pub"], found[0].headers["skerry-connector"]) == ("1", "n")
        async with working([{"name": "n", "last": 5, **NUMBERS}], server, tmp_path) as engine:
            await until(lambda: engine.report().connectors["n"].moved == 2, 20)
        assert await payloads(client) == [b"1", b"2", b"3", b"4", b"5"]
    client.close()


async def test_one_that_is_broken_hurts_no_other_and_says_why(server: NatsServer, tmp_path: Path) -> None:
    client = await prepared(server)
    with installed(tmp_path, ENTRY):
        tables = [{"name": "bad", "fault": "raise", **NUMBERS}, {"name": "good", **NUMBERS}]
        async with working(tables, server, tmp_path) as engine:
            await until(lambda: engine.report().connectors["good"].moved == 5, 20)
            await until(lambda: engine.report().connectors["bad"].errors >= 2, 20)
            bad, good = engine.report().connectors["bad"], engine.report().connectors["good"]
        assert bad.trouble == "it is broken: KeyError: 'third'"
        assert (good.trouble, good.errors) == ("", 0)
        assert await payloads(client, "devices/bad/n") == [b"1", b"2"]
    client.close()


async def test_the_broker_may_go_and_come_back(server: NatsServer, tmp_path: Path) -> None:
    (await prepared(server)).close()
    with installed(tmp_path, ENTRY):
        async with working([{"name": "n", "last": 2000, **NUMBERS}], server, tmp_path) as engine:
            await until(lambda: engine.report().connectors["n"].moved > 20, 20)
            server.kill()
            await until(lambda: "the log is not there" in engine.report().connectors["n"].trouble, 20)
            server.start()
            await until(lambda: engine.report().connectors["n"].last and engine.report().connectors["n"].moved >= 2000, 40)
        client = await server.client()
        numbers = [int(each) for each in await payloads(client)]
        assert sorted(set(numbers)) == list(range(1, 2001))
        client.close()


async def test_a_full_log_holds_the_source_and_loses_nothing(server: NatsServer, tmp_path: Path) -> None:
    (await server.prepared(quota=4096)).close()
    client = await prepared_bucket(server)
    with installed(tmp_path, ENTRY):
        async with working([{"name": "n", "last": 300, **NUMBERS}], server, tmp_path) as engine:
            await until(lambda: "the log takes nothing more" in engine.report().connectors["n"].trouble, 20)
            held = engine.report().connectors["n"].moved
            assert 0 < held < 300
            await ensure(client, log_plan(256 * MIB))
            await until(lambda: engine.report().connectors["n"].moved == 300, 30)
            assert engine.report().connectors["n"].trouble == ""
    assert [int(each) for each in await payloads(client)] == list(range(1, 301))
    client.close()


async def prepared_bucket(server: NatsServer) -> WireClient:
    """A connection, with the bucket of the cursors made and the log as it is."""
    client = await server.client()
    await ensure(client, bucket_plan("skerry_cursors", 64 * MIB))
    return client


async def test_what_can_never_be_stored_is_known() -> None:
    assert fault_of(Message("devices/d/x", b"1"), LONGEST) == ""
    assert fault_of(Message("devices/d/x", bytes(LONGEST + 1)), LONGEST) == "too large"
    assert fault_of(Message("d/" + "x" * 2000, b""), LONGEST) == "topic too long"
    for topic in ("", "$SYS/x", "a/+", "a/#", "a b", "a/*", "a/>", "a\r\nb", "a\0"):
        assert fault_of(Message(topic, b""), LONGEST) == "no topic", topic


async def test_a_message_with_an_id_is_kept_once(server: NatsServer) -> None:
    client = await prepared(server)
    for _ in range(3):
        await store(client, "n", [Message("devices/d/x", b"1", "one"), Message("devices/d/x", b"2")])
    assert await payloads(client) == [b"1", b"2", b"2", b"2"]
    client.close()


async def test_the_process_may_be_killed_at_any_time(server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = await prepared(server)
    with installed(tmp_path, ENTRY):
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        process = ConnectorProcess(tmp_path / "run", SystemClock())
        process.assign(assigned([{"name": "n", "last": 1200, **NUMBERS}], tmp_path))
        await process.give("127.0.0.1", server.port, "agent", "pw")
        running = asyncio.create_task(process.run())
        try:
            for least in (50, 200):
                await until(lambda least=least: _count(client, least), 40)
                first = process.pid
                assert first is not None
                os.kill(first, signal.SIGKILL)
                await until(lambda first=first: process.pid not in (None, first), 20)
            await until(lambda: process.report is not None and process.report.connectors["n"].moved > 0, 40)
            assert process.durable() is not None
            assert process.restarts.total == 2
            await until(lambda: _count(client, 1200), 60)
        finally:
            await cancel_and_wait(running)
        assert process.pid is None
    assert sorted({int(each) for each in await payloads(client)}) == list(range(1, 1201))
    client.close()


async def _count(client: WireClient, least: int) -> bool:
    return len(await stored(client)) >= least
