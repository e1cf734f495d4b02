"""What a read of the log becomes: every pipeline that runs is fed, and no longer once it has taken more memory than it may."""

import os
import sys
import traceback
from collections.abc import Callable

from skerry.broker import Frame, Position, position
from skerry.worker.growth import Growth
from skerry.worker.slot import Slot
from skerry.worker.units import Units

EXIT_BROKEN = 70


class Feeding:
    """Feeds the slots of one reader.

    Args:
        now: the monotonic time.
        careful_until: sequence of the log up to which messages are fed one by one, since one of them has ended a worker.
        may: answers for a monotonic time whether anything may be taken in, and sees to it that no more comes where not.
        too_large: called with each slot that was stopped for its memory.

    Attributes:
        fed: the slots that the reader that runs now is for.
    """

    def __init__(
        self,
        slots: Units,
        growth: Growth,
        careful_until: int,
        now: Callable[[], float],
        may: Callable[[float], bool],
        too_large: Callable[[Slot], None],
    ) -> None:
        self.fed: list[Slot] = []
        self.careful_until = careful_until
        self._slots, self._growth, self._now, self._may, self._too_large = slots, growth, now, may, too_large

    def on_batch(self, frames: list[Frame], first: Position, last: Position) -> None:
        """Take in the frames of one read."""
        try:
            self._take(frames, first, last)
        except BaseException:  # noqa: BLE001 - see below
            # no state is left that could be trusted, and a callback has no caller to tell: the agent starts a new worker
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(EXIT_BROKEN)

    def _take(self, frames: list[Frame], first: Position, last: Position) -> None:
        if first.stream <= self.careful_until:
            for frame in frames:
                where = position(frame[1])
                self._feed([frame], where, where)
        else:
            self._feed(frames, first, last)

    def _feed(self, frames: list[Frame], first: Position, last: Position) -> None:
        mono = self._now()
        if not self._may(mono):
            return
        careful = first.stream <= self.careful_until
        self._growth.look()  # the timers may be far: a read of many messages is fed in one go
        mark = self._growth.mark()
        for slot in self.fed:
            if slot.runner is not None:
                slot.runner.batch = 1 if careful else slot.batch
                (slot.runner.feed if slot.sampler is None else slot.follow)(frames, first, last, mono)
                slot.release()
                mark = self._measure(slot, mark)

    def advance(self, slot: Slot) -> bool:
        """Close what silent devices left open; True when a checkpoint is needed before anything may be published."""
        mark = self._growth.mark()
        urgent = slot.advance()
        self._measure(slot, mark)
        return urgent

    def leave_out(self, slot: Slot) -> None:
        """Feed this one no more."""
        self.fed = [each for each in self.fed if each is not slot]

    def _measure(self, slot: Slot, mark: int) -> int:
        """Put down what memory a feed took, and feed a pipeline no longer that has taken too much; the mark for the next feed."""
        name = slot.spec.name
        if not mark:
            return 0
        mark = self._growth.note(name, mark)
        if self._growth.over(name) and not slot.over:
            for each in self._slots.of(name):
                each.stop(self._growth.of(name), self._growth.allowed(name))
                self._too_large(each)
        return mark
