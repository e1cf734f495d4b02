"""Events as server-sent events: ids to resume from, heartbeats, a bounded number of readers."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from typing import Any

import msgspec

from skerry.core.errors import OverloadedError, SkerryError
from skerry.http import comment, message, problem_of

HEARTBEAT_S = 15.0
MOST_READERS = 64
_RETRY = b"retry: 2000\n\n"


class EventStreams:
    """Turns a node's events into chunks, for at most `most` readers at a time."""

    def __init__(self, heartbeat: float = HEARTBEAT_S, most: int = MOST_READERS) -> None:
        self._heartbeat = heartbeat
        self._most = most
        self.readers = 0

    def admit(self) -> None:
        """Raise `OverloadedError` when no further reader fits."""
        if self.readers >= self._most:
            raise OverloadedError(f"{self.readers} event streams are open already", mend="close one, or try again later")

    async def chunks(self, events: AsyncIterator[tuple[int, dict[str, Any]]]) -> AsyncGenerator[bytes, None]:
        """A chunk an event, and a comment after so many seconds without one; an error ends the stream as an event `error`."""
        self.readers += 1
        following: asyncio.Future[tuple[int, dict[str, Any]]] | None = None
        try:
            yield _RETRY
            while True:
                following = following or asyncio.ensure_future(anext(events))
                done, _ = await asyncio.wait((following,), timeout=self._heartbeat)
                if not done:
                    yield comment("alive")
                    continue
                sequence, event = following.result()
                following = None
                yield message(msgspec.json.encode(event), event="event", id=str(sequence))
        except StopAsyncIteration:
            return
        except SkerryError as error:
            yield message(problem_of(error).body, event="error")
        finally:
            self.readers -= 1
            if following is not None and not following.done():
                following.cancel()
                await asyncio.wait((following,))
            close = getattr(events, "aclose", None)
            if close is not None:
                with suppress(SkerryError):
                    await close()
