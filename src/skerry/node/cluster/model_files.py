"""Files of models and bundles in a replicated stream: each under a name, in chunks."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from skerry.broker import MIB, NatsServer, StreamPlan, WireClient, api, ensure, read_page, store_all
from skerry.core.errors import InsufficientResources, UnavailableError

STREAM = "skerry_models"
STREAM_BYTES = 512 * MIB
CHUNK = 256 * 1024
AT_ONCE = 8
PLAN = StreamPlan(STREAM, ("skerry.models.>",), STREAM_BYTES, "new", per_subject=1)


@contextlib.asynccontextmanager
async def connected(server: NatsServer) -> AsyncIterator[WireClient]:
    """A connection of its own: what is large must not stand before what is urgent."""
    client = await WireClient.connect(server.host, server.port, server.user, server.password, "models")
    try:
        yield client
    finally:
        client.close()


def _subject(sha256: str, number: object) -> str:
    return f"skerry.models.{sha256}.{number}"


async def there(client: WireClient) -> set[str]:
    """The sha256 of all files that are there from their beginning to their end. Raises `UnavailableError`, `RejectedError`."""
    await ensure(client, PLAN)
    info = await api(client, f"STREAM.INFO.{STREAM}", {"subjects_filter": _subject("*", "end")})
    return {subject.split(".")[2] for subject in info["state"].get("subjects") or {}}


async def give(client: WireClient, file: Path, sha256: str) -> None:
    """Put a file there, its end last. Raises `UnavailableError` where the servers or the file fail."""
    try:
        with file.open("rb") as source:
            number = 0
            while chunks := await asyncio.to_thread(_some, source.read):
                await _store(client, [(_subject(sha256, number + at), chunk) for at, chunk in enumerate(chunks)])
                number += len(chunks)
    except OSError as error:
        raise UnavailableError(f"cannot be read: {error.strerror}", where=str(file)) from error
    await _store(client, [(_subject(sha256, "end"), b"%d" % number)])


async def _store(client: WireClient, messages: list[tuple[str, bytes]]) -> None:
    answers = await store_all(client, [(subject.encode(), payload, b"") for subject, payload in messages], 30.0)
    for answer in answers:
        if "error" in answer:
            said = answer["error"].get("description")
            raise InsufficientResources(f"the model was not given to the other nodes: {said}", mend="remove old versions of models")


async def fetch(client: WireClient, sha256: str, into: Path) -> None:
    """Write a file that is there to `into`; its content is not looked at. Raises `UnavailableError` where it is not whole."""
    try:
        with into.open("wb") as out:
            after = number = 0
            while page := await read_page(client, STREAM, _subject(sha256, "*"), after, AT_ONCE, 30.0):
                after = page[-1].sequence
                for stored in page:
                    name = stored.subject.rpartition(".")[2]
                    if name == "end":
                        if int(stored.payload) != number:
                            break
                        return
                    if int(name) != number:
                        raise UnavailableError("another node is giving it again", where=sha256, mend="it is tried again")
                    await asyncio.to_thread(out.write, stored.payload)
                    number += 1
        raise UnavailableError("the file of a model is not whole among the nodes yet", where=sha256, mend="it is tried again")
    except OSError as error:
        raise InsufficientResources(f"the model cannot be stored: {error.strerror}", where=str(into), mend="make room") from error


async def drop(client: WireClient, names: set[str]) -> None:
    """Forget files."""
    for sha256 in names:
        await api(client, f"STREAM.PURGE.{STREAM}", {"filter": _subject(sha256, "end")})
        await api(client, f"STREAM.PURGE.{STREAM}", {"filter": _subject(sha256, "*")})


def _some(read: Callable[[int], bytes]) -> list[bytes]:
    found: list[bytes] = []
    while len(found) < AT_ONCE and (chunk := read(CHUNK)):
        found.append(chunk)
    return found
