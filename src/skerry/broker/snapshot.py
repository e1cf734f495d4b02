"""Whole streams, out of a server that runs and into one: with their messages, sequences and durable consumers.

Protocol: nats-server's JetStream API, `$JS.API.STREAM.SNAPSHOT.<stream>` and `STREAM.RESTORE.<stream>`. What comes out is the
server's own form, consistent at the moment of the request; chunks are acknowledged, so that no more than a window is on the way.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from skerry.broker.jetstream import api
from skerry.broker.wire import Frame, NobodyThereError, WireClient
from skerry.core.errors import RejectedError, UnavailableError

CHUNK = 128 * 1024
WINDOW = 4 * 1024 * 1024
SILENCE_S = 30.0
RESTORE_S = 120.0
"""After its last chunk the server may check a large stream before it answers."""


REACH_S, REACHES = 0.05, 80


async def stream_names(client: WireClient) -> list[str]:
    """All streams of the node, buckets and the server's own for MQTT among them."""
    found: list[str] = []
    while True:
        page = await api(client, "STREAM.NAMES", {"offset": len(found)})
        names = page.get("streams") or []
        found += names
        if not names or len(found) >= int(page.get("total", 0)):
            return found


async def take_snapshot(client: WireClient, stream: str, take: Callable[[bytes], None]) -> dict[str, Any]:
    """Hand a stream's snapshot to `take`, chunk by chunk; its `config` and `state`. Raises `UnavailableError`, `RejectedError`."""
    place = client.reply_subject() + b".snapshot"
    came: asyncio.Queue[Frame | None] = asyncio.Queue()

    def note(frames: list[Frame]) -> None:
        for frame in frames:
            came.put_nowait(frame)

    def gone(_: object) -> None:
        came.put_nowait(None)

    sid = client.subscribe(place, note)
    client.closed.add_done_callback(gone)
    try:
        asked = {"deliver_subject": place.decode(), "no_consumers": False, "chunk_size": CHUNK, "window_size": WINDOW}
        about = await api(client, f"STREAM.SNAPSHOT.{stream}", asked, timeout=SILENCE_S)
        while True:
            async with asyncio.timeout(SILENCE_S):
                frame = await came.get()
            if frame is None:
                raise UnavailableError(f"the connection to the broker ended while {stream} was copied")
            _, reply, header, chunk = frame
            if not chunk:
                if header and not header.startswith(b"NATS/1.0 204"):
                    raise UnavailableError(f"{stream} was not copied: {header.splitlines()[0].decode(errors='replace')}")
                return {"config": about["config"], "state": about["state"]}
            take(chunk)
            if reply:
                client.publish(reply, b"")
    except TimeoutError as error:
        raise UnavailableError(f"{stream} was not copied: nothing came for {SILENCE_S:g} s") from error
    finally:
        client.closed.remove_done_callback(gone)
        client.unsubscribe(sid)


async def restore_stream(client: WireClient, about: dict[str, Any], chunks: AsyncIterator[bytes]) -> dict[str, Any]:
    """Make a stream from a snapshot where there is none of its name; its state. Raises `RejectedError`, `UnavailableError`."""
    stream = str(about["config"]["name"])
    ready = await api(client, f"STREAM.RESTORE.{stream}", {"config": about["config"], "state": about["state"]}, timeout=SILENCE_S)
    place = str(ready["deliver_subject"]).encode()
    async for chunk in chunks:
        answer = await hand_over(client, place, chunk)
        if answer[3]:
            _refused(stream, answer[3])
    done = json.loads((await client.request(place, b"", timeout=RESTORE_S))[3] or b"{}")
    if "error" in done:
        raise RejectedError(f"{stream} was not restored: {done['error'].get('description')}")
    state: dict[str, Any] = done["state"]
    return state


async def hand_over(client: WireClient, place: bytes, chunk: bytes, tries: int = REACHES) -> Frame:
    """Hand a chunk over; in a cluster it may be another server that takes it, and that it does is known here only some time after
    its answer: the two come over different connections. It gives up 5 s after the last chunk that came."""
    for _ in range(tries):
        try:
            return await client.request(place, chunk, timeout=SILENCE_S)
        except NobodyThereError:
            await asyncio.sleep(REACH_S)
    return await client.request(place, chunk, timeout=SILENCE_S)


def _refused(stream: str, body: bytes) -> None:
    found = json.loads(body)
    if "error" in found:
        raise RejectedError(f"{stream} was not restored: {found['error'].get('description')}")
