"""A device that is not there: readings made up or out of a file, published at a steady rate, and how many were acknowledged."""

import asyncio
import json
import math
from collections.abc import Iterable, Iterator
from random import Random

import msgspec

from skerry.core.clock import SECOND, Clock
from skerry.core.errors import SkerryError, UnavailableError
from skerry.core.service import cancel_and_wait
from skerry.device.client import DeviceClient
from skerry.device.recording import TIME, Reading

MOST_WAITING = 1000
LAST_S = 10.0


class Simulated(msgspec.Struct):
    """What came of it. `acknowledged`: the node has them in its log."""

    device: str
    sent: int = 0
    acknowledged: int = 0
    failed: int = 0
    reconnects: int = 0
    seconds: float = 0.0


def made_up(channel: str, seed: int) -> Iterator[Reading]:
    """Readings without end: on `vibration` accelerations `x`, `y`, `z` in m/s², elsewhere a `value` as of a warm room in °C."""
    rng = Random(seed)
    if channel == "vibration":
        at = 0
        while True:
            at += 1
            swing = math.sin(0.9 * at)
            gains = {"x": 0.30, "y": 0.22, "z": 0.12}
            yield Reading(
                {axis: round(gain * swing + rng.gauss(9.81 if axis == "z" else 0.0, 0.08), 3) for axis, gain in gains.items()}
            )
    value = 21.5
    while True:
        value += 0.02 * (21.5 - value) + rng.gauss(0.0, 0.05)
        yield Reading({"value": round(value, 2)})


async def simulate(
    client: DeviceClient,
    device: str,
    channel: str,
    readings: Iterable[Reading],
    clock: Clock,
    *,
    rate: float,
    seconds: float,
    lasts: float = 0.0,
) -> Simulated:
    """Publish each reading when it is due, until they end, `seconds` are over, or it is cancelled.

    An object goes as JSON with the time in `ts`: now, or, of a recording that `lasts` so many seconds at this rate, so long before
    its end as it was when it was recorded; never in the future. Bytes go as they are.

    What is under way then has ten seconds to be acknowledged; what the node refuses is counted as failed.
    """
    found, began = Simulated(device), clock.monotonic()
    ends = clock.now() / SECOND + lasts
    pending: set[asyncio.Task[None]] = set()

    async def publish(payload: str | bytes) -> None:
        try:
            await client.publish(channel, payload)
        except UnavailableError:
            return  # the client was closed
        except SkerryError:
            found.failed += 1
        else:
            found.acknowledged += 1

    try:
        for reading in readings:
            due = began + found.sent / rate
            if due - began >= seconds:
                break
            await asyncio.sleep(max(0.0, due - clock.monotonic()))
            while len(pending) >= MOST_WAITING:
                await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            task = asyncio.create_task(publish(_message(reading, clock.now() / SECOND, ends)))
            pending.add(task)
            task.add_done_callback(pending.discard)
            found.sent += 1
    except asyncio.CancelledError:
        pass  # Ctrl-C ends it, and is answered with the counts
    if pending:
        await asyncio.wait(pending, timeout=LAST_S)
    await cancel_and_wait(*pending)
    found.seconds, found.reconnects = round(clock.monotonic() - began, 3), client.reconnects
    return found


def _message(reading: Reading, now: float, ends: float) -> str | bytes:
    if isinstance(reading.payload, bytes):
        return reading.payload
    return json.dumps({**reading.payload, TIME: now if reading.before is None else min(now, round(ends - reading.before, 6))})
