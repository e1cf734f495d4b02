"""`python -m skerry.worker`: reads its assignment from stdin, reports on stdout, ends when stdin does."""

import asyncio
import os
import signal
import sys
from typing import BinaryIO

import msgspec

from skerry.core import log
from skerry.core.clock import SystemClock
from skerry.core.errors import SkerryError
from skerry.core.service import beat, cancel_and_wait
from skerry.runtime import run_loop, settle
from skerry.worker.engine import Engine
from skerry.worker.protocol import Assignment, Command, Report

REPORT_S = 0.5
CHANGES = ("models", "standings", "units", "trace")
_log = log.get("worker")


def _take_stdout() -> BinaryIO:
    """Keep stdout for reports and send what anybody prints to stderr."""
    mine = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return mine


async def _lines() -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=64 * 1024 * 1024)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


def _say(out: BinaryIO, report: Report) -> None:
    out.write(msgspec.json.encode(report) + b"\n")


async def _report(engine: Engine, out: BinaryIO) -> None:
    settled = False
    while True:
        _say(out, engine.report())
        if engine.ready and not settled:
            settle()
            settled = True
        await beat(REPORT_S)


async def _obey(engine: Engine, lines: asyncio.StreamReader, out: BinaryIO) -> None:
    changes: set[asyncio.Task[None]] = set()
    try:
        while line := await lines.readline():
            command = msgspec.json.decode(line, type=Command)
            if command.do == "drain":
                break
            if command.do in CHANGES:  # in a task: it takes its time, and a drain must not wait for it
                change = asyncio.create_task(_change(engine, command, out))
                changes.add(change)
                change.add_done_callback(changes.discard)
            elif command.do == "lease":
                engine.extend(command.lease)
            elif command.do == "retry":
                engine.retry(command.pipeline, command.after)
            else:
                engine.pause(command.pipeline, command.do == "pause")
    finally:
        await cancel_and_wait(*changes)
    await engine.drain()


async def _change(engine: Engine, command: Command, out: BinaryIO) -> None:
    try:
        if command.do == "trace":
            await engine.trace(command)
        elif command.do == "models":
            await engine.change_models(command)
        elif command.do == "units":
            await engine.change_units(command.units, command.turn)
        else:
            await engine.change_standings(command.standings)
    except SkerryError as error:
        _log.error(f"the {command.do} were not changed: {error}")
    _say(out, engine.report())  # at once: who made the change waits for it to be seen


async def main(out: BinaryIO) -> int:
    """Run one assignment; the exit code: 0 drained, 1 failed, 4 fenced."""
    lines = await _lines()
    assignment = msgspec.json.decode(await lines.readline(), type=Assignment)
    try:
        engine = Engine(assignment, SystemClock())
    except SkerryError as error:
        _say(out, Report(ready=False, failed=str(error)))
        return 1
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, lambda: None)
    reporting = asyncio.create_task(_report(engine, out))
    obeying = asyncio.create_task(_obey(engine, lines, out))
    running = asyncio.create_task(engine.run())
    try:
        await asyncio.wait([running, obeying, reporting], return_when=asyncio.FIRST_COMPLETED)
        if obeying.done() and not obeying.cancelled() and obeying.exception() is None:
            await running
        for task in (reporting, running):
            if task.done():
                task.result()
        _say(out, engine.report())
    except SkerryError as error:
        _log.error(f"the worker stops: {error}")
        _say(out, Report(ready=False, failed=str(error)))
        return 1
    finally:
        await cancel_and_wait(reporting, obeying, running)
    return 0


if __name__ == "__main__":
    log.configure(os.environ.get("SKERRY_LOG", "info"))
    sys.exit(run_loop(main(_take_stdout())))
