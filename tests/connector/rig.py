"""What the tests of connectors share: an engine over a real nats-server, what it has put into the log, and connectors of others."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from skerry.broker import LOG, Bucket, Stored, WireClient, bucket_plan, ensure, read_page
from skerry.connector.engine import Engine
from skerry.connector.protocol import Assignment, Broker
from skerry.connector.spec import parse_connectors
from skerry.core.clock import SystemClock
from skerry.core.service import cancel_and_wait
from skerry.pipeline import key_token, topic_of
from tests.fixtures.nats import NatsServer, put

LONGEST = 1024 * 1024
PLUGIN = '''
import asyncio
import msgspec
from skerry.connector import Batch, Message


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    last: int = 5
    fault: str = ""


class Numbers:
    """Counts to a number."""

    Settings = Settings

    def __init__(self, settings, place):
        self.settings, self.place = settings, place

    async def read(self, cursor):
        for number in range(int(cursor or b"0") + 1, self.settings.last + 1):
            if self.settings.fault == "raise" and number == 3:
                raise KeyError("third")
            yield Batch([Message(f"devices/{self.place.name}/n", b"%d" % number)], b"%d" % number)
        await asyncio.Event().wait()

    async def test(self):
        return f"counts to {self.settings.last}"
'''


def assigned(tables: list[dict[str, Any]], base: Path) -> Assignment:
    return Assignment("rock", "sea", str(base), LONGEST, parse_connectors(tables, "connectors"))


async def prepared(server: NatsServer) -> WireClient:
    """A connection, with the streams and buckets of a node made."""
    client = await server.prepared()
    await ensure(client, bucket_plan("skerry_cursors", 64 * 1024 * 1024))
    return client


@asynccontextmanager
async def working(tables: list[dict[str, Any]], server: NatsServer, base: Path) -> AsyncIterator[Engine]:
    """An engine in this process."""
    engine = Engine(assigned(tables, base), SystemClock())
    engine.place(Broker("127.0.0.1", server.port, "agent", "pw"))
    running = asyncio.create_task(engine.run())
    try:
        yield engine
    finally:
        await cancel_and_wait(running)


async def stored(client: WireClient) -> list[Stored]:
    """All of the log."""
    found: list[Stored] = []
    while page := await read_page(client, LOG, ">", found[-1].sequence if found else 0):
        found += page
    return found


async def payloads(client: WireClient, topic: str = "") -> list[bytes]:
    """What the log has on a topic (all of them: empty), in its order."""
    return [each.payload for each in await stored(client) if topic in ("", topic_of(each.subject.encode()))]


async def put_event(client: WireClient, number: int, pipeline: str = "p", key: str = "d", state: str = "info") -> bytes:
    """An event as a worker puts it out."""
    text = f'{{"id":"e{number}","pipeline":"{pipeline}","key":"{key}","state":"{state}","severity":null,"score":{number}.5}}'
    await put(client, f"skerry.events.{pipeline}.{key_token(key)}", text.encode())
    return text.encode()


async def begun(client: WireClient, name: str) -> bool:
    """Whether a sink has its cursor: what comes from now on is its to bring out."""
    return await Bucket(client, "skerry_cursors").get(f"connector.{name}.events") is not None


@contextmanager
def installed(folder: Path, entry_points: dict[str, str], source: str = PLUGIN) -> Iterator[None]:
    """A package `plugin` of someone else, as pip leaves it."""
    (folder / "plugin.py").write_text(source)
    info = folder / "plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1.0\n")
    lines = "".join(f"{name} = {place}\n" for name, place in entry_points.items())
    (info / "entry_points.txt").write_text(f"[skerry.connectors]\n{lines}")
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop("plugin", None)
