"""The engine against a real server and real devices: counted once over kills, restarts, pauses, any QoS and several workers."""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from skerry.broker import LOG, WireClient, kv_get, kv_put, read_page, stream_state, to_subject
from skerry.core.clock import SECOND, SystemClock
from skerry.core.errors import FencedError, UnavailableError
from skerry.core.service import cancel_and_wait
from skerry.pipeline import BUCKET, EVENTS, EVENTS_PREFIX, begin_checkpoints
from skerry.worker import Assignment, PipelineReport
from skerry.worker.engine import Engine
from tests.fixtures.frames import sample
from tests.fixtures.nats import NatsServer, put, until
from tests.fixtures.raw_mqtt import RawMqtt

NOW = SystemClock().now() / SECOND


def table(name: str = "p", topic: str = "devices/+/v", **more: Any) -> dict[str, Any]:
    source = {"topic": topic, "time": "ts", "values": ["x"], **more.pop("source", {})}
    window = {"kind": "tumbling", "size": "1s", "idle": "0s"}
    return {"name": name, "source": source, "window": window, "features": ["count", "sum"], **more}


class Running:
    """One engine in this process, as a worker would run it."""

    def __init__(
        self,
        server: NatsServer,
        folder: Path,
        *tables: dict[str, Any],
        partition: int = 0,
        partitions: int = 1,
        models: Sequence[dict[str, Any]] = (),
    ) -> None:
        login = {"node": "rock", "host": "127.0.0.1", "port": server.port, "user": "agent", "password": "pw", "base": str(folder)}
        assignment = Assignment(
            **login,
            partition=partition,
            partitions=partitions,
            pipelines=list(tables) or [table()],
            models=list(models),
            trace=str(folder / f"trace-{partition}"),
        )
        self.engine = Engine(assignment, SystemClock())
        self.task = asyncio.create_task(self.engine.run())

    async def __aenter__(self) -> "Running":
        await until(lambda: self.engine.ready)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.die()

    def report(self, name: str = "p") -> PipelineReport:
        return self.engine.report().pipelines[name]

    @property
    def received(self) -> int:
        return int(self.report().books["received"]) if self.report().books else 0

    async def drain(self) -> None:
        await self.engine.drain()
        await asyncio.wait_for(self.task, 5)

    async def die(self) -> None:
        """End it without a last checkpoint."""
        await cancel_and_wait(self.task)


@pytest_asyncio.fixture
async def client(server: NatsServer) -> AsyncIterator[WireClient]:
    found = await server.prepared()
    await begin_checkpoints(found, ["p"], 1, 0)
    yield found
    found.close()
    await found.closed


async def store(client: WireClient, begin: int, end: int, topic: str = "devices/d{}/v") -> None:
    """Messages in the log, ten a second of event time, of three devices."""
    for number in range(begin, end):
        await put(client, "$MQTT.msgs." + to_subject(topic.format(number % 3)), sample(NOW - 500 + number / 10, 1))


async def all_events(client: WireClient, name: str = "p") -> list[dict[str, Any]]:
    """All stored events of a pipeline; no id may be there twice."""
    found: list[dict[str, Any]] = []
    after = 0
    while page := await read_page(client, EVENTS, f"{EVENTS_PREFIX}{name}.>", after):
        after = page[-1].sequence
        found += [json.loads(stored.payload) for stored in page]
    assert len({event["id"] for event in found}) == len(found), "an event is there twice"
    return found


async def counted(client: WireClient, name: str = "p") -> Counter[str]:
    """Messages in windows by key; no window may be there twice."""
    found = await all_events(client, name)
    assert len({(event["key"], event["start"]) for event in found}) == len(found)
    total: Counter[str] = Counter()
    for event in found:
        total[event["key"]] += event["count"]
    return total


def balanced(report: PipelineReport) -> bool:
    return bool(report.books) and report.books["difference"] == 0


@pytest.mark.asyncio
async def test_messages_become_events_and_a_drain_leaves_nothing_to_replay(
    server: NatsServer, client: WireClient, tmp_path: Path
) -> None:
    await store(client, 0, 100)
    running = Running(server, tmp_path)
    await until(lambda: running.received == 100)
    await put(client, "$MQTT.msgs.devices.d1.v", b"rubbish")
    await until(lambda: running.report().books.get("open") == 0 and running.report().unacknowledged == 0)
    await running.drain()
    report = running.report()
    assert balanced(report)
    assert (report.cursor, report.durable) == (101, 101)
    assert report.books["dead_letters"] == {"undecodable": 1}
    assert await counted(client) == {"d0": 34, "d1": 33, "d2": 33}
    async with Running(server, tmp_path) as again:
        await store(client, 100, 101)
        await until(lambda: again.received == 102)
        assert again.report().books["scored"] >= 100


@pytest.mark.asyncio
async def test_a_worker_that_dies_again_and_again_counts_each_message_once(
    server: NatsServer, client: WireClient, tmp_path: Path
) -> None:
    for life in range(4):
        running = Running(server, tmp_path)
        await store(client, life * 60, life * 60 + 60)
        await until(lambda running=running, life=life: running.received >= life * 60 + 30)
        if life % 2:
            await running.engine.checkpoint()
        await running.die()
    async with Running(server, tmp_path) as last:
        await until(lambda: last.received == 240 and last.report().books["open"] == 0)
        await until(lambda: last.report().unacknowledged == 0)
        assert balanced(last.report())
    assert sum((await counted(client)).values()) == 240 - sum(last.report().books["dead_letters"].values())


@pytest.mark.asyncio
async def test_a_server_killed_under_load_loses_and_doubles_nothing(server: NatsServer, client: WireClient, tmp_path: Path) -> None:
    sent = 0

    async def device(number: int) -> None:
        """Sends its samples in order, each until it is acknowledged, as MQTT demands; an id stands for the re-send's."""
        nonlocal sent
        link = await server.client()
        for at in range(300):
            payload, header = sample(NOW - 500 + at / 20, 1), f"Nats-Msg-Id: d{number}-{at}\r\n".encode()
            while True:
                try:
                    await put(link, f"$MQTT.msgs.devices.d{number}.v", payload, header)
                    break
                except UnavailableError:
                    link.close()
                    link = await server.client()
            sent += 1
        link.close()
        await link.closed

    async def kills() -> None:
        for share in (200, 700):
            await until(lambda share=share: sent >= share, 30)
            server.kill()
            await asyncio.sleep(0.2)
            server.start()

    async with Running(server, tmp_path, table(window={"kind": "tumbling", "size": "1s"})) as running:
        await asyncio.wait_for(asyncio.gather(*[device(number) for number in range(4)], kills()), 60)
        await until(lambda: running.received == 1200, 20)
        await until(lambda: running.report().books["open"] == 0, 20)
        await running.drain()
        assert balanced(running.report())
        assert running.report().books["dead_letters"] == {}
    again = await server.client()
    assert await counted(again) == {f"d{number}": 300 for number in range(4)}
    again.close()
    await again.closed


@pytest.mark.asyncio
@pytest.mark.parametrize("widest", [True, False])
async def test_every_qos_is_counted_once_by_two_workers_and_overlapping_pipelines(
    server: NatsServer, client: WireClient, tmp_path: Path, widest: bool
) -> None:
    tables = [table(), table("q", "devices/d1/+"), *([table("all", "devices/#")] if widest else [])]
    expected = {"p": 62, "q": 20, "all": 62} if widest else {"p": 62, "q": 20}
    await begin_checkpoints(client, list(expected), 2, 0)

    def publish() -> None:
        with RawMqtt(server.mqtt_port) as device:
            for number in range(60):
                topic = f"devices/d{number % 3}/v".encode()
                assert device.publish(topic, sample(NOW - 50 + number, 1), qos=number % 2)
            assert device.publish(b"devices/" + b"y" * 5000 + b"/v", sample(NOW, 1), qos=0)
            assert device.publish(b"devices/" + b"z" * 5000 + b"/v", sample(NOW, 1), qos=1)
            assert device.publish(b"devices/*/v", sample(NOW, 1), qos=0)

    async with contextlib.AsyncExitStack() as stack:
        workers = [
            await stack.enter_async_context(Running(server, tmp_path, *tables, partition=at, partitions=2)) for at in range(2)
        ]
        connections = [worker.engine._client for worker in workers]
        await asyncio.to_thread(publish)

        def received() -> dict[str, int]:
            return {name: sum(int(worker.report(name).books["received"]) for worker in workers) for name in expected}

        await until(lambda: received() == expected)
        await asyncio.sleep(0.5)
        assert received() == expected
        assert all(balanced(worker.report(name)) for worker in workers for name in expected)
        assert [worker.engine._client for worker in workers] == connections, "a device's topic ended a worker's connection"
        for worker in workers:
            await worker.drain()
    assert (await stream_state(client, LOG))["messages"] == 62
    dead = sum((Counter(worker.report("p").books["dead_letters"]) for worker in workers), Counter[str]())
    assert dead["unknown-key"] == 1


@pytest.mark.asyncio
async def test_two_workers_of_one_partition_do_not_both_go_on(server: NatsServer, client: WireClient, tmp_path: Path) -> None:
    first, second = Running(server, tmp_path), Running(server, tmp_path)
    await until(lambda: first.engine.ready and second.engine.ready)
    await store(client, 0, 40)
    done, _ = await asyncio.wait([first.task, second.task], timeout=10, return_when=asyncio.FIRST_COMPLETED)
    assert len(done) == 1
    assert isinstance(done.pop().exception(), FencedError)
    for running in (first, second):
        await running.die()
    await all_events(client)


@pytest.mark.asyncio
async def test_a_pause_stops_one_pipeline_and_its_messages_wait(server: NatsServer, client: WireClient, tmp_path: Path) -> None:
    tables = [table(), table("q")]
    await begin_checkpoints(client, ["p", "q"], 1, 0)
    async with Running(server, tmp_path, *tables) as running:
        await store(client, 0, 30)
        await until(lambda: running.report("q").books["received"] == 30)
        running.engine.pause("p", True)
        await store(client, 30, 90)
        await until(lambda: running.report("q").books["received"] == 90)
        assert (running.report("p").state, running.report("q").state) == ("paused", "running")
        assert running.report("p").books["received"] <= 30
        running.engine.pause("p", False)
        await until(lambda: running.report("p").books["received"] == 90)
        await until(lambda: running.report("p").books["open"] == running.report("q").books["open"] == 0)
        await running.drain()
        assert all(balanced(running.report(name)) for name in "pq")
        dead = running.report("p").books["dead_letters"].get("late", 0)
    assert sum((await counted(client, "q")).values()) == 90
    assert sum((await counted(client, "p")).values()) + dead == 90


@pytest.mark.asyncio
async def test_a_pipeline_that_resumes_in_the_middle_of_anothers_reading_misses_nothing(
    server: NatsServer, client: WireClient, tmp_path: Path
) -> None:
    await begin_checkpoints(client, ["p", "q"], 1, 0)
    many = 20_000
    for number in range(1, many):
        client.publish(b"$MQTT.msgs.devices.d1.v", sample(NOW - 500, 1))
        if number % 2000 == 0:
            await client.flush()
    assert await put(client, "$MQTT.msgs.devices.d1.v", sample(NOW - 500, 1)) == many
    async with Running(server, tmp_path, table(paused=True), table("q", paused=True)) as running:
        running.engine.pause("p", False)
        while running.received == 0:  # noqa: ASYNC110 - the very next turn of the loop after the first read is what counts
            await asyncio.sleep(0)
        assert running.received < many
        running.engine.pause("q", False)
        await until(lambda: running.report("p").books["received"] == running.report("q").books["received"] == many)
        assert all(balanced(running.report(name)) for name in "pq")


@pytest.mark.asyncio
async def test_a_pipeline_that_cannot_run_says_why_and_stops_no_other(
    server: NatsServer, client: WireClient, tmp_path: Path
) -> None:
    tables = [table(model="missing"), table("q"), table("r", features="nowhere:f")]
    await begin_checkpoints(client, ["p", "q", "r"], 1, 0)
    async with Running(server, tmp_path, *tables) as running:
        await store(client, 0, 5)
        await until(lambda: running.report("q").books.get("received") == 5)
        assert "there is no model 'missing'" in running.report("p").state
        assert "nowhere" in running.report("r").state
        await running.drain()


@pytest.mark.asyncio
async def test_an_idle_pipelines_cursor_moves_over_what_is_not_its_business(
    server: NatsServer, client: WireClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skerry.worker.slot.IDLE_S", 0.3)
    async with Running(server, tmp_path) as running:
        await store(client, 0, 3)
        for _ in range(20):
            await put(client, "$MQTT.msgs.others.a.w", b"x")
        await until(lambda: running.report().durable == 23)
        assert running.received == 3


@pytest.mark.asyncio
async def test_messages_are_taken_one_by_one_while_one_of_them_is_suspect(
    server: NatsServer, client: WireClient, tmp_path: Path
) -> None:
    await store(client, 0, 50)
    running = Running(server, tmp_path)
    running.engine._feeding.careful_until = 50
    seen: list[tuple[int, int]] = []
    running.engine._trace.messages = lambda pipeline, first, last: seen.append((first, last))  # type: ignore[method-assign]  # to look on
    await until(lambda: running.received == 50)
    await running.die()
    assert seen == [(number, number) for number in range(1, 51)]


@pytest.mark.asyncio
async def test_poison_is_stepped_over(server: NatsServer, client: WireClient, tmp_path: Path) -> None:
    await store(client, 0, 5)
    running = Running(server, tmp_path)
    running.engine._assignment.poison = {"p": ["3"]}
    await until(lambda: running.received == 5)
    assert running.report().books["dead_letters"] == {"poison": 1}
    await running.die()


@pytest.mark.asyncio
async def test_a_corrupt_checkpoint_stops_its_own_pipeline_only(server: NatsServer, client: WireClient, tmp_path: Path) -> None:
    await begin_checkpoints(client, ["p", "q"], 1, 0)
    found = await kv_get(client, BUCKET, "p.0-of-1")
    assert found is not None
    await kv_put(client, BUCKET, "p.0-of-1", b"SKP9 what nobody wrote", found[1])
    async with Running(server, tmp_path, table(), table("q")) as running:
        await store(client, 0, 5)
        await until(lambda: running.report("q").books.get("received") == 5)
        assert running.report("p").state.startswith("failed: ")
        assert "checkpoint" in running.report("p").state
        await running.drain()
    kept = await kv_get(client, BUCKET, "p.0-of-1")
    assert kept is not None
    assert kept[0] == b"SKP9 what nobody wrote"


@pytest.mark.asyncio
async def test_what_a_stopped_worker_did_not_hear_is_no_silence_of_the_devices(
    server: NatsServer, client: WireClient, tmp_path: Path
) -> None:
    window = {"kind": "tumbling", "size": "60s", "idle": "2s"}
    running = Running(server, tmp_path, table(window=window))
    clock = running.engine._clock = Behind()
    for slot in running.engine._slots:
        slot._clock = clock
    await until(lambda: running.engine.ready)
    await store(client, 0, 3)
    await until(lambda: running.received == 3)
    clock.ahead = 3600.0  # as after a SIGSTOP of an hour
    await asyncio.sleep(0.5)
    assert running.report().books["open"] == 3
    await running.die()


class Behind(SystemClock):
    """A clock whose monotonic time can be set forward."""

    ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead
