"""From one server to three: all streams out of the server alone into files, and from there into fresh servers that are one.

A server that held streams alone must not be put into a cluster as it is: there its streams are taken for orphans and deleted
after 30 s. So no device may be connected from the first call of `save_streams` on; the old store is kept until `whole` says yes.
Each step can be done again after a crash: what is saved is only used when all of it was, what is restored is not restored twice.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from skerry.broker.jetstream import STREAM_NOT_FOUND, api
from skerry.broker.snapshot import CHUNK, restore_stream, stream_names, take_snapshot
from skerry.broker.wire import WireClient
from skerry.core.errors import CorruptError, RejectedError, SkerryError, UnavailableError
from skerry.core.files import sync_names

MANIFEST = "streams.json"
DELETE_S = 15.0
SETTLE_S, SETTLES = 0.25, 40


class SavedStream(msgspec.Struct, frozen=True):
    """One stream in a folder: the file of its snapshot, how long that is, and what the server said of the stream."""

    name: str
    file: str
    size: int
    about: dict[str, Any]

    @property
    def messages(self) -> int:
        return int(self.about["state"]["messages"])

    @property
    def last(self) -> int:
        return int(self.about["state"]["last_seq"])


def saved_streams(folder: Path) -> list[SavedStream] | None:
    """What a folder holds; None where no saving came to its end. Raises `CorruptError`, `UnavailableError`."""
    try:
        found = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=list[SavedStream])
        short = [each.name for each in found if (folder / each.file).stat().st_size != each.size]
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnavailableError(f"cannot be read: {error.strerror}", where=str(folder)) from error
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise CorruptError("the list of saved streams cannot be read", where=str(folder), mend="save them anew") from error
    if short:
        raise CorruptError(f"the file of {short[0]} has not its length", where=str(folder), mend="save them anew")
    return found


async def save_streams(
    client: WireClient, folder: Path, changed: Callable[[dict[str, Any]], dict[str, Any]] = lambda config: config
) -> list[SavedStream]:
    """Save all streams of a server into an empty folder. Nothing may be written to them meanwhile. `changed`: how each is to be
    configured when it is restored.

    Raises `UnavailableError` where the server or the disk fails.
    """
    found: list[SavedStream] = []
    try:
        await asyncio.to_thread(_begin, folder)
        for at, name in enumerate(sorted(await stream_names(client))):
            file = f"{at}.snapshot"
            with (folder / file).open("wb") as out:

                def take(chunk: bytes, out: BinaryIO = out) -> None:
                    out.write(chunk)

                about = await take_snapshot(client, name, take)
                about |= {"config": changed(about["config"])}
                out.flush()
                await asyncio.to_thread(os.fsync, out.fileno())
                found.append(SavedStream(name, file, out.tell(), about))
        with (folder / f"{MANIFEST}.new").open("wb") as out:
            out.write(msgspec.json.encode(found))
            out.flush()
            await asyncio.to_thread(os.fsync, out.fileno())
        await asyncio.to_thread(_end, folder)
    except OSError as error:
        raise UnavailableError(f"the streams were not saved: {error.strerror}", where=str(folder), mend="see the disk") from error
    return found


async def load_streams(client: WireClient, folder: Path, replicas: int) -> list[str]:
    """Restore what was saved, each stream kept by so many servers; the names of those that were not there yet.

    Raises `RejectedError` where nothing was saved, or where a stream of the name holds something else.
    """
    saved = saved_streams(folder)
    if saved is None:
        raise RejectedError("no streams were saved here", where=str(folder), mend="save them first")
    made = []
    for each in saved:
        info = await _info(client, each.name)
        if info is not None and not info["state"]["messages"] and await _half_made(client, each, info, replicas):
            await api(client, f"STREAM.DELETE.{each.name}", timeout=DELETE_S)
            info = None
        if info is None:
            await _restore(client, each, folder, replicas)
            made.append(each.name)
        elif int(info["state"]["last_seq"]) < each.last:
            raise RejectedError(f"{each.name} is there already and is another", mend="restore into fresh servers")
    return made


async def _restore(client: WireClient, saved: SavedStream, folder: Path, replicas: int) -> None:
    """Restore one; what a restore leaves that does not come to its end is taken away again, as its name is in use."""
    about = saved.about | {"config": saved.about["config"] | {"num_replicas": replicas}}
    try:
        await restore_stream(client, about, _chunks(folder / saved.file))
    except SkerryError:
        with suppress(SkerryError):
            await api(client, f"STREAM.DELETE.{saved.name}", timeout=DELETE_S)
        raise


async def _half_made(client: WireClient, saved: SavedStream, info: dict[str, Any], replicas: int) -> bool:
    """Whether an empty stream is what a restore left that did not come to its end: some servers made it, with nothing in it, and
    the one that was to be given the content never will."""
    state = info["state"]
    if int(state["last_seq"]) < saved.last or int(state["consumer_count"]) < int(saved.about["state"]["consumer_count"]):
        return True
    for _ in range(SETTLES if replicas > 1 and not saved.last else 0):
        if _current(info, replicas):
            return False
        await asyncio.sleep(SETTLE_S)
        info = await api(client, f"STREAM.INFO.{saved.name}")
    return replicas > 1 and not saved.last and not _current(info, replicas)


async def whole(client: WireClient, replicas: int) -> bool:
    """Whether each stream and each durable consumer of it is kept by so many servers, and all of them have all of it."""
    for name in await stream_names(client):
        info = await api(client, f"STREAM.INFO.{name}")
        if not _current(info, replicas):
            return False
        offset, total = 0, 1
        while offset < total:
            page = await api(client, f"CONSUMER.LIST.{name}", {"offset": offset})
            consumers = page.get("consumers") or []
            total = int(page.get("total", 0))
            offset += max(1, len(consumers))
            kept = [each for each in consumers if each["config"].get("durable_name")]
            if not all(_current(each, int(each["config"].get("num_replicas") or replicas)) for each in kept):
                return False
    return True


def _current(info: dict[str, Any], replicas: int) -> bool:
    cluster = info.get("cluster") or {}
    others = cluster.get("replicas") or []
    good = [each for each in others if each.get("current") and not each.get("offline") and not each.get("lag")]
    return bool(cluster.get("leader")) and len(good) == replicas - 1 == len(others)


async def _info(client: WireClient, name: str) -> dict[str, Any] | None:
    try:
        return await api(client, f"STREAM.INFO.{name}")
    except RejectedError as error:
        if f"({STREAM_NOT_FOUND})" in str(error):
            return None
        raise


async def _chunks(file: Path) -> AsyncIterator[bytes]:
    with file.open("rb") as source:
        while chunk := source.read(CHUNK):
            yield chunk


def _begin(folder: Path) -> None:
    """The folder is there, and says of nothing that it was saved."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    (folder / MANIFEST).unlink(missing_ok=True)
    sync_names(folder)


def _end(folder: Path) -> None:
    (folder / f"{MANIFEST}.new").replace(folder / MANIFEST)
    sync_names(folder)
