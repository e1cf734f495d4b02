"""Deliveries: what a crash leaves of a file, what an MQTT topic is made of, and a relay that resumes where it was."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from skerry.core.clock import SystemClock
from skerry.core.errors import UnavailableError
from skerry.core.service import Bell, cancel_and_wait
from skerry.pipeline import EVENTS_PREFIX, Relay, deliveries
from skerry.pipeline.relay import FileDelivery, MqttDelivery
from skerry.runtime import Allowance
from tests.contracts.key_value import MemoryKeyValue
from tests.fixtures.frames import spec_of
from tests.fixtures.nats import NatsServer, put, until


def event(number: int | str, pipeline: str = "p", key: str = "k") -> bytes:
    return json.dumps({"id": f"e{number}", "pipeline": pipeline, "key": key, "state": "firing", "severity": "warning"}).encode()


def written(path: Path) -> list[str]:
    return [json.loads(line)["id"] for line in path.read_text().splitlines()]


class Broker:
    """Takes what is published, unless it is told to refuse."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, bytes, int, bool]] = []
        self.refuses = False

    async def publish(self, topic: str, payload: bytes, qos: int, retain: bool) -> None:
        if self.refuses:
            raise UnavailableError("not now")
        self.taken.append((topic, payload, qos, retain))


@pytest.mark.asyncio
async def test_a_file_gets_the_events_of_its_pipelines_one_a_line(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "events.jsonl"
    file = FileDelivery(path, ["p"])
    await file.deliver([event(1), event(2, "other")])
    assert not (await file.deliver([]))
    await file.deliver([event(3)])
    assert path.read_bytes() == event(1) + b"\n" + event(3) + b"\n"


@pytest.mark.asyncio
@pytest.mark.parametrize("cut", [0, 1, 10])
async def test_after_a_crash_no_line_is_repeated_and_none_is_half(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "events.jsonl"
    await FileDelivery(path, ["p"]).deliver([event(number) for number in range(1000)])
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - cut])
    after = FileDelivery(path, ["p"])
    for begin in range(300, 1200, 200):
        await after.deliver([event(number) for number in range(begin, begin + 200)])
    assert written(path) == [f"e{number}" for number in range(1300)]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "rubbish", [b"not json\n", b"\x00" * 100 + b"\n", b"\n\n", b'{"id": 5}\n', b'"\xff"\n', b"[" * 5000 + b"\n"]
)
async def test_lines_of_others_are_left_alone(tmp_path: Path, rubbish: bytes) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(event(1) + b"\n" + rubbish)
    await FileDelivery(path, ["p"]).deliver([event(1), event(2)])
    assert path.read_bytes() == event(1) + b"\n" + rubbish + event(2) + b"\n"


@pytest.mark.asyncio
async def test_a_file_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Is a directory"):
        await FileDelivery(tmp_path, ["p"]).deliver([event(1)])


@pytest.mark.asyncio
async def test_mqtt_topics_are_made_of_the_event() -> None:
    sinks = ["event", {"kind": "mqtt", "topic": "{pipeline}/{state}/{severity}/{device}", "qos": 0, "retain": True}]
    broker = Broker()
    mqtt = MqttDelivery([spec_of(sinks=sinks)], broker.publish)
    await mqtt.deliver([event(1), event(2, key="a b/c+#\x00d\n"), event(3, "other")])
    assert [(topic, qos, retain) for topic, _, qos, retain in broker.taken] == [
        ("events/p/k", 1, False),
        ("p/firing/warning/k", 0, True),
        ("events/p/a_b_c___d_", 1, False),
        ("p/firing/warning/a_b/c___d_", 0, True),
    ]


def test_each_file_has_one_delivery_and_mqtt_is_always_there(tmp_path: Path) -> None:
    specs = [
        spec_of(sinks=[{"kind": "file", "path": "a.jsonl"}, {"kind": "file", "path": "b.jsonl"}]),
        spec_of(sinks=["event", {"kind": "file", "path": "a.jsonl"}]),
    ]
    assert [delivery.name for delivery in deliveries(specs, Broker().publish, tmp_path)] == ["mqtt", "file-a.jsonl", "file-b.jsonl"]
    assert [delivery.name for delivery in deliveries([], Broker().publish, tmp_path)] == ["mqtt"]


@pytest.mark.asyncio
async def test_a_relay_delivers_in_order_waits_for_its_sink_and_resumes(tmp_path: Path) -> None:
    cursors, broker = MemoryKeyValue(), Broker()

    async def relayed(server: NatsServer, count: int) -> Relay:
        client = await server.client("relay")
        relay = Relay(MqttDelivery([spec_of(sinks=["event"])], broker.publish), Bell())
        task: asyncio.Task[Any] = asyncio.create_task(relay.run(client, cursors))
        if broker.refuses:
            await until(lambda: relay.failure == "not now" and relay.lag == count)
            assert relay.delivered == 0
            broker.refuses = False
        await until(lambda: relay.delivered >= count)
        await until(lambda: cursors.values.get("relay.mqtt") == str(relay.cursor).encode())
        await cancel_and_wait(task)
        client.close()
        await client.closed
        return relay

    with NatsServer(tmp_path) as server:
        client = await server.prepared()
        broker.refuses = True
        for number in range(250):
            await put(client, f"{EVENTS_PREFIX}p.k", event(number))
        first = await relayed(server, 250)
        assert first.failure == ""
        assert first.lag == 0
        await put(client, f"{EVENTS_PREFIX}p.k", event("last"))
        await relayed(server, 1)
        ids = [json.loads(payload)["id"] for _, payload, *_ in broker.taken]
        assert ids == [f"e{number}" for number in range(250)] + ["elast"]
        assert int(cursors.values["relay.mqtt"]) == 251
        client.close()
        await client.closed


def said(number: int, pipeline: str, state: str = "info") -> bytes:
    return json.dumps({"id": f"{pipeline}{number}", "pipeline": pipeline, "key": "k", "state": state, "pad": "x" * 80}).encode()


@pytest.mark.asyncio
async def test_what_one_pipeline_may_not_send_yet_holds_up_no_other_and_is_not_lost(tmp_path: Path) -> None:
    cursors, broker, count = MemoryKeyValue(), Broker(), 100
    allowance = Allowance(50, SystemClock())
    specs = [spec_of(name=name, sinks=["event"]) for name in "pq"]

    def came(pipeline: str) -> list[str]:
        found = [json.loads(payload)["id"] for _, payload, *_ in broker.taken]
        return [each for each in dict.fromkeys(found) if each.startswith(pipeline)]

    with NatsServer(tmp_path) as server:
        client = await server.prepared()
        for number in range(count):
            await put(client, f"{EVENTS_PREFIX}p.k", said(number, "p"))
        await put(client, f"{EVENTS_PREFIX}p.k", said(count, "p", "firing"))
        for number in range(10):
            await put(client, f"{EVENTS_PREFIX}q.k", said(number, "q"))
        relay = Relay(MqttDelivery(specs, broker.publish), Bell(), {"p": allowance}.get)
        task: asyncio.Task[Any] = asyncio.create_task(relay.run(client, cursors))
        await until(lambda: len(came("q")) == 10 and f"p{count}" in came("p"), 30)
        first = len(came("p")) - 1
        assert came("p")[:first] == [f"p{number}" for number in range(first)]
        assert relay.held("p") == relay.lag == count - first > 0
        await until(lambda: cursors.values.get("relay.mqtt") == str(relay.cursor).encode(), 30)
        assert relay.cursor == first
        await cancel_and_wait(task)
        again = Relay(MqttDelivery(specs, broker.publish), Bell(), {"p": Allowance(8000, SystemClock())}.get)
        task = asyncio.create_task(again.run(client, cursors))
        await until(lambda: again.cursor == count + 11, 30)
        assert came("p") == [*(f"p{number}" for number in range(first)), f"p{count}", *(f"p{at}" for at in range(first, count))]
        assert (again.held("p"), again.lag) == (0, 0)
        await cancel_and_wait(task)
        client.close()
        await client.closed


@pytest.mark.asyncio
async def test_a_file_goes_on_after_a_failure_without_a_gap_or_a_line_twice(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    file = FileDelivery(path, ["p"])
    await file.deliver([event(1), event(2)])
    path.rename(tmp_path / "kept")
    path.mkdir()
    with pytest.raises(OSError, match="Is a directory"):
        await file.deliver([event(3)])
    path.rmdir()
    (tmp_path / "kept").rename(path)
    await file.deliver([event(2), event(3), event(4)])  # from the last stored cursor on, one of them written before
    assert written(path) == ["e1", "e2", "e3", "e4"]


@pytest.mark.asyncio
async def test_a_cancelled_delivery_is_finished_before_the_next_one_looks(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    file = FileDelivery(path, ["p"])
    many = [event(number) for number in range(5000)]
    delivering = asyncio.create_task(file.deliver(many))
    await asyncio.sleep(0)
    await cancel_and_wait(delivering)
    await file.deliver(many)
    assert written(path) == [f"e{number}" for number in range(5000)]
