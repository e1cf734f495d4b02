"""`python -m skerry.connector`: reads its assignment and where the log is from stdin, reports on stdout, ends when stdin does."""

import asyncio
import os
import sys

import msgspec

from skerry.connector.engine import Engine
from skerry.connector.protocol import Assignment, Broker
from skerry.core import log
from skerry.core.clock import SystemClock
from skerry.core.service import until_one_ends
from skerry.runtime import keep_saying, lines_of_agent, run_loop


async def _places(engine: Engine, lines: asyncio.StreamReader) -> None:
    while line := await lines.readline():
        engine.place(msgspec.json.decode(line, type=Broker))


async def main() -> int:
    """Bring in and out until stdin ends, or SIGTERM; the exit code."""
    lines = await lines_of_agent()
    line = await lines.readline()
    if not line:
        return 0
    engine = Engine(msgspec.json.decode(line, type=Assignment), SystemClock())
    await until_one_ends(engine.run(), keep_saying(engine.report), _places(engine, lines))
    return 0


if __name__ == "__main__":
    log.configure(os.environ.get("SKERRY_LOG", "info"))
    sys.exit(run_loop(main()))
