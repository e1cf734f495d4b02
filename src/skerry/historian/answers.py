"""Answers questions about the history over a Unix socket, a bounded number at a time, in threads."""

import asyncio
import contextlib
import os
from pathlib import Path

from skerry.core import log
from skerry.core.errors import RejectedError, SkerryError
from skerry.historian.protocol import MOST_POINTS, Answer, Question, frame, read_frame, told
from skerry.store import Archive

AT_ONCE = 2
MOST_CONNECTIONS = 64
_QUESTION_S = 10.0
_log = log.get("history")


class Answers:
    """A server on a socket; `close` ends it."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._open = 0
        self._server: asyncio.Server | None = None

    async def listen(self, socket: Path) -> None:
        """Answer from now on; nobody else of this computer may connect."""
        socket.unlink(missing_ok=True)  # noqa: ASYNC240 - nothing else runs yet
        before = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._serve, str(socket))
        finally:
            os.umask(before)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open > MOST_CONNECTIONS:
                raise RejectedError("too many questions are under way", mend="try again in a moment")
            async with asyncio.timeout(_QUESTION_S):
                question = await read_frame(reader, Question)
            async with self._turns:
                answer = await asyncio.to_thread(answered, self._archive, question)
        except SkerryError as error:
            answer = told(error)
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            answer = None
        finally:
            self._open -= 1
        with contextlib.suppress(OSError):
            if answer is not None:
                writer.write(frame(answer))
                await writer.drain()
            writer.close()


def answered(archive: Archive, question: Question) -> Answer:
    """The answer to a question. Raises `RejectedError`, `CorruptError`."""
    if not question.name:
        names = [name for name in archive.series(question.prefix) if name > question.after]
        return Answer(names=names[: question.limit])
    limit = min(max(question.limit, 1), MOST_POINTS)
    every = question.every or None
    times, values, following = archive.page(question.name, question.start, question.end, every, question.aggregate, limit)
    known = bool(len(times)) or question.name in archive.series(question.name)
    return Answer(times=times.tobytes(), values=values.tobytes(), following=following, known=known)
