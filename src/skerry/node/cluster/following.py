"""What is written into a bucket at another node: read on, so that what this node remembers of it is not old."""

from collections.abc import Awaitable, Callable

from skerry.broker import Bucket, WireClient


class Follower:
    """Reads on in a bucket: each key that was written since the last look is handed on, with its value; None: it was deleted.

    The first look only finds the end: what was written before is known to who starts now.
    """

    def __init__(self, bucket: str, take: Callable[[str, bytes | None], Awaitable[None]]) -> None:
        self._bucket = bucket
        self._take = take
        self._read_to: int | None = None

    async def look(self, client: WireClient) -> None:
        """Raises `UnavailableError`, `RejectedError`; then it goes on where it was."""
        bucket = Bucket(client, self._bucket)
        if self._read_to is None:
            self._read_to = await bucket.end()
        while True:
            changes, through = await bucket.changes(self._read_to)
            for key, value in changes:
                await self._take(key, value)
            self._read_to = through
            if not changes:
                return
