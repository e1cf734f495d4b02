"""Events as a subscriber gets them: of each message at once, so that it is seen how long there were none."""

import itertools
import json
import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Self

from skerry.core.clock import SECOND, from_rfc3339
from tests.fixtures.node import until
from tests.system.fleet import Addresses, connected

EACH = """
[[pipelines]]
name = "each"
source = { topic = "devices/+/numbers", time = "ts", values = ["n"], max_future = "10m" }
window = { kind = "none" }
"""


class Arrivals:
    """When events of each device came, at QoS 0: that needs no consumer to be elected. Use as a context manager."""

    def __init__(self, address: Addresses) -> None:
        self._times: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self._client = connected("watch", address)
        self._client.on_connect = lambda client, *_: client.subscribe("events/each/#", qos=0)
        self._client.on_message = self._take
        until(self._client.is_connected, 30, "the watch is connected")
        self._client.subscribe("events/each/#", qos=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _take(self, client: Any, userdata: Any, message: Any) -> None:
        event = json.loads(message.payload)
        self._times[event["key"]].append((time.monotonic(), from_rfc3339(event["start"]) / SECOND))

    def longest(self, begin: float) -> float:
        """The longest that any device was without an event, from a moment on, until now."""
        found = []
        for times in list(self._times.values()):
            later = [at for at, _ in times.copy() if at >= begin - 1.0] + [time.monotonic()]
            found.append(max(after - before for before, after in itertools.pairwise(later)))
        return max(found)

    def again(self, devices: Iterable[str], made: float) -> float:
        """The moment from which on each had an event of a message that was made after a time; waits for that."""

        def first(name: str) -> float | None:
            return next((at for at, start in self._times[name].copy() if start > made), None)

        return max(until(lambda name=name: first(name), 120, f"an event of {name} again") or 0.0 for name in devices)
