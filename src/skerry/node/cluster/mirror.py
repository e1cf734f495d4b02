"""What every node of a cluster has in its data directory and must be the same: looked at each second, given and taken.

One replicated bucket holds the last state of each part. A change here is written there by compare-and-set, a change there is taken
here. Where two nodes changed a part at the same moment, the first that was written stays, and the other is told so. What was last
the same is kept on the disk, so that a node that was away knows whether it or the others changed something meanwhile.
"""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from skerry.broker import MIB, WireClient, bucket_plan, ensure, kv_put, read_page
from skerry.core import log
from skerry.core.errors import FencedError, SkerryError
from skerry.core.files import replace_synced
from skerry.core.service import Bell

BUCKET = "skerry_site"
BUCKET_BYTES = 32 * MIB
BEAT_S = 1.0
AGAIN = 60
"""Looks between two times that what the others need is looked for."""
_SUBJECTS = f"$KV.{BUCKET}."
_log = log.get("cluster")


class Part(Protocol):
    """Something of which every node has a copy."""

    @property
    def key(self) -> str:
        """Its name in the bucket: letters, digits, `-`, `_` and dots."""
        ...

    async def read(self) -> bytes | None:
        """What this node has; None: nothing that others should get."""
        ...

    async def give(self, data: bytes) -> None:
        """Called before the others are told of this state, and now and then: what they need besides must be where they find it."""
        ...

    async def given(self, data: bytes) -> None:
        """Called when the others were told: what nobody needs any more may go."""
        ...

    async def take(self, data: bytes) -> None:
        """Have this from now on."""
        ...


class Same(msgspec.Struct):
    """What was last the same here and in the bucket: revision there, SHA-256 of what `read` gave."""

    revision: int = 0
    digest: str = ""


class Mirror:
    """Keeps parts the same as in the bucket. `run` works until cancelled.

    Attributes:
        first: set when all was compared with the others once.
        troubles: by part, one sentence on what hinders it.

    Args:
        connection: the node's connection to its broker; raises `UnavailableError` while there is none.
        file: where it is kept what was last the same.
    """

    def __init__(self, parts: Sequence[Part], connection: Callable[[], WireClient], file: Path) -> None:
        self.first = asyncio.Event()
        self.troubles: dict[str, str] = {}
        self.others: dict[str, bytes] = {}
        self._bell = Bell()
        self._parts = {part.key: part for part in parts}
        self._connection = connection
        self._file = file
        self._same = _read(file)
        self._there: dict[str, tuple[int, bytes]] = {}
        self._own: dict[str, bytes] = {}
        self._told: dict[str, bytes] = {}
        self._looks = 0
        self._client: WireClient | None = None
        self._read_to = 0

    def say(self, key: str, value: bytes) -> None:
        """Tell the others this under a key that is this node's alone; what they say is in `others`."""
        self._own[key] = value
        self._bell.ring()

    def look(self) -> None:
        """Compare at once."""
        self._bell.ring()

    async def run(self) -> None:
        """Compare, give and take, each second."""
        while True:
            try:
                async with asyncio.timeout(60):
                    await self._compare()
                self.troubles.pop("", None)
            except (SkerryError, TimeoutError) as error:
                self.troubles[""] = f"the nodes' common state is not compared: {str(error) or 'it took over 60 s'}"
            await self._bell.wait(BEAT_S)

    async def _compare(self) -> None:
        client = self._connection()
        self._looks += 1
        if client is not self._client:
            await ensure(client, bucket_plan(BUCKET, BUCKET_BYTES))
            self._client, self._read_to = client, 0
        while page := await read_page(client, f"KV_{BUCKET}", f"{_SUBJECTS}>", self._read_to, 50):
            self._read_to = page[-1].sequence
            for stored in page:
                self._there[stored.subject.removeprefix(_SUBJECTS)] = stored.sequence, stored.payload
        self.others = {key: value for key, (_, value) in self._there.items() if key not in self._parts}
        for part in self._parts.values():
            await self._match(client, part)
        for key, value in self._own.items():
            if self._told.get(key) != value or self._there.get(key, (0, b""))[1] != value:
                revision = await kv_put(client, BUCKET, key, value, None)
                self._told[key], self._there[key] = value, (revision, value)
        self.first.set()

    async def _match(self, client: WireClient, part: Part) -> None:
        """One part: nothing to do, take it, or give it."""
        same = self._same.setdefault(part.key, Same())
        revision, there = self._there.get(part.key, (0, b""))
        try:
            here = await part.read()
            changed = here is not None and _digest(here) != same.digest
            lost = here is None and same.digest not in ("", _digest(b""))
            if revision and (revision != same.revision or lost):
                if changed and same.digest and _digest(here or b"") != _digest(there):
                    _log.warning(f"the {part.key} were changed on two nodes at once: what was changed here is given up")
                await part.take(there)
                await self._settle(part, revision)
            elif changed and here is not None:
                await part.give(here)
                await self._settle(part, await kv_put(client, BUCKET, part.key, here, revision), here)
                await part.given(here)
            elif here is not None and self._looks % AGAIN == 0:
                await part.give(here)
            self.troubles.pop(part.key, None)
        except FencedError:
            self._bell.ring()  # another was faster: what it wrote is read and taken at once
        except SkerryError as error:
            sentence = f"the {part.key} are not the same on all nodes yet: {error}"
            if self.troubles.get(part.key) != sentence:
                _log.warning(sentence)
            self.troubles[part.key] = sentence

    async def _settle(self, part: Part, revision: int, given: bytes | None = None) -> None:
        here = given if given is not None else await part.read()
        self._same[part.key] = Same(revision, _digest(here or b""))
        if given is not None:
            self._there[part.key] = revision, given
        await asyncio.to_thread(_write, self._file, self._same)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _read(file: Path) -> dict[str, Same]:
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, Same])
    except (OSError, msgspec.MsgspecError):
        return {}


def _write(file: Path, same: dict[str, Same]) -> None:
    """A disk without room costs no more than that the node takes the others' state after its next start."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        replace_synced(file, msgspec.json.encode(same))
    except OSError as error:
        _log.warning(f"{file}: cannot be written: {error.strerror}")
