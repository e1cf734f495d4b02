"""The agent's side of the historian: one child while there is something to keep, its reports, and questions passed on to it."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec

from skerry.core import log
from skerry.core.clock import Clock
from skerry.core.errors import OverloadedError, UnavailableError
from skerry.historian.protocol import Answer, Assignment, Order, Place, Question, Report, ask
from skerry.runtime import Confinement, ReportingChild, Role

MOST_QUESTIONS = 32
ORDER_S = 120.0
ROLE = Role("historian", "skerry.historian", 768 * 1024 * 1024, nice=6)


class Historian(ReportingChild[Assignment, Report]):
    """The historian as the agent sees it."""

    def __init__(self, run_dir: Path, clock: Clock, confinement: Confinement | None = None) -> None:
        super().__init__(ROLE, Report, run_dir, clock, log.get("history"), confinement)
        self._place: Place | None = None
        self._questions = 0
        self._orders = 0
        self._ordering = asyncio.Lock()

    def greeting(self) -> list[msgspec.Struct]:
        """Where the log is."""
        return [self._place] if self._place is not None else []

    async def place(self, place: Place) -> None:
        """Where the log is."""
        self._place = place
        await self.tell(place)

    def durable(self) -> int | None:
        """How far the log is in the history, on the disk; None while it is not known."""
        return self.report.cursor if self.report is not None else None

    async def order(self, *, give_up: int = 0, levels: Sequence[str] = (), copy: str = "") -> int:
        """Have something done; the bytes that went by it. Raises `UnavailableError`: it was not done, or within two minutes."""
        try:
            async with asyncio.timeout(ORDER_S), self._ordering:
                child = self.child
                if child is None or not child.running:
                    raise UnavailableError("the historian does not run")
                self._orders += 1
                order = Order(self._orders, give_up, list(levels), copy)
                await child.write_line(msgspec.json.encode(order))
                while self.report is None or self.report.done < order.number:
                    self.reported.clear()
                    await self.reported.wait()
                    if self.child is not child or not child.running:
                        raise UnavailableError("the historian ended before it had done it")
                report = self.report
        except TimeoutError as error:
            raise UnavailableError(f"the historian did not do it within {ORDER_S:g} s") from error
        if report.failed:
            raise UnavailableError(f"the history: {report.failed}")
        return report.freed

    async def ask(self, question: Question) -> Answer:
        """The answer to a question. Raises `RejectedError`, `UnavailableError`, `OverloadedError`."""
        if self.assignment is None:
            raise UnavailableError(
                "this node keeps no history", mend='add "history" to a pipeline\'s sinks, or topics to [history]'
            )
        if self._questions >= MOST_QUESTIONS:
            raise OverloadedError("too many questions to the history are under way", mend="try again in a moment")
        if not self.ready.is_set():
            raise UnavailableError("the history is not open yet", mend="try again in a moment")
        self._questions += 1
        try:
            return await ask(Path(self.assignment.socket), question)
        finally:
            self._questions -= 1
