"""A source at work: what it reads is stored in the log, then its cursor, and only then it is resumed."""

import asyncio
import contextlib
from collections.abc import Sequence

from skerry.broker import Bucket, WireClient, store_all, to_subject
from skerry.connector.contract import Message, Source
from skerry.connector.protocol import ConnectorReport
from skerry.connector.spec import ConnectorSpec
from skerry.core import log
from skerry.core.clock import Clock
from skerry.core.errors import OverloadedError, RejectedError, UnavailableError
from skerry.core.service import Backoff
from skerry.pipeline import MAX_SUBJECT

CURSORS = "skerry_cursors"
HEADER = "Skerry-Connector"
ACK_S = 20.0
MOST_CURSOR = 256 * 1024
_log = log.get("connector")


def fault_of(message: Message, longest: int) -> str:
    """Why a message can never be stored; empty where it can."""
    topic = message.topic
    if not topic or topic.startswith("$") or any(mark in topic for mark in "+# \0\r\n\t") or {"*", ">"} & set(topic.split("/")):
        return "no topic"
    if 2 * len(topic.encode()) > MAX_SUBJECT:
        return "topic too long"
    return "too large" if len(message.payload) > longest else ""


async def store(client: WireClient, name: str, messages: Sequence[Message]) -> None:
    """Write them into the log as a device's QoS 1 publishes stand there, and hand them to who subscribes at QoS 0.

    Raises `OverloadedError` where the log takes no more, `UnavailableError` where it does not answer."""
    written = []
    for message in messages:
        head = f"Nmqtt-Pub: 1\r\n{HEADER}: {name}\r\n"
        if message.id:
            head += f"Nats-Msg-Id: {name}/{message.id}\r\n"
        written.append((f"$MQTT.msgs.{to_subject(message.topic)}".encode(), message.payload, head.encode()))
    for answer in await store_all(client, written, ACK_S):
        if answer.get("error"):
            raise OverloadedError(f"the log takes nothing more: {answer['error'].get('description')}", mend="see `skerry status`")
    for message in messages:
        client.publish(to_subject(message.topic).encode(), message.payload, b"", b"Nmqtt-Pub: 1\r\n")


class Intake:
    """Runs one source; `report` is filled as it goes."""

    def __init__(self, spec: ConnectorSpec, source: Source, longest: int, report: ConnectorReport, clock: Clock) -> None:
        self._spec = spec
        self._source = source
        self._longest = longest
        self._report = report
        self._clock = clock

    async def run(self, client: WireClient) -> None:
        """Read and store until cancelled or until the source ends. Raises what the source raises, and `UnavailableError`."""
        key = f"connector.{self._spec.name}"
        bucket = Bucket(client, CURSORS)
        kept = await bucket.get(key) or b""
        async with contextlib.aclosing(self._source.read(kept)) as batches:  # type: ignore[type-var]  # an async generator
            async for batch in batches:
                fit = [message for message in batch.messages if self._takes(message)]
                if fit:
                    await self._store(client, fit)
                if batch.cursor is not None and batch.cursor != kept:
                    await self._keep(bucket, key, batch.cursor)
                    kept = batch.cursor
                self._report.trouble = ""
        raise UnavailableError("the source has come to its end")

    def _takes(self, message: Message) -> bool:
        fault = fault_of(message, self._longest)
        if fault:
            refused = self._report.refused
            refused[fault] = refused.get(fault, 0) + 1
            if refused[fault] == 1:
                _log.warning(f"a message on {message.topic[:100]!r} is not taken: {fault}", connector=self._spec.name)
        return not fault

    async def _store(self, client: WireClient, messages: Sequence[Message]) -> None:
        """Again and again while the log is full: what a source has read is not forgotten."""
        backoff = Backoff(0.2, 10.0)
        while True:
            try:
                await store(client, self._spec.name, messages)
            except OverloadedError as error:
                self._report.trouble = str(error)
                self._report.errors += 1
                await asyncio.sleep(backoff.next())
            else:
                break
        self._report.moved += len(messages)
        self._report.last = self._clock.now()

    async def _keep(self, bucket: Bucket, key: str, cursor: bytes) -> None:
        if len(cursor) > MOST_CURSOR:
            raise RejectedError(f"its cursor takes {len(cursor)} bytes", mend=f"a source has {MOST_CURSOR} for it")
        await bucket.set(key, cursor)
