"""The child's side of a `ReportingChild`: its lines from stdin, its reports on stdout, and its end."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import msgspec

from skerry.core.service import beat
from skerry.runtime.loop import settle

REPORT_S = 0.5
MOST_LINE = 16 * 1024 * 1024


async def lines_of_agent(limit: int = MOST_LINE) -> asyncio.StreamReader:
    """Stdin line by line; it ends with the agent, and at SIGTERM. Ctrl-C is the agent's to hear."""
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader(limit=limit)
    loop.add_signal_handler(signal.SIGTERM, lines.feed_eof)
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    return lines


def tell_agent(report: Any) -> None:
    """One line of JSON on stdout."""
    os.write(1, msgspec.json.encode(report) + b"\n")


async def keep_saying(report: Callable[[], Any], has_begun: Callable[[], bool] = lambda: True) -> None:
    """A report each half second; once it has begun, what start-up left behind is put away."""
    settled = False
    while True:
        tell_agent(report())
        if not settled and has_begun():
            settle()
            settled = True
        await beat(REPORT_S)
