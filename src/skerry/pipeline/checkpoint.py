"""Checkpoints in the replicated bucket: a state whole, fenced by revision, in one write (large ones in parts named by it).

Parts go round three generations, so that the parts of the state that counts are never written over, nor those of a write that
was not answered and may yet be carried out.
"""

import asyncio
import zlib
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from skerry.broker import WireClient, api, kv_entry, kv_get, kv_put, read_page, stream_state
from skerry.core.errors import ConfigError, CorruptError, FencedError, UnavailableError
from skerry.pipeline.event import DEAD, EVENTS
from skerry.pipeline.partitions import redeal
from skerry.pipeline.state import PipelineState, decode_state, encode_state

BUCKET = "skerry_checkpoints"
PART_BYTES = 4 * 1024 * 1024
TRIES, AGAIN_S = 20, 0.05


CURSOR = b"Skerry-Cursor"
"""Name of the header that says the cursor of a state."""


class _Parts(msgspec.Struct, tag="parts", tag_field="kind"):
    """What is written instead of a state that is too large for one message."""

    generation: str
    count: int
    checksum: int = 0


_MARK = b"SKP1"


def checkpoint_key(pipeline: str, partition: int, partitions: int) -> str:
    """Where the state of a partition stands in the bucket."""
    return f"{pipeline}.{partition}-of-{partitions}"


class CheckpointStore:
    """Loads and saves the state of one pipeline partition; remembers the revision that fences it."""

    def __init__(self, pipeline: str, partition: int, partitions: int) -> None:
        self._key = checkpoint_key(pipeline, partition, partitions)
        self._generation = self._doubtful = ""
        self._count = 0
        self._unsure = b""
        self.revision = 0

    async def load(self, client: WireClient, claim: bool = False) -> PipelineState | None:
        """The stored state, or None. Raises `CorruptError`, `UnavailableError`.

        With `claim` it is first written again as it is: from then on whoever had it before is fenced."""
        found = await (self._claim(client) if claim else kv_get(client, BUCKET, self._key))
        if found is None:
            return None
        data, self.revision = found
        parts = self._adopt_parts(data)
        if parts is not None:
            pieces = [await kv_get(client, BUCKET, self._part(parts.generation, at)) for at in range(parts.count)]
            if any(piece is None for piece in pieces):
                raise CorruptError(f"the checkpoint {self._key} lacks a part", mend="restore a backup")
            data = b"".join(piece[0] for piece in pieces if piece is not None)
            if zlib.crc32(data) != parts.checksum:
                raise CorruptError(f"the parts of the checkpoint {self._key} do not fit together", mend="restore a backup")
        return decode_state(data)

    async def _claim(self, client: WireClient) -> tuple[bytes, int] | None:
        """What is stored, under a revision that nobody else knows. Raises `UnavailableError` where others write each time."""
        for _ in range(TRIES):
            found = await kv_entry(client, BUCKET, self._key)
            if found is None:
                return None
            note = CURSOR + f": {found.headers.get(CURSOR.decode().lower(), 0)}\r\n".encode()
            with suppress(FencedError):
                return found.payload, await kv_put(client, BUCKET, self._key, found.payload, found.sequence, note)
            await asyncio.sleep(AGAIN_S)
        raise UnavailableError(f"another owner of {self._key} goes on writing", mend="it is tried again")

    async def save(self, client: WireClient, data: bytes, cursor: int) -> None:
        """Store an encoded state. Raises `FencedError` when another owner has written, `UnavailableError`."""
        if self._unsure:
            await self._find_out(client)
        new = ("", 0)
        if len(data) > PART_BYTES:
            await self._check_fence(client)
            generation = next(name for name in "abc" if name not in (self._generation, self._doubtful))
            pieces = [data[at : at + PART_BYTES] for at in range(0, len(data), PART_BYTES)]
            for at, piece in enumerate(pieces):
                await kv_put(client, BUCKET, self._part(generation, at), piece, None)
            data = _MARK + msgspec.msgpack.encode(_Parts(generation, len(pieces), zlib.crc32(data)))
            new = (generation, len(pieces))
        self._unsure, self._doubtful = data, new[0]
        self.revision = await kv_put(client, BUCKET, self._key, data, self.revision, CURSOR + b": %d\r\n" % cursor)
        self._unsure = b""
        self._generation, self._count = new

    async def _check_fence(self, client: WireClient) -> None:
        """Parts are written over without a condition, so see first that this is still the owner."""
        found = await kv_get(client, BUCKET, self._key)
        if (found[1] if found else 0) != self.revision:
            raise FencedError(f"{self._key} was written by another owner", mend="this one stops")

    async def _find_out(self, client: WireClient) -> None:
        """After a write without an answer: take what is there as ours if it is what was written."""
        found = await kv_get(client, BUCKET, self._key)
        if found is not None and found[0] == self._unsure and found[1] > self.revision:
            self.revision = found[1]
            self._adopt_parts(found[0])
        self._unsure = b""

    def _adopt_parts(self, data: bytes) -> _Parts | None:
        """Note which parts the stored state has, if any."""
        parts = msgspec.msgpack.decode(data[len(_MARK) :], type=_Parts) if data.startswith(_MARK) else None
        self._generation, self._count = (parts.generation, parts.count) if parts else ("", 0)
        return parts

    def _part(self, generation: str, at: int) -> str:
        return f"{self._key}.{generation}.{at}"


async def stored_cursors(client: WireClient) -> dict[str, int]:
    """Cursors of all stored checkpoints by `pipeline.partition-of-partitions`."""
    found: dict[str, int] = {}
    after = 0
    while page := await read_page(client, f"KV_{BUCKET}", f"$KV.{BUCKET}.*.*", after, 50):
        after = page[-1].sequence
        for stored in page:
            cursor = stored.headers.get(CURSOR.decode().lower())
            if cursor is not None:
                found[stored.subject.removeprefix(f"$KV.{BUCKET}.")] = int(cursor)
    return found


async def begin_checkpoints(
    client: WireClient, pipelines: Sequence[str], partitions: int, cursor: int, *, alone: bool = True
) -> None:
    """Give every pipeline its checkpoints: new ones begin behind `cursor`, those of another number of partitions are re-dealt.

    Made before devices can connect, so that nothing acknowledged lies before a pipeline's beginning, whatever dies after it. The
    re-dealt states count from the one write on that names the new number. Where this node is not `alone` others may be making the
    same ones, and run them already: what is there stays. Raises `ConfigError` where they have another number of partitions.
    """
    for name in pipelines:
        layout = await kv_get(client, BUCKET, f"{name}.layout")
        before = int(layout[0]) if layout else 0
        if before == partitions:
            continue
        if before and not alone:
            raise ConfigError(
                f"the cluster runs {name} in {before} partitions", where="cluster.partitions", mend=f"set it to {before}"
            )
        if before:
            loaded = [await CheckpointStore(name, at, before).load(client) for at in range(before)]
            states = redeal([state for state in loaded if state is not None], partitions)
        else:
            events, dead = await stream_state(client, EVENTS), await stream_state(client, DEAD)
            ends = int(events["last_seq"]), int(dead["last_seq"])
            states = [PipelineState(cursor=cursor, events_seq=ends[0], dead_seq=ends[1]) for _ in range(partitions)]
        for at, state in enumerate(states):
            store = CheckpointStore(name, at, partitions)
            if alone:
                await store.load(client)
            with suppress(*(() if alone else (FencedError,))):
                await store.save(client, encode_state(state), state.cursor)
        await kv_put(client, BUCKET, f"{name}.layout", str(partitions).encode(), None)
        for at in range(before):
            await _purge(client, f"{name}.{at}-of-{before}")


async def _purge(client: WireClient, key: str) -> None:
    """Drop a checkpoint and its parts."""
    for subject in (f"$KV.{BUCKET}.{key}", f"$KV.{BUCKET}.{key}.>"):
        await api(client, f"STREAM.PURGE.KV_{BUCKET}", {"filter": subject})
