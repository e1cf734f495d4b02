"""An outlet over a real queue and a real HTTP endpoint: nothing lost and the order kept, whatever the centre and the link do."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from skerry.broker import WireClient
from skerry.core.clock import SystemClock
from skerry.core.service import Bell, cancel_and_wait
from skerry.runtime import Throttle
from skerry.uplink import outlet as outlet_module
from skerry.uplink.envelope import read_envelope, read_header
from skerry.uplink.item import PRIORITIES, Item, Priority, encode_item
from skerry.uplink.outlet import Batch, Name, Outlet
from skerry.uplink.queue import Entry, Queue
from skerry.uplink.table import encode_rows
from skerry.uplink.targets import Place, open_target
from skerry.uplink.targets import http as http_module
from tests.fixtures.nats import until
from tests.fixtures.rough_link import RoughLink
from tests.uplink.centre import Centre, portal, status

pytestmark = pytest.mark.asyncio


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlet_module, "FIRST_S", 0.02)
    monkeypatch.setattr(outlet_module, "MOST_S", 0.2)
    monkeypatch.setattr(http_module, "TIMEOUT_S", 0.8)


class Sending:
    """Three outlets over one queue, to one URL."""

    def __init__(self, queue: Queue, port: int, batch: Batch, rate: int = 0) -> None:
        self.queue = queue
        self.woken = Bell()
        self.running = asyncio.Event()
        self.running.set()
        self.sent = 0
        place = Place("http", f"http://127.0.0.1:{port}", "rock", "shore")
        self.target = open_target(place, lambda command: None)
        throttle, name = Throttle(rate), Name("rock", "shore", queue.checkpoint.epoch)
        self.outlets: dict[Priority, Outlet] = {
            lane: Outlet(
                lane, name, queue, self.target, throttle, batch, "zstd", SystemClock(), self.woken, self.running, self._sent
            )
            for lane in PRIORITIES
        }

    def _sent(self, size: int) -> None:
        self.sent += size


@asynccontextmanager
async def sending(client: WireClient, port: int, batch: Batch | None = None, rate: int = 0) -> AsyncIterator[Sending]:
    queue = Queue(client, 64 * 1024 * 1024)
    await queue.open()
    found = Sending(queue, port, batch or Batch(20, 64 * 1024, 0.05), rate)
    tasks = [asyncio.create_task(outlet.run()) for outlet in found.outlets.values()]
    try:
        yield found
    finally:
        for task in tasks:
            if task.done():
                task.result()
        await cancel_and_wait(*tasks)
        await found.target.close()


def entry(lane: Priority, number: int, size: int = 20) -> Entry:
    """An item of about so many bytes that do not pack."""
    rng = random.Random(number)
    row = (float(number), *(rng.random() for _ in range(max(1, size // 8))))
    body = encode_rows({"d": [row]}, tuple(f"v{at}" for at in range(len(row) - 1)))
    return Entry(lane, "p", encode_item(Item("raw", lane, f"{lane}{number}", "p", number, 1, body)))


async def queued(queue: Queue, lane: Priority, first: int, count: int, size: int = 20) -> None:
    await queue.put([entry(lane, number, size) for number in range(first, first + count)])
    await queue.commit(1, 1, b"", 0)


def ids(centre: Centre) -> list[str]:
    """Of all items that came, without those that came again."""
    found: list[str] = []
    for envelope in centre.taken:
        found += [item.id for _, item in read_envelope(envelope).items if item.id not in found]
    return found


def emptied(found: Sending) -> Callable[[], bool]:
    return lambda: not any(found.queue.waits(lane) for lane in PRIORITIES)


async def test_what_is_queued_is_acknowledged_in_order_and_gone(client: WireClient) -> None:
    async with Centre() as centre, sending(client, centre.port) as found:
        await queued(found.queue, "normal", 0, 70)
        await until(emptied(found), 20)
        assert ids(centre) == [f"normal{number}" for number in range(70)]
        assert centre.again("normal") == 0
        assert await found.queue.read("normal", 10, 1000) == []
        assert found.sent == sum(map(len, centre.taken))
        assert found.outlets["normal"].counts.items == 70


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([portal, portal], "does not prove that the envelope was taken"),
        ([status(500), status(503, b'{"detail": "the log is full"}')], "503: the log is full"),
        ([status(429, **{"retry-after": "1"})], "it answers 429"),
        ([status(200, b'{"digest": "00"}'), status(200, b"\xff\x00"), status(204)], "status 204 that does not prove"),
        ([status(403), status(400, b"{}")], "it answers 400"),
        ([status(302, location="http://portal/")], "it answers 302"),
    ],
    ids=["portal", "5xx", "429", "rubbish", "refused", "redirect"],
)
async def test_a_centre_that_does_not_take_it_gets_it_again(
    client: WireClient, answers: list[object], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Centre() as centre, sending(client, centre.port) as found:
        centre.answers = list(answers)  # type: ignore[arg-type]  # as they are declared
        await queued(found.queue, "alarm", 0, 1)
        troubles: set[str] = set()

        def through() -> bool:
            troubles.add(found.outlets["alarm"].trouble)
            return emptied(found)()

        await until(through, 20)
        assert any(words in trouble for trouble in troubles), troubles
        assert ids(centre) == ["alarm0"]
        assert found.outlets["alarm"].counts.failed == len(answers)
        assert found.outlets["alarm"].trouble == ""


async def test_retry_after_is_kept_to(client: WireClient) -> None:
    loop = asyncio.get_running_loop()
    async with Centre() as centre, sending(client, centre.port) as found:
        centre.answers = [status(429, **{"retry-after": "1"})]
        began = loop.time()
        await queued(found.queue, "alarm", 0, 1)
        await until(lambda: centre.asked == 1, 20)
        found.woken.ring()
        await until(emptied(found), 20)
        assert loop.time() - began >= 1.0


async def test_one_that_takes_small_envelopes_only_gets_small_ones(client: WireClient) -> None:
    async with Centre() as centre, sending(client, centre.port, Batch(16, 1 << 20, 0.01)) as found:
        centre.answers = [status(413), status(413)]
        await queued(found.queue, "normal", 0, 16)
        await until(emptied(found), 20)
        assert len(read_envelope(centre.taken[0]).items) == 4
        assert ids(centre) == [f"normal{number}" for number in range(16)]


async def test_a_slow_centre_and_half_open_connections_lose_nothing(client: WireClient) -> None:
    async with Centre() as centre, RoughLink(centre.port) as link, sending(client, link.port) as found:
        await queued(found.queue, "normal", 0, 30)
        await until(emptied(found), 20)
        link.silence()
        await queued(found.queue, "normal", 30, 30)
        await until(lambda: found.outlets["normal"].trouble, 20)
        link.speak()
        await until(emptied(found), 20)
        centre.slow = 1.2
        await queued(found.queue, "normal", 60, 5)
        await until(lambda: found.outlets["normal"].trouble, 20)
        centre.slow = 0.0
        await until(emptied(found), 20)
        assert ids(centre) == [f"normal{number}" for number in range(65)]
        assert centre.sequences("normal") == sorted(centre.sequences("normal"))


async def test_delay_loss_and_resets_lose_nothing_and_keep_the_order(client: WireClient) -> None:
    async with Centre() as centre, RoughLink(centre.port) as link, sending(client, link.port) as found:
        link.delay, link.loss, link.reset = 0.1, 0.05, 0.15
        for lane in PRIORITIES:
            await queued(found.queue, lane, 0, 100)
        await until(emptied(found), 60)
        for lane in PRIORITIES:
            assert [each for each in ids(centre) if each.startswith(lane)] == [f"{lane}{number}" for number in range(100)]


async def test_a_cut_is_over_at_once_when_the_network_is_back(client: WireClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlet_module, "MOST_S", 3600.0)
    monkeypatch.setattr(outlet_module, "FIRST_S", 3600.0)
    async with Centre() as centre, RoughLink(centre.port) as link, sending(client, link.port) as found:
        link.cut()
        await queued(found.queue, "normal", 0, 5)
        await queued(found.queue, "alarm", 0, 1)
        await until(lambda: found.outlets["normal"].trouble and found.outlets["alarm"].trouble, 20)
        link.mend()
        found.woken.ring()
        await until(emptied(found), 20)
        assert sorted(ids(centre)) == ["alarm0", *(f"normal{number}" for number in range(5))]


async def test_alarms_overtake_what_waits_for_the_rate(client: WireClient) -> None:
    async with Centre() as centre, sending(client, centre.port, Batch(1, 1 << 20, 0.01), rate=2000) as found:
        await queued(found.queue, "bulk", 0, 30, 2000)
        await until(lambda: len(centre.taken) >= 2, 20)
        await queued(found.queue, "alarm", 0, 3)
        await until(lambda: "alarm2" in ids(centre), 20)
        assert found.queue.waits("bulk") > 15


async def test_paused_it_sends_nothing_and_goes_on_later(client: WireClient) -> None:
    async with Centre() as centre, sending(client, centre.port) as found:
        found.running.clear()
        await queued(found.queue, "alarm", 0, 3)
        await asyncio.sleep(0.3)
        assert centre.asked == 0
        found.running.set()
        await until(emptied(found), 20)
        assert ids(centre) == ["alarm0", "alarm1", "alarm2"]


async def test_an_envelope_holds_its_bytes(client: WireClient) -> None:
    async with Centre() as centre, sending(client, centre.port, Batch(1000, 2048, 0.05)) as found:
        entries = [entry("normal", at, 300) for at in range(60)]
        await found.queue.put(entries)
        await found.queue.commit(1, 1, b"", 0)
        await until(emptied(found), 20)
        assert ids(centre) == [f"normal{at}" for at in range(60)]
        assert max(map(len, centre.taken)) <= 2048


async def test_what_cannot_be_read_holds_up_nothing(client: WireClient, caplog: pytest.LogCaptureFixture) -> None:
    async with Centre() as centre, sending(client, centre.port) as found:
        rubbish = [
            Entry("normal", "p", b"of another version"),
            Entry("normal", "p", encode_item(Item("event", "normal", "i", "p", 1, 1, b"5"))),
        ]
        await found.queue.put([*rubbish, entry("normal", 0), *rubbish])
        await found.queue.put(rubbish)
        await found.queue.commit(1, 1, b"", 0)
        await until(emptied(found), 20)
        assert ids(centre) == ["normal0"]
        assert found.outlets["normal"].counts.unreadable == 6


async def test_an_alarm_leaves_at_once_and_those_just_after_it_together(client: WireClient) -> None:
    async with Centre() as centre, sending(client, centre.port, Batch(100, 64 * 1024, 60, alarms_s=3)) as found:
        await queued(found.queue, "alarm", 0, 1)
        await until(lambda: len(centre.taken) == 1, 30)  # not after its `delay_s`
        for number in (1, 2, 3):
            await queued(found.queue, "alarm", number, 1)
            await asyncio.sleep(0.05)
        await until(lambda: len(ids(centre)) == 4, 30)
        assert [read_header(each).count for each in centre.taken] == [1, 3]
        await queued(found.queue, "alarm", 4, 100)  # as many as an envelope takes wait for nothing
        await until(lambda: len(ids(centre)) == 104, 30)
