"""The round trip to the uplink's host: measured where there is one, and never made up."""

import asyncio

import pytest

from skerry.core.clock import SystemClock
from skerry.node.promises import Counts, Promises, worked
from skerry.node.roundtrip import RoundTrip, place_of


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("mqtts://centre.example:8884", ("centre.example", 8884)),
        ("mqtt://user:pw@10.0.0.1", ("10.0.0.1", 1883)),
        ("https://centre.example/in", ("centre.example", 443)),
        ("nats://centre.example", ("centre.example", 4222)),
        ("http://[::1]:8080/x", ("::1", 8080)),
        ("", None),
        ("/srv/outbox", None),
        ("mqtt://host:notaport", None),
    ],
)
def test_where_the_centre_is(url: str, place: tuple[str, int] | None) -> None:
    assert place_of(url) == place


@pytest.mark.asyncio
async def test_a_host_that_answers_is_measured_and_one_that_does_not_is_not() -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    urls = [f"mqtt://127.0.0.1:{port}"]
    link = RoundTrip(lambda: urls[-1], SystemClock())
    assert link.milliseconds is None
    await link.measure()
    assert link.milliseconds is not None
    assert 0 < link.milliseconds < 10_000
    urls.append("file:///tmp")
    assert link.milliseconds is None, "it is another uplink's"
    urls.append(urls[0])
    assert link.milliseconds is not None
    server.close()
    await server.wait_closed()
    await link.measure()
    assert link.milliseconds is None, "what is gone is not told"


@pytest.mark.asyncio
async def test_it_is_measured_while_the_promises_are_counted() -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    link = RoundTrip(lambda: f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", SystemClock())
    promises = Promises(dict, dict, lambda _: {}, lambda: Counts(link_ms=link.milliseconds), [link])
    running = asyncio.create_task(promises.run())
    async with asyncio.timeout(20):
        while link.milliseconds is None:  # noqa: ASYNC110 - measured by another task
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
    server.close()
    await server.wait_closed()


def test_wake_ups_are_told_by_the_thousand_messages() -> None:
    before, now = Counts(received=100, wakeups=5000), Counts(received=2100, wakeups=9000)
    assert worked(before, now).wakeups_per_1000 == 2000.0
    assert worked(before, Counts(received=2100)).wakeups_per_1000 is None
    assert worked(before, Counts(received=100, wakeups=9000)).wakeups_per_1000 is None
