"""A message that somebody wants followed, in the worker: waits for the next one, and for what comes of it."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from skerry.broker import Frame, Position, position
from skerry.core.clock import Clock
from skerry.pipeline import Probe, Runner, Sample, feed_followed, key_of_frame
from skerry.worker.outbox import Outbox
from skerry.worker.protocol import Command, SampleReport


class Following(Protocol):
    """A slot, as who follows a message needs it."""

    runner: Runner | None
    sampler: "Sampler | None"


class Samples:
    """The messages that are followed in this worker, and those that were, until they are reported."""

    def __init__(self) -> None:
        self._done: list[SampleReport] = []

    def done(self) -> list[SampleReport]:
        """Those that are through since this was asked last."""
        found, self._done = self._done, []
        return found

    async def follow(self, slots: Sequence[Following], command: Command, clock: Clock) -> None:
        """Follow the next message in any of the slots; who asked before gets what there is. `after` 0: nobody asks any more."""
        sampler = Sampler(command.device, clock) if command.after else None
        for slot in slots:
            slot.sampler = sampler
        if sampler is None:
            return
        try:
            found = await sampler.wait(command.after)
            self._done.append(SampleReport(command.number, found))
        finally:
            for slot in slots:
                if slot.sampler is sampler:
                    slot.sampler = None
                    if slot.runner is not None:
                        slot.runner.probe = None


class Sampler:
    """Set as the `sampler` of slots, it is given what is read instead of the runner, until the sample is done.

    Args:
        device: of which key the message is to be; empty: any.
    """

    def __init__(self, device: str, clock: Clock) -> None:
        self._device = device
        self._clock = clock
        self._probe: Probe | None = None
        self._done = asyncio.Event()

    async def wait(self, seconds: float) -> Sample | None:
        """The sample when it is done, or as far as it has come after so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._done.wait()
        except TimeoutError:
            if self._probe is not None and not self._probe.sample.outcome:
                self._probe.sample.outcome = "its window has not closed yet"
        return self._probe.sample if self._probe is not None else None

    def feed(self, runner: Runner, frames: list[Frame], first: Position, last: Position, mono: float) -> None:
        """Feed all, the first message that fits alone."""
        found = None
        if self._probe is None:
            keys = ((at, key_of_frame(runner, frame)) for at, frame in enumerate(frames))
            found = next(((at, key) for at, key in keys if key is not None and self._device in ("", key)), None)
        if found is None:
            runner.feed(frames, first, last, mono)
            return
        (at, key), passed = found, self._clock.monotonic() - mono
        read = self._clock.now() - round(passed * 1e6)
        if at:
            runner.feed(frames[:at], first, position(frames[at - 1][1]), mono)
        self._probe = feed_followed(runner, frames[at], key, mono, read, self._clock)
        if at + 1 < len(frames):
            runner.feed(frames[at + 1 :], position(frames[at + 1][1]), last, mono)

    def look(self, runner: Runner, outbox: Outbox) -> None:
        """See how far it is, before what the runner put out is published."""
        probe = runner.probe
        if probe is None or probe is not self._probe or not probe.sample.outcome:
            return
        sample, runner.probe = probe.sample, None
        if not sample.event:
            self._done.set()
            return

        def stored(sequence: int) -> None:
            sample.stored, sample.sequence_event = self._clock.now(), sequence
            self._done.set()

        outbox.watch(sample.event, stored)
