"""Traces that were asked of the workers: the first that has followed a message answers."""

import asyncio
import itertools
from collections.abc import Sequence
from typing import Protocol

from skerry.core.errors import OverloadedError
from skerry.pipeline import Sample
from skerry.worker.protocol import Command, SampleReport

MOST = 16
GRACE_S = 5.0


class Traces:
    """What one worker was asked for, until it has answered."""

    def __init__(self) -> None:
        self.asked: dict[int, asyncio.Future[Sample | None]] = {}

    def take(self, reports: Sequence[SampleReport]) -> None:
        """Take what the worker has answered."""
        for report in reports:
            future = self.asked.get(report.number)
            if future is not None and not future.done():
                future.set_result(report.sample)


class Traced(Protocol):
    """A worker, as who asks it needs it."""

    traces: Traces

    async def send(self, command: Command) -> None: ...


_numbers = itertools.count(1)


async def ask_for_trace(workers: Sequence[Traced], pipeline: str, device: str, seconds: float) -> Sample | None:
    """The next message of a pipeline (and a device), followed by whichever worker has it; None where none came in time.

    Raises `OverloadedError` over 16 at one time."""
    if any(len(each.traces.asked) >= MOST for each in workers):
        raise OverloadedError(f"{MOST} traces are under way", mend="try again in a moment")
    number = next(_numbers)
    command = Command("trace", pipeline, device=device, number=number, after=seconds)
    waiting: set[asyncio.Future[Sample | None]] = set()
    for each in workers:
        each.traces.asked[number] = asyncio.get_running_loop().create_future()
        waiting.add(each.traces.asked[number])
    try:
        await asyncio.gather(*[each.send(command) for each in workers])
        async with asyncio.timeout(seconds + GRACE_S):
            while waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                found = next((sample for sample in (each.result() for each in done) if sample is not None), None)
                if found is not None:
                    return found
    except TimeoutError:
        pass
    finally:
        for each in workers:
            del each.traces.asked[number]
            await each.send(Command("trace", pipeline, number=number))
    return None
