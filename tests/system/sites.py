"""Two nodes, one the centre of the other, and the link between them, for system tests and the soak."""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from skerry.core.errors import SkerryError
from tests.fixtures.node import RunningNode, until
from tests.fixtures.rough_link import RoughLink
from tests.system.fleet import connected

CENTRE = """\
[uplink]
receive = true
[[pipelines]]
name = "all"
source = { topic = "sites/+/+/raw/#", values = ["x"], time = "ts", key = "{6}" }
sinks = ["event"]
[[pipelines]]
name = "answers"
source = { topic = "sites/+/+/events/commands/#", values = ["count"], key = "{6}" }
sinks = ["event"]
"""
TOPICS = ["pub:uplink/sea/rock/#", "sub:uplink/sea/rock/#", "sub:uplink-commands/sea/rock"]
SITE = """\
[uplink]
kind = "%s"
url = "%s"
batch = { messages = 20, delay = "300ms" }
%s
[[pipelines]]
name = "p"
source = { topic = "devices/+/v", values = ["x"], time = "ts" }
rule = { field = "score", above = 1e9 }
sinks = ["event", { kind = "uplink", select = ["raw", "event"] }]
"""


@contextmanager
def rough_link(target: int) -> Iterator[RoughLink]:
    """A link in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    link = asyncio.run_coroutine_threadsafe(_open(target), loop).result(10)
    try:
        yield link
    finally:
        asyncio.run_coroutine_threadsafe(link.__aexit__(None, None, None), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _open(target: int) -> RoughLink:
    return await RoughLink(target).__aenter__()


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


class Pump:
    """A device whose messages are numbered over any number of connections; each is acknowledged before `send` returns."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.sent = 0

    def send(self, node: RunningNode, count: int) -> None:
        client = connected(self.name, node.mqtt)
        try:
            until(client.is_connected, 20, "the device is connected")
            infos = []
            for at in range(self.sent, self.sent + count):
                message = json.dumps({"ts": time.time(), "x": at})
                infos.append(client.publish(f"devices/{self.name}/v", message, qos=1))
            for info in infos:
                info.wait_for_publish(20)
                assert info.is_published()
            self.sent += count
        finally:
            client.disconnect()
            client.loop_stop()

    def arrived(self, node: RunningNode) -> list[float]:
        """What the centre's pipeline has made of it; waits while the node is not there."""
        found: list[list[float]] = []

        def read() -> bool:
            with contextlib.suppress(SkerryError):
                found.append([event["score"] for event in node.events("all") if event["key"] == self.name])
            return bool(found)

        until(read, 60, "the centre answers")
        return found[0]
