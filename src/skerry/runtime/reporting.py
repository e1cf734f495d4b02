"""One child while there is work for it: started, listened to, ended when it hangs or grows, and started again with back-off."""

import asyncio
import contextlib
import sys
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from skerry.core.clock import Clock
from skerry.core.ports import Log
from skerry.core.service import cancel_and_wait
from skerry.runtime.children import Child, ChildSpec, Exit
from skerry.runtime.confinement import Confinement, Confines
from skerry.runtime.lives import Lives

LAST_WORDS_S = 1.0
A = TypeVar("A", bound=msgspec.Struct)
R = TypeVar("R", bound=msgspec.Struct)


class Role(msgspec.Struct, frozen=True):
    """What kind of child: `python -m <module>`, its name in records and messages, and its bounds.

    Attributes:
        memory: bytes; one that takes more is ended. nice: see nice(2).
    """

    name: str
    module: str
    memory: int
    nice: int


class ReportingChild(Generic[A, R]):
    """A child that reads its assignment (JSON) from stdin and says how it stands (JSON) on stdout; a service.

    Without an assignment there is no child. A subclass says what the child is told besides (`greeting`), looks at each report
    (`heard`), and how long one may say nothing (`stall_s`).

    Attributes:
        report: the last one of the child that runs, or None. reported: set with each, and when the child has ended.
    """

    stall_s = 30.0

    def __init__(
        self, role: Role, kind: type[R], run_dir: Path, clock: Clock, log: Log, confinement: Confinement | None = None
    ) -> None:
        self.ready = asyncio.Event()
        self.report: R | None = None
        self.reported = asyncio.Event()
        self.restarts = Lives(clock)
        self.last_words = ""
        self.assignment: A | None = None
        self.child: Child | None = None
        self._role = role
        self._run_dir = run_dir
        self._log = log
        self._decode = msgspec.json.Decoder(kind).decode
        self._confinement = confinement or Confinement()
        self._changed = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """Of the child, None when none runs."""
        return self.child.pid if self.child is not None and self.child.running else None

    def assign(self, assignment: A | None) -> None:
        """What to do from now on; None: nothing. A child that does something else ends and another starts."""
        if assignment != self.assignment:
            self.assignment = assignment
            self.report = None
            self._changed.set()

    async def tell(self, line: msgspec.Struct) -> None:
        """Say something to the child, if one runs."""
        if self.child is not None and self.child.running:
            await self.child.write_line(msgspec.json.encode(line))

    def greeting(self) -> list[msgspec.Struct]:
        """What each new child is told behind its assignment."""
        return []

    def heard(self, report: R) -> None:
        """A report has come."""

    async def run(self) -> None:
        """Keep a child running while there is an assignment, with back-off, until cancelled."""
        while True:
            self._changed.clear()
            if self.assignment is None:
                await self._changed.wait()
                continue
            self.restarts.begin()
            ended: Exit | None = None
            try:
                ended = await self._live(self.assignment)
            except OSError as error:
                self.last_words = f"it could not be started: {error}"
            if self._changed.is_set():
                continue
            delay = self.restarts.end(ended, own_fault=ended is None or not ended.from_outside)
            self._log.error(f"the {self._role.name} ended: {self.last_words}; it is started again in {delay:.1f} s")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._changed.wait()

    async def _live(self, assignment: A) -> Exit:
        """One life of the child; how it ended."""
        role = self._role
        join = self._confinement.group(role.name, Confines(role.memory))
        argv = [sys.executable, "-m", role.module]
        child = self.child = Child(ChildSpec(role.name, argv, self._run_dir, pipes=True, join=join, nice=role.nice))
        tasks: list[asyncio.Task[object]] = []
        try:
            await child.start()
            for line in (assignment, *self.greeting()):
                await child.write_line(msgspec.json.encode(line))
            watches = (self._listen(child), child.outgrown(lambda: role.memory), self._changed.wait())
            tasks = [asyncio.create_task(watch) for watch in watches]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            grown = tasks[1].result() if tasks[1].done() else ""
            hung = "it said nothing" if tasks[0].done() and tasks[0].result() else ""
            if grown or hung:
                await child.kill()
            elif not self._changed.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LAST_WORDS_S):
                        await child.wait()
            ended = await child.stop()
            self.last_words = str(grown or hung or ended.sentence)
            return ended
        finally:
            self.ready.clear()
            self.report = None
            self.reported.set()
            await cancel_and_wait(*tasks)
            if child.running:
                await child.stop()

    async def _listen(self, child: Child) -> bool:
        """Read the reports until they end; True when none came for too long."""
        while True:
            try:
                async with asyncio.timeout(self.stall_s):
                    line = await child.read_line()
            except TimeoutError:
                return True
            if not line:
                return False
            self.report = report = self._decode(line)
            self.heard(report)
            self.ready.set()
            self.reported.set()
