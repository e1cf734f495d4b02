"""The log's reader against a real server: everything once and in order, over gaps, backlogs, full owners and dead servers."""

import asyncio
from collections.abc import Callable

import pytest

from skerry.broker import LOG, Frame, LogReader, Position, WireClient, api, position
from skerry.core.service import cancel_and_wait
from tests.fixtures.nats import NatsServer, put, until

SUBJECTS = ["$MQTT.msgs.devices.*.v", "skerry.q0.devices.*.v"]


class Owner:
    """Takes frames in as a worker does: a cursor, and whether it is full."""

    def __init__(self, client: WireClient, subjects: list[str] | None = None, cursor: int = 0) -> None:
        self.cursor = cursor
        self.payloads: list[bytes] = []
        self.sequences: list[int] = []
        self.full = False
        self.slow: Callable[[], None] = lambda: None
        self.reader = LogReader(client, subjects or SUBJECTS, lambda: self.cursor, self.take, full=lambda: self.full)
        self.task = asyncio.create_task(self.reader.run())

    def take(self, frames: list[Frame], first: Position, last: Position) -> None:
        assert first == position(frames[0][1])
        assert last == position(frames[-1][1])
        assert last.consumer - first.consumer == len(frames) - 1
        self.payloads += [frame[3] for frame in frames]
        self.sequences += [position(frame[1]).stream for frame in frames]
        self.cursor = last.stream
        self.slow()

    async def stop(self) -> None:
        await cancel_and_wait(self.task)


def fill(client: WireClient, begin: int, end: int, subject: bytes = b"$MQTT.msgs.devices.a.v") -> None:
    for number in range(begin, end):
        client.publish(subject, b"%d" % number)


def numbers(begin: int, end: int) -> list[bytes]:
    return [b"%d" % number for number in range(begin, end)]


def test_a_position_is_read_from_the_end_of_the_reply() -> None:
    plain = position(b"$JS.ACK.$MQTT_msgs.r1.1.17.3.1795545600123456789.42")
    assert (plain.stream, plain.consumer, plain.arrival, plain.pending) == (17, 3, 1_795_545_600_123_456, 42)
    assert position(b"$JS.ACK.domain.hash.$MQTT_msgs.r1.1.17.3.1795545600123456789.42") == plain


@pytest.mark.asyncio
async def test_it_begins_behind_the_cursor_and_sees_only_its_subjects(client: WireClient) -> None:
    fill(client, 0, 10)
    await put(client, "$MQTT.msgs.devices.a.w", b"not ours")
    await put(client, "skerry.q0.devices.b.v", b"qos 0")
    await client.flush()
    owner = Owner(client, cursor=4)
    await until(lambda: len(owner.payloads) == 7)
    assert owner.payloads == [*numbers(4, 10), b"qos 0"]
    assert owner.sequences == [5, 6, 7, 8, 9, 10, 12]
    await until(lambda: owner.reader.caught_up)
    fill(client, 20, 22)
    await until(lambda: len(owner.payloads) == 9)
    assert owner.reader.consumers == 1
    await owner.stop()


@pytest.mark.asyncio
async def test_an_empty_log_is_caught_up_at_once(client: WireClient) -> None:
    owner = Owner(client)
    await until(lambda: owner.reader.caught_up)
    await owner.stop()


@pytest.mark.asyncio
async def test_a_backlog_and_a_slow_owner_lose_nothing_and_are_bounded(client: WireClient) -> None:
    for begin in range(0, 200_000, 10_000):
        fill(client, begin, begin + 10_000)
        await client.flush(20)
    loop = asyncio.get_running_loop()
    owner = Owner(client)

    def dawdle() -> None:
        end = loop.time() + 0.002
        while loop.time() < end:
            pass

    owner.slow = dawdle
    await until(lambda: len(owner.payloads) >= 200_000, 60)
    assert owner.payloads == numbers(0, 200_000)
    assert owner.reader.consumers == 1
    assert owner.reader.pending == 0
    await owner.stop()


@pytest.mark.asyncio
async def test_a_full_owner_stops_the_flow_and_goes_on(client: WireClient) -> None:
    for begin in range(0, 60_000, 10_000):
        fill(client, begin, begin + 10_000, b"$MQTT.msgs.devices.a.v")
        await client.flush(20)
    for number in range(300):
        client.publish(b"$MQTT.msgs.devices.big.v", b"x" * 100_000)
        if number % 50 == 0:
            await client.flush(20)
    await client.flush(20)
    owner = Owner(client)
    owner.full = True
    await until(lambda: len(owner.payloads) > 0)
    await asyncio.sleep(1.5)
    stopped = len(owner.payloads)
    assert stopped < 60_300
    await asyncio.sleep(2.0)
    assert len(owner.payloads) == stopped, "it did not stop"
    owner.full = False
    owner.reader.go_on()
    await until(lambda: len(owner.payloads) == 60_300, 30)
    assert owner.payloads[:60_000] == numbers(0, 60_000)
    assert owner.reader.consumers == 1, "a stalled consumer is not a broken one"
    await owner.stop()


@pytest.mark.asyncio
async def test_a_gap_makes_a_new_consumer_from_the_cursor(client: WireClient) -> None:
    owner = Owner(client)
    fill(client, 0, 50)
    await until(lambda: len(owner.payloads) == 50)
    real = owner.reader._on_frames
    lost = 0

    def lossy(frames: list[Frame]) -> None:
        nonlocal lost
        if lost == 0 and any(not frame[2].startswith(b"NATS/1.0 100") for frame in frames):
            lost += 1
            frames = frames[1:]
        if frames:
            real(frames)

    client._handlers[owner.reader._sid] = lossy
    fill(client, 50, 100)
    await until(lambda: len(owner.payloads) == 100)
    assert lost == 1
    assert owner.payloads == numbers(0, 100)
    assert owner.reader.consumers == 2
    await owner.stop()


@pytest.mark.asyncio
async def test_a_loss_at_the_very_end_is_seen_by_the_heartbeat(client: WireClient) -> None:
    owner = Owner(client)
    await until(lambda: owner.reader.caught_up)
    real, sid = client._handlers[owner.reader._sid], owner.reader._sid
    client._handlers[sid] = lambda frames: real(found) if (found := [frame for frame in frames if frame[3] != b"1"]) else None
    fill(client, 0, 2)
    await until(lambda: owner.payloads == numbers(0, 2))
    assert owner.reader.consumers == 2
    await owner.stop()


@pytest.mark.asyncio
async def test_silence_makes_a_new_consumer(client: WireClient) -> None:
    owner = Owner(client)
    fill(client, 0, 5)
    await until(lambda: len(owner.payloads) == 5)
    await api(client, f"CONSUMER.DELETE.{LOG}.{owner.reader._name}")
    fill(client, 5, 10)
    await until(lambda: len(owner.payloads) == 10)
    assert owner.payloads == numbers(0, 10)
    assert owner.reader.consumers == 2
    await owner.stop()


@pytest.mark.asyncio
async def test_a_reader_leaves_no_consumer_behind(client: WireClient) -> None:
    owner = Owner(client)
    await until(lambda: owner.reader.caught_up)
    await owner.stop()
    assert (await api(client, f"STREAM.INFO.{LOG}"))["state"]["consumer_count"] == 0


@pytest.mark.asyncio
async def test_the_end_of_the_server_is_the_end_of_the_reader_and_the_next_one_goes_on(server: NatsServer) -> None:
    client = await server.prepared()
    owner = Owner(client)
    fill(client, 0, 1000)
    await until(lambda: len(owner.payloads) == 1000)
    server.kill()
    await asyncio.wait_for(asyncio.gather(owner.task, return_exceptions=True), 5)
    server.start()
    again = await server.client()
    after = Owner(again, cursor=owner.cursor)
    fill(again, 1000, 1010)
    await until(lambda: len(after.payloads) == 10)
    assert owner.payloads + after.payloads == numbers(0, 1010)
    await after.stop()
    again.close()
    await again.closed
