"""A node that stands by keeps a copy of the founder's streams: one after the other, and says how far behind the last is."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from skerry.broker import LOG, SavedStream, WireClient, api, kv_put, read_page, save_streams, saved_streams, stream_state
from skerry.core.clock import Clock, to_rfc3339
from skerry.core.errors import CorruptError

RECORDS = "skerry_cluster"
AHEAD = 1 << 32
LEAST_S = 5.0
SHARE = 20.0
"""Seconds of rest for each second that a copy took: the founder is busy with it for a twentieth of its time at most."""


async def renew_records(client: WireClient) -> None:
    """Give the cluster's records, out of a copy, later revisions than the founder can have given: who knew those takes these for
    news. A crash in here loses records: then the copy is restored anew."""
    stream, prefix, after = f"KV_{RECORDS}", f"$KV.{RECORDS}.", 0
    found: dict[str, bytes] = {}
    while page := await read_page(client, stream, f"{prefix}>", after):
        after = page[-1].sequence
        found.update({each.subject.removeprefix(prefix): each.payload for each in page})
    await api(client, f"STREAM.PURGE.{stream}", {"seq": after + AHEAD})
    for key, value in found.items():
        await kv_put(client, RECORDS, key, value, None)


class StandbyCopy:
    """The copy in a folder. Between two copies lies what a promotion would lose: `behind` messages.

    The log is copied before the checkpoints, and those before the events, as the names of the streams are in this order: what a
    checkpoint counts as done is in the events, and what it still needs is in the log.
    """

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.behind: int | None = None
        self._folder = folder
        self._clock = clock
        self._last = 0
        self._next = 0.0

    def place(self) -> Path | None:
        """The newest whole copy; None where there is none."""
        for folder in (self._folder / "copy", self._folder / "copy.new"):
            if self._whole(folder) is not None:
                return folder
        return None

    def _whole(self, folder: Path) -> list[SavedStream] | None:
        try:
            return saved_streams(folder)
        except CorruptError:
            return None

    async def keep(self, client: WireClient) -> None:
        """Copy where it is time for it. Raises `UnavailableError`, `RejectedError`."""
        end = int((await stream_state(client, LOG))["last_seq"])
        self.behind = max(0, end - self._last) if self._last else None
        began = self._clock.monotonic()
        if began < self._next:
            return
        new = self._folder / "copy.new"
        if self._whole(new) is not None:
            await asyncio.to_thread(self._swap)
        saved = await save_streams(client, new)
        await asyncio.to_thread(self._swap)
        now = self._clock.monotonic()
        self._next = now + max(LEAST_S, SHARE * (now - began))
        self._last = next((each.last for each in saved if each.name == LOG), 0)
        self.behind = max(0, int((await stream_state(client, LOG))["last_seq"]) - self._last)

    async def take(self, make: Callable[[Path], Awaitable[None]]) -> None:
        """Have the copy made by another, in place of the one of before."""
        await make(self._folder / "copy.new")
        await asyncio.to_thread(self._swap)

    def _swap(self) -> None:
        """A crash in here leaves one of the two whole."""
        shutil.rmtree(self._folder / "copy", ignore_errors=True)
        (self._folder / "copy.new").rename(self._folder / "copy")

    def clear(self) -> None:
        """It is of no use any more."""
        for name in ("copy", "copy.new"):
            shutil.rmtree(self._folder / name, ignore_errors=True)

    def status(self) -> dict[str, Any]:
        """`copied`: when the last whole copy was made; `behind`: messages of the log that are not in it."""
        place = self.place()
        at = None if place is None else to_rfc3339(int((place / "streams.json").stat().st_mtime * 1e6))
        return {"copied": at, "behind": self.behind}
