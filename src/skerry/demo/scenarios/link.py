"""A link between two nodes of this machine that can be cut: a forwarder of TCP connections."""

import asyncio
import contextlib
from types import TracebackType
from typing import Self

from skerry.core.service import cancel_and_wait

PIECE = 65_536


class Link:
    """Forwards to an address. `carried`: bytes that have gone through, both ways."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._target = (host, int(port))
        self._up = True
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.carried = 0
        self.address = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()[:2]
        self.address = f"{host}:{port}"
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.close()
        self.cut()
        await cancel_and_wait(*self._tasks)

    def cut(self) -> None:
        """End what is connected, and whatever connects from now on."""
        self._up = False
        for writer in self._writers:
            writer.transport.abort()

    def mend(self) -> None:
        self._up = True

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if not self._up:
            writer.transport.abort()
            return
        with contextlib.suppress(OSError):
            onward, back = await asyncio.open_connection(*self._target)
            self._writers |= {writer, back}
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._carry(reader, back))
                    both.create_task(self._carry(onward, writer))
            finally:
                self._writers -= {writer, back}
                for each in (writer, back):
                    each.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(PIECE):
                self.carried += len(piece)
                writer.write(piece)
                await writer.drain()
            writer.write_eof()
