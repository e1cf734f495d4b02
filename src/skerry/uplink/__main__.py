"""`python -m skerry.uplink`: reads its assignment and orders from stdin, reports on stdout, ends when stdin does."""

import asyncio
import os
import sys

import msgspec

from skerry.core import log
from skerry.core.clock import SystemClock
from skerry.core.errors import SkerryError
from skerry.core.service import until_one_ends
from skerry.runtime import keep_saying, lines_of_agent, run_loop
from skerry.uplink.engine import Engine
from skerry.uplink.protocol import Assignment, Order

_log = log.get("uplink")


async def _orders(engine: Engine, lines: asyncio.StreamReader) -> None:
    while line := await lines.readline():
        engine.order(msgspec.json.decode(line, type=Order))


async def main() -> int:
    """Gather and send until stdin ends, or SIGTERM; the exit code."""
    lines = await lines_of_agent()
    line = await lines.readline()
    if not line:
        return 0
    try:
        engine = Engine(msgspec.json.decode(line, type=Assignment), SystemClock())
    except SkerryError as error:
        _log.error(f"the uplink cannot begin: {error}")
        return 1
    await until_one_ends(engine.run(), keep_saying(engine.report, lambda: engine.report().caught_up), _orders(engine, lines))
    return 0


if __name__ == "__main__":
    log.configure(os.environ.get("SKERRY_LOG", "info"))
    sys.exit(run_loop(main()))
