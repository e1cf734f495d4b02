"""What a page shows of the node: its status, asked once a second while somebody looks, and the last ten minutes of it."""

import asyncio
import contextlib
from collections import deque
from typing import Any, Self

import msgspec

from skerry.core.clock import Clock
from skerry.core.errors import SkerryError
from skerry.core.service import cancel_and_wait
from skerry.http import AsyncClient, UnauthorizedError

Row = dict[str, Any]
EVERY_S, UNSEEN_S = 1.0, 30.0
MOST_SAMPLES, MOST_WATCHES = 600, 64


class Sample(msgspec.Struct, frozen=True):
    """One moment of the node: Unix seconds, messages a second, messages that wait, and the promises' figures."""

    at: float
    rate: float
    lag: int
    p50: float | None
    p99: float | None
    scored_per_cpu_s: float | None
    bytes_in: float | None
    day_ratio: float | None


class Watch:
    """The node as one credential may see it.

    Attributes:
        status: the last answer, empty before the first. trouble: why there is no newer one. barred: the credential is not good.
        samples: one a second, oldest first.
    """

    def __init__(self, api: str, token: str, ca: str, clock: Clock) -> None:
        self.client = AsyncClient(api, token=token, ca=ca)
        self.status: Row = {}
        self.trouble = ""
        self.barred = False
        self.samples: deque[Sample] = deque(maxlen=MOST_SAMPLES)
        self._clock = clock
        self._looked = clock.monotonic()
        self._asked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def now(self) -> int:
        """Microseconds since the epoch, by this computer's clock."""
        return self._clock.now()

    async def __aenter__(self) -> Self:
        await self.client.__aenter__()
        return self

    async def close(self) -> None:
        """End its task and its connections."""
        if self._task is not None:
            await cancel_and_wait(self._task)
        await self.client.__aexit__(None, None, None)

    async def look(self) -> None:
        """Somebody looks: returns when there is a status, or the reason why there is none."""
        self._looked = self._clock.monotonic()
        if self._task is None or self._task.done():
            self._asked.clear()
            self._task = asyncio.create_task(self._ask())
        await self._asked.wait()

    async def _ask(self) -> None:
        while self._clock.monotonic() - self._looked < UNSEEN_S:
            await self.ask()
            if not self.trouble:
                self.samples.append(sample_of(self.status, self._clock.now() / 1e6))
            self._asked.set()
            await asyncio.sleep(EVERY_S)

    async def ask(self) -> None:
        """Ask now."""
        try:
            self.status = await self.client.get("/api/v1/node")
            self.trouble, self.barred = "", False
        except UnauthorizedError as error:
            self.trouble, self.barred = str(error), True
        except SkerryError as error:
            self.trouble = str(error)


def sample_of(status: Row, at: float) -> Sample:
    """What of a status has a history."""
    promises = status.get("promises") or {}
    latency = (promises.get("latency") or {}).get("arrival_ms") or {}
    pipelines = status.get("pipelines") or []
    topics: dict[str, float] = {}
    for row in pipelines:  # what several pipelines read of one topic came once
        topics[row["topic"]] = max(topics.get(row["topic"], 0.0), row["rate"])
    return Sample(
        at, sum(topics.values()), max((row["lag"] for row in pipelines), default=0), latency.get("p50"), latency.get("p99"),
        (promises.get("efficiency") or {}).get("scored_per_cpu_s"), (promises.get("bandwidth") or {}).get("bytes_in"),
        (promises.get("reliability") or {}).get("day_ratio"),
    )  # fmt: skip


class Watches:
    """One `Watch` a credential; the one that was looked at longest ago goes when there are too many."""

    def __init__(self, api: str, ca: str, clock: Clock) -> None:
        self._api, self._ca, self._clock = api, ca, clock
        self._open: dict[str, Watch] = {}
        self._opening = asyncio.Lock()

    async def of(self, token: str) -> Watch:
        """The one of a token. Raises `ConfigError` for what can be no token."""
        async with self._opening:
            found = self._open.pop(token, None)
            if found is None:
                found = await Watch(self._api, token, self._ca, self._clock).__aenter__()
            self._open[token] = found
            if len(self._open) > MOST_WATCHES:
                await self._open.pop(next(iter(self._open))).close()
            return found

    async def try_out(self, token: str) -> None:
        """Ask with a token once. Raises `UnauthorizedError` for one that is not good, and what else the API raises."""
        async with AsyncClient(self._api, token=token, ca=self._ca) as client:
            await client.get("/api/v1/pipelines")
        if token in self._open:
            self._open[token].barred = False

    async def close(self) -> None:
        """Close all."""
        for watch in self._open.values():
            with contextlib.suppress(SkerryError):
                await watch.close()
        self._open.clear()
