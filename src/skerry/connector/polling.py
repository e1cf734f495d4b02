"""Devices that are asked from time to time, each in a task and with a time-out of its own: a dead one holds up no other."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

import msgspec

from skerry.connector.contract import MOST_MESSAGES, Batch, Connector, Message
from skerry.core.clock import SystemClock
from skerry.core.errors import SkerryError, UnavailableError
from skerry.core.service import Backoff, cancel_and_wait

Value = bool | int | float | str
Ask = Callable[[], Awaitable[Mapping[str, Value]]]
LONGEST_PAUSE_S = 30.0


class Polled(msgspec.Struct, frozen=True):
    """One device: its topic, how it is asked (raises `SkerryError` or `OSError`; without values there is no message), and how it is
    let go of after a failure."""

    name: str
    topic: str
    ask: Ask
    let_go: Callable[[], None]


async def poll(connector: Connector, devices: Sequence[Polled], every_s: float, timeout_s: float) -> AsyncIterator[Batch]:
    """What the devices answer, one message an answer with its time `ts` in seconds; `trouble` names those that do not answer."""
    queue: asyncio.Queue[Message] = asyncio.Queue(MOST_MESSAGES)
    silent: dict[str, str] = {}
    tasks = [asyncio.create_task(_one(connector, each, every_s, timeout_s, queue, silent, len(devices))) for each in devices]
    try:
        while True:
            found = [await queue.get()]
            while not queue.empty():
                found.append(queue.get_nowait())
            yield Batch(found)
    finally:
        await cancel_and_wait(*tasks)
        for each in devices:
            each.let_go()


async def _one(
    connector: Connector, device: Polled, every_s: float, timeout_s: float, queue: "asyncio.Queue[Message]",
    silent: dict[str, str], count: int,
) -> None:  # fmt: skip
    clock, backoff = SystemClock(), Backoff(every_s, max(every_s, LONGEST_PAUSE_S))
    while True:
        began = clock.monotonic()
        try:
            async with asyncio.timeout(timeout_s):
                values = await device.ask()
        except Exception as error:  # noqa: BLE001 - a protocol's library may raise anything for what a device answers
            device.let_go()
            silent[device.name] = f"no answer within {timeout_s:g} s" if isinstance(error, TimeoutError) else str(error)
            connector.drop("no answer")
            connector.trouble = _sentence(silent, count)
            await asyncio.sleep(backoff.next())
            continue
        backoff.reset()
        if silent.pop(device.name, None) is not None:
            connector.trouble = _sentence(silent, count)
        if values:
            payload = msgspec.json.encode({"ts": clock.now() / 1e6, **values})
            await queue.put(Message(device.topic, payload))
        await asyncio.sleep(max(0.0, every_s - (clock.monotonic() - began)))


def _sentence(silent: Mapping[str, str], count: int) -> str:
    if not silent:
        return ""
    name, why = next(iter(silent.items()))
    return f"{len(silent)} of {count} devices do not answer: {name}: {why}"


async def look(devices: Sequence[Polled], timeout_s: float) -> str:
    """Ask each once; one sentence. Raises `UnavailableError` that names those that do not answer."""
    faults: list[str] = []

    async def one(device: Polled) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await device.ask()
        except TimeoutError:
            faults.append(f"{device.name}: no answer within {timeout_s:g} s")
        except (SkerryError, OSError) as error:
            faults.append(f"{device.name}: {error}")
        finally:
            device.let_go()

    await asyncio.gather(*(one(each) for each in devices))
    if faults:
        raise UnavailableError("; ".join(faults), mend="look at the devices and their addresses")
    return f"{len(devices)} device{'' if len(devices) == 1 else 's'} answered"
