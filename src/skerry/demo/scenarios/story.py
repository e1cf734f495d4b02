"""What a scenario tells line by line, the figures beside it, and whether the promise was kept."""

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from skerry.core.clock import Clock, SystemClock
from skerry.core.errors import SkerryError

LONGEST_S = 60.0
POLL_S = 0.1


class Told(msgspec.Struct, frozen=True):
    """One line: `kind` is `do` (something was done), `see` (how it is) or `kept`, `broken` (a check)."""

    seconds: float
    kind: str
    text: str


class Outcome(msgspec.Struct, frozen=True):
    """How a scenario went. `kept` is whether every check held; `broken` are those that did not."""

    scenario: str
    promise: str
    kept: bool
    seconds: float
    figures: dict[str, Any]
    broken: list[str]
    told: list[Told]


class Story:
    """Takes down what happens; `say` hears each line as it comes.

    Attributes:
        folder: for the files of the nodes; it goes with the scenario.
        figures: of the outcome.
    """

    def __init__(self, folder: Path, say: Callable[[Told], None], clock: Clock) -> None:
        self.folder = folder
        self.figures: dict[str, Any] = {}
        self.told: list[Told] = []
        self.clock = clock
        self._say = say
        self._began = clock.monotonic()

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return self.clock.monotonic() - self._began

    @property
    def broken(self) -> list[str]:
        return [each.text for each in self.told if each.kind == "broken"]

    def do(self, text: str) -> None:
        """Something that is done now."""
        self._tell("do", text)

    def see(self, text: str) -> None:
        """How it is."""
        self._tell("see", text)

    def check(self, held: bool, text: str) -> None:
        """A part of the promise, with its figures, and whether it held."""
        self._tell("kept" if held else "broken", text)

    def _tell(self, kind: str, text: str) -> None:
        line = Told(round(self.seconds, 3), kind, text)
        self.told.append(line)
        self._say(line)

    async def until(self, holds: Callable[[], Awaitable[bool]], what: str, longest: float = LONGEST_S) -> float:
        """Wait until something is so; the seconds that it took. What has not come by then is a broken promise."""
        began = self.seconds
        if not await self.settle(holds, longest):
            self.check(False, f"not within {longest:g} s: {what}")
            raise GaveUp
        return self.seconds - began

    async def settle(self, holds: Callable[[], Awaitable[bool]], longest: float = LONGEST_S) -> bool:
        """Wait until something is so, before it is checked in figures; whether it has come to be."""
        end = self.seconds + longest
        while self.seconds < end:
            with contextlib.suppress(SkerryError):  # nobody answers while it is down
                if await holds():
                    return True
            await asyncio.sleep(POLL_S)
        return False

    async def watch(self, seconds: float, look: Callable[[], Awaitable[str]], every: float = 1.0) -> None:
        """For so long tell once a second how it is."""
        end = self.seconds + seconds
        while self.seconds < end:
            await asyncio.sleep(max(0.0, min(every, end - self.seconds)))
            try:
                self.see(await look())
            except SkerryError as error:
                self.see(f"no answer: {error.message}")


class GaveUp(Exception):
    """What was waited for did not come; the story has it."""


class Scenario(NamedTuple):
    """The promise, and the coroutine that shows whether it is kept."""

    promise: str
    run: Callable[[Story], Awaitable[None]]


async def play(name: str, scenario: Scenario, say: Callable[[Told], None], clock: Clock | None = None) -> Outcome:
    """Run a scenario to its end. All that it started is gone then, whatever happened."""
    folder = Path(tempfile.mkdtemp(prefix="skerry-demo-"))
    story = Story(folder, say, clock or SystemClock())
    try:
        await scenario.run(story)
    except GaveUp:
        pass
    except SkerryError as error:
        story.check(False, f"it could not be shown: {error}")
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, True)
    broken = story.broken
    return Outcome(name, scenario.promise, not broken, round(story.seconds, 2), story.figures, broken, story.told)
