"""JetStream requests over the wire client: the API, stored reads in pages, and writes that are fenced by revision.

Subjects and error codes: nats-server's JetStream API (`$JS.API.*`), docs.nats.io and ADR-31 (direct get, batched).
"""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import msgspec

from skerry.broker.wire import Frame, WireClient, header_fields
from skerry.core.errors import FencedError, RejectedError, UnavailableError

WRONG_LAST_SEQUENCE = 10071
STREAM_NOT_FOUND = 10059
PAGE = 500


class Stored(msgspec.Struct, gc=False):
    """One message of a stream."""

    sequence: int
    subject: str
    headers: dict[str, str]
    payload: bytes


async def api(client: WireClient, verb: str, body: dict[str, Any] | None = None, timeout: float = 5.0) -> dict[str, Any]:
    """One request `$JS.API.<verb>`. Raises `RejectedError` with the server's own words where it refuses."""
    data = json.dumps(body).encode() if body is not None else b""
    frame = await client.request(b"$JS.API." + verb.encode(), data, timeout=timeout)
    answer: dict[str, Any] = json.loads(frame[3])
    if "error" in answer:
        raise RejectedError(f"{answer['error'].get('description')} ({answer['error'].get('err_code')})", where=verb)
    return answer


async def read_page(
    client: WireClient, stream: str, subject: str, after: int, limit: int = PAGE, timeout: float = 5.0, *, most_bytes: int = 0
) -> list[Stored]:
    """The next messages of a stream behind sequence `after` that match, at most `limit`, oldest first; with `most_bytes` no
    further one when so many were read.

    Works without a consumer (batched direct get); the stream must allow direct reads.
    """
    reply = client.reply_subject() + b".page"
    pages: asyncio.Queue[Frame | None] = asyncio.Queue()

    def take(frames: list[Frame]) -> None:
        for frame in frames:
            pages.put_nowait(frame)

    def gone(_: object) -> None:
        pages.put_nowait(None)

    sid = client.subscribe(reply, take)
    client.closed.add_done_callback(gone)
    found: list[Stored] = []
    try:
        body = {"seq": after + 1, "next_by_subj": subject, "batch": limit, **({"max_bytes": most_bytes} if most_bytes else {})}
        client.publish(f"$JS.API.DIRECT.GET.{stream}".encode(), json.dumps(body).encode(), reply)
        async with asyncio.timeout(timeout):
            while len(found) < limit:
                frame = await pages.get()
                if frame is None:
                    raise UnavailableError(f"the connection to the broker ended while {stream} was read")
                status = frame[2][9:12]
                if status in (b"204", b"404"):
                    break
                if status in (b"503", b"408", b"413"):
                    raise UnavailableError(f"{stream} cannot be read: {frame[2].splitlines()[0].decode()}")
                fields = header_fields(frame[2])
                found.append(Stored(int(fields["nats-sequence"]), fields["nats-subject"], fields, frame[3]))
    except TimeoutError as error:
        raise UnavailableError(f"reading {stream} took over {timeout:g} s") from error
    finally:
        client.closed.remove_done_callback(gone)
        client.unsubscribe(sid)
    return found


async def ends(client: WireClient, stream: str) -> tuple[int, int]:
    """First and last sequence that a stream holds, by direct reads: of a copy too that nobody leads; 0, 0 where it is empty."""
    first = await read_page(client, stream, ">", 0, 1)
    if not first:
        return 0, 0
    frame = await client.request(f"$JS.API.DIRECT.GET.{stream}".encode(), b'{"last_by_subj": ">"}')
    fields = header_fields(frame[2])
    if "nats-sequence" not in fields:
        raise UnavailableError(f"{stream} cannot be read: {frame[2].splitlines()[:1]!r}")
    return first[0].sequence, int(fields["nats-sequence"])


async def kv_get(client: WireClient, bucket: str, key: str) -> tuple[bytes, int] | None:
    """Value and revision of a key, or None."""
    found = await kv_entry(client, bucket, key)
    return (found.payload, found.sequence) if found is not None else None


async def kv_entry(client: WireClient, bucket: str, key: str) -> Stored | None:
    """What stands in the bucket for a key, with its headers, or None. In a cluster it may be that of a moment ago."""
    frame = await client.request(f"$JS.API.DIRECT.GET.KV_{bucket}.$KV.{bucket}.{key}".encode(), b"")
    if frame[2].startswith(b"NATS/1.0 404"):
        return None
    fields = header_fields(frame[2])
    if "nats-sequence" not in fields:
        raise UnavailableError(f"bucket {bucket} cannot be read: {frame[2].splitlines()[:1]!r}")
    if fields.get("kv-operation") in ("DEL", "PURGE"):
        return None
    return Stored(int(fields["nats-sequence"]), f"$KV.{bucket}.{key}", fields, frame[3])


async def kv_put(client: WireClient, bucket: str, key: str, value: bytes, revision: int | None, notes: bytes = b"") -> int:
    """Write a key and answer its new revision; with `revision` only if that is still the last one (0: none yet).

    `notes` are further header lines. Raises `FencedError` when another writer was there.
    """
    header = b"Nats-Expected-Last-Subject-Sequence: %d\r\n" % revision if revision is not None else b""
    header += notes
    frame = await client.request(f"$KV.{bucket}.{key}".encode(), value, header)
    answer = json.loads(frame[3])
    error = answer.get("error")
    if error and error.get("err_code") == WRONG_LAST_SEQUENCE:
        raise FencedError(f"{bucket}/{key} was written by another owner", mend="this one stops")
    if error:
        raise UnavailableError(f"{bucket}/{key} was not written: {error.get('description')}")
    return int(answer["seq"])


async def store_all(
    client: WireClient, messages: Sequence[tuple[bytes, bytes, bytes]], timeout: float = 10.0
) -> list[dict[str, Any]]:
    """Publish messages (subject, payload, header lines) at once; the streams' answers in the same order, errors among them.

    Raises `UnavailableError` unless all have answered in time."""
    base = client.reply_subject() + b".all."
    answers: dict[int, bytes] = {}
    complete = asyncio.Event()

    def take(frames: list[Frame]) -> None:
        answers.update((int(frame[0].rsplit(b".", 1)[1]), frame[3]) for frame in frames)
        if len(answers) == len(messages):
            complete.set()

    def gone(_: object) -> None:
        complete.set()

    sid = client.subscribe(base + b"*", take)
    client.closed.add_done_callback(gone)
    try:
        for at, (subject, payload, header) in enumerate(messages):
            client.publish(subject, payload, base + b"%d" % at, header)
        async with asyncio.timeout(timeout):
            if messages:
                await complete.wait()
    except TimeoutError as error:
        raise UnavailableError(f"{len(messages) - len(answers)} messages were not acknowledged within {timeout:g} s") from error
    finally:
        client.closed.remove_done_callback(gone)
        client.unsubscribe(sid)
    if any(not answers.get(at) for at in range(len(messages))):
        raise UnavailableError("messages were not acknowledged: no stream answers, or the connection ended")
    return [json.loads(answers[at]) for at in range(len(messages))]
