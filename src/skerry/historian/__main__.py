"""`python -m skerry.historian`: reads its assignment from stdin, reports on stdout, ends when stdin does."""

import asyncio
import os
import sys
from pathlib import Path

import msgspec

from skerry.core import log
from skerry.core.clock import SystemClock
from skerry.core.errors import SkerryError
from skerry.core.service import until_one_ends
from skerry.historian.answers import Answers
from skerry.historian.protocol import Assignment, Order, Place
from skerry.historian.recorder import Recorder
from skerry.runtime import keep_saying, lines_of_agent, run_loop

_log = log.get("history")


async def _told(recorder: Recorder, lines: asyncio.StreamReader) -> None:
    while line := await lines.readline():
        told = msgspec.json.decode(line, type=Place | Order)
        if isinstance(told, Place):
            recorder.place(told)
        else:
            recorder.order(told)


async def main() -> int:
    """Record until stdin ends, or SIGTERM; the exit code."""
    lines = await lines_of_agent()
    line = await lines.readline()
    if not line:
        return 0
    given = msgspec.json.decode(line, type=Assignment)
    try:
        recorder = Recorder(given, SystemClock())
    except SkerryError as error:
        _log.error(f"the history cannot be opened: {error}")
        return 1
    answers = Answers(recorder.archive)
    await answers.listen(Path(given.socket))
    failure = ""
    try:
        await until_one_ends(
            recorder.run(), keep_saying(recorder.report, lambda: recorder.report().caught_up), _told(recorder, lines)
        )
    except SkerryError as error:
        failure = str(error)
    finally:
        await answers.close()
        await recorder.close()
    if failure:
        _log.error(failure)  # its last words
    return 1 if failure else 0


if __name__ == "__main__":
    log.configure(os.environ.get("SKERRY_LOG", "info"))
    sys.exit(run_loop(main()))
