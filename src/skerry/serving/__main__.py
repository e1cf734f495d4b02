"""`python -m skerry.serving`: reads which models there are from stdin, answers on a Unix socket, ends when stdin does."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Coroutine
from typing import Any

import msgspec

from skerry.core import log
from skerry.runtime import lines_of_agent, run_loop, settle, tell_agent
from skerry.serving.frames import Ask, Frames, Given
from skerry.serving.handlers import Handlers
from skerry.serving.models import LoadedModels

MOST_LINE = 16 * 1024 * 1024


class Server:
    """Answers the frames of every connection: what came together and goes to one model in one task, the rest each in its own."""

    def __init__(self, handlers: Handlers) -> None:
        self._handlers = handlers
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()

    def connect(self) -> Frames[Ask]:
        """The protocol of one connection."""
        return Frames(Ask, self._take)

    def _take(self, asks: list[Ask], connection: Frames[Ask]) -> None:
        groups, others = self._handlers.sort(asks)
        for group in groups:
            self._start(self._handlers.answer_group(group, connection.send))
        for ask in others:
            self._start(self._answer(ask, connection))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, ask: Ask, connection: Frames[Ask]) -> None:
        connection.send(await self._handlers.answer(ask))


async def main() -> int:
    """Serve until stdin ends, or SIGTERM; the exit code."""
    lines = await lines_of_agent(MOST_LINE)
    given = msgspec.json.decode(await lines.readline(), type=Given)
    models = LoadedModels(tell_agent)
    server = Server(Handlers(models))
    with contextlib.suppress(FileNotFoundError):
        os.unlink(given.socket)  # noqa: PTH108 - nothing else runs yet
    os.umask(0o177)  # nobody else may connect
    listener = await asyncio.get_running_loop().create_unix_server(server.connect, given.socket)
    os.umask(0o077)
    await models.give(given)
    settle()
    os.write(1, b"ready\n")
    try:
        while line := await lines.readline():
            await models.give(msgspec.json.decode(line, type=Given))
            os.write(1, b"given\n")
    finally:
        listener.close()
        await models.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(given.socket)  # noqa: PTH108 - nothing else runs any more
    return 0


if __name__ == "__main__":
    log.configure(os.environ.get("SKERRY_LOG", "info"))
    sys.exit(run_loop(main()))
