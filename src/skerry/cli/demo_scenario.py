"""`skerry demo --scenario NAME`: one promise, shown line by line."""

import asyncio
import signal
from typing import TYPE_CHECKING

from skerry.cli.session import Paper, Session, clean
from skerry.core.errors import ConfigError, RejectedError, suggestion

if TYPE_CHECKING:
    from skerry.demo import Outcome, Told

_SIGNS = {"do": "->", "see": "  ", "kept": "ok", "broken": "NO"}


def scenario(here: Session, name: str) -> None:
    """Run one scenario and tell how it went. Raises `ConfigError` for an unknown one, `RejectedError` for a broken promise."""
    from skerry.core import log  # late: --help goes without
    from skerry.demo import SCENARIOS
    from skerry.runtime import run_loop

    if name not in SCENARIOS:
        raise ConfigError(
            f"there is no scenario {name!r}{suggestion(name, SCENARIOS)}", where="--scenario", allowed=", ".join(SCENARIOS)
        )
    log.configure("debug" if here.verbose else "error", None, quiet=not here.verbose)
    here.note(f"the promise: {SCENARIOS[name].promise}")
    outcome = run_loop(_played(here, name))
    if outcome is None:
        raise KeyboardInterrupt
    here.show(outcome, lambda paper: _draw(paper, outcome))
    if not outcome.kept:
        raise RejectedError(f"the promise was not kept: {'; '.join(outcome.broken)}", where=f"demo --scenario {name}")


async def _played(here: Session, name: str) -> "Outcome | None":
    """The outcome; None when it was ended by Ctrl-C or SIGTERM, and what it had started has been ended too."""
    from skerry.demo import SCENARIOS, play

    playing = asyncio.create_task(play(name, SCENARIOS[name], lambda line: _say(here, line)))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, playing.cancel)
    try:
        return await playing
    except asyncio.CancelledError:
        return None
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def _say(here: Session, line: "Told") -> None:
    """On stderr, since stdout is the outcome's."""
    here.note(f"{line.seconds:6.1f} s  {_SIGNS[line.kind]}  {clean(line.text)}")


def _draw(paper: Paper, outcome: "Outcome") -> None:
    held = sum(each.kind == "kept" for each in outcome.told)
    paper.line(f"{'kept' if outcome.kept else 'NOT kept'}: {outcome.promise}")
    paper.line(f"{held} of {held + len(outcome.broken)} checks held, in {outcome.seconds:.1f} s")
