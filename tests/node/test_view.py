"""A node in this process: configuration read again, pauses over restarts, and what its status says."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from skerry.config import load
from skerry.core.errors import ConfigError, UnavailableError
from skerry.core.service import cancel_and_wait
from skerry.mqtt import MqttClient, MqttConfig
from skerry.node import Node
from skerry.worker import PipelineReport, Report
from tests.fixtures.nats import until

HEAD = """
[node]
name = "box"
site = "quay"
[broker]
mqtt = "127.0.0.1:0"
anonymous = true
[api]
listen = "127.0.0.1:0"
[runtime]
workers = {workers}
"""
PIPELINE = """
[[pipelines]]
name = "{name}"
source = {{ topic = "devices/+/{name}", format = "json", values = ["x"] }}
{more}
"""


def write(folder: Path, *pipelines: str, workers: int = 1, head: str = "", **more: str) -> Path:
    file = folder / "skerry.toml"
    tables = [PIPELINE.format(name=name, more=more.get(name, "")) for name in pipelines]
    file.write_text((head or HEAD.format(workers=workers)) + "".join(tables))
    return file


@asynccontextmanager
async def running(file: Path) -> AsyncIterator[Node]:
    node = Node(load(file))
    task = asyncio.create_task(node.run())
    try:
        async with asyncio.timeout(30):
            while not node.view.ready()[0]:
                assert not task.done(), task.exception()
                await asyncio.sleep(0.02)
        yield node
        assert not task.done(), task.exception()
    finally:
        await cancel_and_wait(task)


def device(node: Node, name: str = "d") -> MqttClient:
    return MqttClient(MqttConfig(f"mqtt://{node.mqtt_address}", name, keep_alive=30))


async def send(client: MqttClient, pipeline: str, *values: float) -> None:
    for value in values:
        await client.publish(f"devices/d/{pipeline}", json.dumps({"x": value}).encode(), qos=1)


async def scores(node: Node, pipeline: str) -> list[float]:
    rows, _ = await node.view.events(pipeline, None, None, 1000, None)
    return [row["score"] for row in rows]


async def come(node: Node, pipeline: str, *wanted: float) -> None:
    """Until these are the events of a pipeline, and no other."""
    try:
        await until(lambda: _same(node, pipeline, list(wanted)), 20)
    except TimeoutError:
        assert await scores(node, pipeline) == list(wanted)


async def _same(node: Node, pipeline: str, wanted: list[float]) -> bool:
    try:
        return await scores(node, pipeline) == wanted
    except UnavailableError:
        return False


def row(node: Node, name: str) -> dict[str, Any]:
    found = node.view.pipeline(name)
    assert found is not None
    return found


@pytest.mark.asyncio
async def test_pipelines_change_live_and_their_sinks_with_them(tmp_path: Path) -> None:
    file = write(tmp_path, "a")
    async with running(file) as node, device(node) as client, device(node, "screen") as screen:
        seen: list[tuple[str, float]] = []

        async def watch() -> None:
            async with screen.subscribe("events/#", qos=1) as messages:
                async for message in messages:
                    seen.append((message.topic, json.loads(message.payload)["score"]))
                    await message.ack()

        watching = asyncio.create_task(watch())
        await send(client, "a", 1)
        await come(node, "a", 1)
        sinks = 'sinks = ["event", { kind = "file", path = "b.jsonl" }, { kind = "mqtt", topic = "events/all/{device}" }]'
        write(tmp_path, "a", "b", b=sinks)
        assert await node.view.reload() == {"changed": ["pipelines"], "needs_restart": []}
        await send(client, "b", 2)
        await send(client, "a", 3)
        await come(node, "b", 2)
        await come(node, "a", 1, 3)
        await until(lambda: {("events/b/d", 2), ("events/all/d", 2), ("events/a/d", 3), ("events/a/d", 1)} <= set(seen), 10)
        await until((tmp_path / "b.jsonl").exists, 10)
        assert [json.loads(line)["score"] for line in (tmp_path / "b.jsonl").read_text().splitlines()] == [2]
        write(tmp_path, "b", b=sinks)
        assert (await node.view.reload())["changed"] == ["pipelines"]
        assert [each["name"] for each in node.view.pipelines()] == ["b"]
        await send(client, "b", 4)
        await come(node, "b", 2, 4)
        assert row(node, "b")["ledger"]["difference"] == 0
        assert await node.view.reload() == {"changed": [], "needs_restart": []}
        await cancel_and_wait(watching)


@pytest.mark.asyncio
async def test_what_cannot_change_live_is_named_until_a_restart_and_not_taken(tmp_path: Path) -> None:
    file = write(tmp_path, "a")
    async with running(file) as node, device(node) as client:
        other = (
            HEAD.format(workers=2)
            .replace('"box"', '"other"\ndata_dir = "./elsewhere"')
            .replace("anonymous = true", "anonymous = false")
        )
        write(tmp_path, "a", "b", head=other)
        answer = await node.view.reload()
        assert answer == {"changed": ["pipelines"], "needs_restart": ["node", "runtime", "broker"]}
        assert (await node.view.reload()) == {"changed": [], "needs_restart": ["node", "runtime", "broker"]}
        await send(client, "b", 5)
        await come(node, "b", 5)
        events, _ = await node.view.events("b", None, None, 10, None)
        assert events[0]["node"] == "box"
        assert len(node.pool.workers) == 1
        assert not (tmp_path / "elsewhere").exists()
        file.write_text("[nod]")
        with pytest.raises(ConfigError, match="did you mean 'node'"):
            await node.view.reload()
        await send(client, "a", 6)
        await come(node, "a", 6)


@pytest.mark.asyncio
async def test_a_reload_is_no_time_without_work_and_loses_nothing(tmp_path: Path) -> None:
    file = write(tmp_path, "a")
    async with running(file) as node, device(node) as client:
        never: list[str] = []
        sent = 0

        async def look() -> None:
            while True:
                ready, reason = node.view.ready()
                if not ready:
                    never.append(reason)
                await asyncio.sleep(0.01)

        looking = asyncio.create_task(look())
        write(tmp_path, "a", "b")
        reloading = asyncio.create_task(node.view.reload())
        while not reloading.done() or not node.pool.ready.is_set():
            sent += 1
            await send(client, "a", sent)
            await asyncio.sleep(0.05)
        await reloading
        assert sent > 1
        await come(node, "a", *range(1, sent + 1))
        await cancel_and_wait(looking)
        assert never == []
        assert node.uptime.report()["gaps"] == []
        assert node.uptime.ratio == 1.0


@pytest.mark.asyncio
async def test_two_reloads_at_once_and_one_while_the_workers_start(tmp_path: Path) -> None:
    file = write(tmp_path, "a")
    async with running(file) as node, device(node) as client:
        for round_ in range(2):
            for name in ("b", "c"):
                write(tmp_path, "a", name, a=f"dedup_horizon = {round_ * 2 + (name == 'c') + 1}")
                reloading = [asyncio.create_task(node.view.reload()) for _ in range(2)]
                await asyncio.sleep(0.3 * round_)
                await asyncio.gather(*reloading)
        await until(lambda: node.view.ready()[0], 20)
        await send(client, "a", 1)
        await send(client, "c", 2)
        await come(node, "a", 1)
        await come(node, "c", 2)


@pytest.mark.asyncio
async def test_a_pause_lasts_over_a_restart_and_loses_nothing(tmp_path: Path) -> None:
    file = write(tmp_path, "a", "b")
    async with running(file) as node, device(node) as client:
        await node.view.pause("a")
        await until(lambda: row(node, "a")["state"] == "paused")
        await send(client, "a", 1, 2)
        await send(client, "b", 9)
        await come(node, "b", 9)
        assert await scores(node, "a") == []
    async with running(file) as node, device(node) as client:
        await until(lambda: row(node, "a")["state"] == "paused")
        await send(client, "a", 3)
        await asyncio.sleep(0.7)
        assert await scores(node, "a") == []
        write(tmp_path, "a", "b", "c", c="paused = true")
        await node.view.reload()
        await until(lambda: node.view.ready()[0] and row(node, "c")["state"] == row(node, "a")["state"] == "paused", 15)
        await send(client, "c", 7)
        await node.view.resume("a")
        await come(node, "a", 1, 2, 3)
        await until(lambda: row(node, "a")["state"] == "running")
        assert await scores(node, "c") == []
        await node.view.resume("c")
        await come(node, "c", 7)
        (tmp_path / "data" / "paused.json").write_text('{"torn')
    async with running(file) as node:
        assert row(node, "a")["state"] == "running"


@pytest.mark.asyncio
async def test_a_worker_that_is_dead_holds_the_log(tmp_path: Path) -> None:
    """What a worker has not read must not be trimmed because others have: also while it is dead and says nothing."""
    node = Node(load(write(tmp_path, "a", "b", workers=2)))
    one, two = node.pool.workers

    def said(*durable: int) -> Report:
        return Report(
            ready=True, pipelines={name: PipelineReport("running", durable=at) for name, at in zip("ab", durable, strict=False)}
        )

    try:
        assert node.durable() is None
        one.report = said(100, 200)
        assert node.durable() is None, "the second worker has said nothing yet"
        two.report = said(70)
        assert node.durable() is None, "nothing is known of its second pipeline"
        two.report = said(70, 300)
        assert node.durable() == 70
        two.report = Report(ready=False, failed="it died")
        assert node.durable() is None
    finally:
        node.login.close()
        node._lock.release()


@pytest.mark.asyncio
async def test_status_and_metrics_of_a_node_at_work(tmp_path: Path) -> None:
    async with running(write(tmp_path, "a", "b")) as node, device(node) as client:
        await send(client, "a", *range(20))
        await client.publish("devices/d/a", b"rubbish", qos=1)
        await come(node, "a", *range(20))
        await until(lambda: row(node, "a")["ledger"]["received"] == 21)
        status = await node.view.status()
        assert set(status) >= {
            "node", "site", "version", "ready", "uptime_ratio", "pipelines", "models", "broker", "storage", "uplink", "cluster",
            "ledger",
        }  # fmt: skip
        assert (status["node"], status["site"], status["ready"], status["uptime_ratio"]) == ("box", "quay", True, 1.0)
        assert status["ledger"]["received"] == 21
        assert status["ledger"]["dead_letters"] == {"undecodable": 1}
        assert status["ledger"]["difference"] == 0
        assert {each["name"] for each in status["processes"]} == {"agent", "nats-server", "worker-0"}
        assert all(each["pid"] and each["memory"] > 1_000_000 for each in status["processes"])
        json.dumps(status)
        found = {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(node.view.metrics())
            for sample in family.samples
        }
        assert found["skerry_messages_received_total", "a"] == 21
        assert found["skerry_messages_received_total", "b"] == 0
        assert found["skerry_events_total", "a"] == 20
        assert found["skerry_latency_seconds_count", "a"] == 20
        assert found["skerry_restarts_total", "worker-0"] == 0
        assert found["skerry_resource_used", "memory"] > 10_000_000
        letters, _ = await node.view.deadletters("a", 10, None)
        assert [letter["payload"] for letter in letters] == ["rubbish"]
        assert await node.view.deadletters_retry("a") == 1
        await until(lambda: row(node, "a")["ledger"]["received"] == 22)
        assert set(status["promises"]) == {"latency", "reliability", "efficiency", "energy", "bandwidth"}
        assert found["skerry_event_age_seconds_count", "a"] == 20
        assert node.view.uptime(0)["gaps"] == []
        node.pool.workers[0].restarts.quarantined = True
        assert not node.view.ready()[0]
        assert node.view.ready()[1].startswith("worker 0 is quarantined for 5 minutes")
        node.pool.workers[0].restarts.quarantined = False


@pytest.mark.asyncio
async def test_a_node_without_pipelines_serves_its_devices(tmp_path: Path) -> None:
    async with running(write(tmp_path)) as node, device(node) as client:
        await send(client, "a", 1)
        assert node.view.pipelines() == []
        assert (await node.view.status())["ledger"]["received"] == 0
        host, _, port = node.http_address.rpartition(":")
        with socket.create_connection((host, int(port)), 1):
            pass
        write(tmp_path, "a")
        await node.view.reload()
        await until(lambda: node.view.ready()[0])
        await send(client, "a", 2)
        await come(node, "a", 2)
