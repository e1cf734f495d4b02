"""A node as the centre of others: it takes their envelopes, over HTTP and from its own broker, and keeps commands for them."""

import asyncio
import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from skerry.broker import LOG, Bucket, Stored, WireClient, read_page, stream_state
from skerry.core import log
from skerry.core.clock import Clock, to_rfc3339
from skerry.core.errors import OverloadedError, RejectedError, SkerryError, UnavailableError
from skerry.core.service import Backoff
from skerry.pipeline import topic_of
from skerry.uplink import Receiver, read_command, read_header

if TYPE_CHECKING:
    from skerry.node.life import Node
    from skerry.uplink import Record

Row = dict[str, Any]
CURSORS, CURSOR, BOOK = "skerry_cursors", "uplink.received", "uplink.book"
SUBJECT = "$MQTT.msgs.uplink.*.*"
PAGE = 20
LOOK_S = 0.25
STORE_EVERY = 10_000
"""Messages of the log without an envelope after which the cursor is stored."""
MOST_COMMANDS, COMMANDS_AT_ONCE, MOST_ANSWERS = 1000, 20, 1000
ANSWERS = "commands"
REMIND_S = 60.0
_log = log.get("uplink")


class Kept(msgspec.Struct, frozen=True, array_like=True):
    """A command that waits for its answer."""

    site: str
    node: str
    topic: str
    expires: int
    frame: bytes


class Centre:
    """Works while `uplink.receive` is set; a service."""

    def __init__(self, node: "Node", clock: Clock) -> None:
        self.receiver = Receiver(self._answered)
        self.trouble = ""
        self._node = node
        self._clock = clock
        self.cursor = -1
        self._book: dict[str, Kept] = {}
        self._answers: dict[str, str] = {}
        self._booking = asyncio.Lock()
        self._reminded = 0.0

    @property
    def on(self) -> bool:
        return self._node.config.uplink.receive

    def lowest(self, durable: int | None) -> int | None:
        """The lowest stored cursor, with what envelopes need; None while that is not known."""
        if not self.on or durable is None:
            return durable
        if not self.receiver.known or self.cursor < 0:
            return None
        floor = self.receiver.floor()
        return min(durable, self.cursor, *([floor] if floor is not None else []))

    async def run(self) -> None:
        """Take what comes until cancelled."""
        backoff = Backoff(0.1, 5.0)
        while True:
            await self._node.link.opened.wait()
            if not self.on:
                return
            try:
                await self._live(backoff)
            except (SkerryError, msgspec.MsgspecError, ValueError) as error:
                self.trouble = str(error)
                _log.warning(f"envelopes of other nodes wait: {error}")
            await asyncio.sleep(backoff.next())

    async def _live(self, backoff: Backoff) -> None:
        """Over one connection until that ends: look for envelopes in the log again and again.

        It is read without a consumer: so it is known up to where there is none, and that much of the log may be trimmed."""
        server = self._node.server
        client = await WireClient.connect(server.host, server.port, server.user, server.password, "centre")
        cursors = Bucket(client, CURSORS)
        try:
            await self.receiver.attach(client)
            self._book = msgspec.msgpack.decode(await cursors.get(BOOK) or b"\x80", type=dict[str, Kept])
            self.cursor = kept = int(await cursors.get(CURSOR) or b"0")
            self.trouble = ""
            backoff.reset()
            while True:
                end = int((await stream_state(client, LOG))["last_seq"])
                page = await read_page(client, LOG, SUBJECT, self.cursor, PAGE)
                for stored in page:
                    await self._take(stored)
                if len(page) < PAGE:
                    self.cursor = max(self.cursor, end)
                if page or self.cursor - kept > STORE_EVERY:
                    kept = self.cursor
                    await cursors.set(CURSOR, str(kept).encode())
                await self._remind()
                await asyncio.sleep(0 if len(page) == PAGE else LOOK_S)
        finally:
            client.close()

    async def _take(self, stored: Stored) -> None:
        topic = topic_of(stored.subject.encode())
        try:
            _, site, node = topic.split("/")
            await self.receiver.receive(stored.payload, node, site)
        except RejectedError as error:
            _log.warning(f"what came on {topic!r} is not taken: {error}")
        self.cursor = stored.sequence

    async def _remind(self) -> None:
        """Publish again what nobody has answered: a node carries it out once, however often it comes."""
        now = self._clock.monotonic()
        if now - self._reminded < REMIND_S:
            return
        self._reminded = now
        for each in list(self._book.values()):
            if each.expires > self._clock.now():
                await self._node.publish(f"uplink-commands/{each.site}/{each.node}", each.frame, 1, False)

    async def receive(self, envelope: bytes, by: str) -> Row:
        """What is answered to who sends over HTTP: that it is in the log, and commands for its sender.

        Args:
            by: who asks. A token is its node's: it is called `<node>`, or `<node>@<site>`.

        Raises `RejectedError`, `UnavailableError`."""
        if not self.on:
            raise RejectedError("this node takes no envelopes", mend="set uplink.receive = true in its configuration")
        node, _, site = by.removeprefix("token:").partition("@") if by.startswith("token:") else ("", "", "")
        again = await self.receiver.holds(envelope)
        digest = await self.receiver.receive(envelope, node, site)
        header = read_header(envelope)
        now = self._clock.now()
        waiting = [each.frame for each in self._book.values() if (each.site, each.node) == (header.site, header.node)]
        waiting = [frame for frame in waiting if read_command(frame).expires > now][:COMMANDS_AT_ONCE]
        return {"digest": digest, "again": again, "commands": [base64.b64encode(frame).decode() for frame in waiting]}

    async def command(self, frame: bytes) -> Row:
        """Keep a signed command until it is answered or has expired, and publish it for who listens.

        Raises `RejectedError`, `OverloadedError`."""
        if not self.on:
            raise RejectedError("this node is nobody's centre", mend="set uplink.receive = true in its configuration")
        command = read_command(frame)
        async with self._booking:
            now = self._clock.now()
            book = {identity: each for identity, each in self._book.items() if each.expires > now}
            if len(book) >= MOST_COMMANDS:
                raise OverloadedError(f"{MOST_COMMANDS} commands wait for their answers", mend="wait until they expire")
            book[command.id] = Kept(command.site, command.node, command.topic, command.expires, frame)
            await self._keep(book)
        await self._node.publish(f"uplink-commands/{command.site}/{command.node}", frame, 1, False)
        return {"id": command.id, "topic": command.topic, "expires": to_rfc3339(command.expires)}

    async def _keep(self, book: dict[str, Kept]) -> None:
        client = self._node.link.client
        if client is None:
            raise UnavailableError("the broker is not there", mend="try again in a moment")
        await Bucket(client, CURSORS).set(BOOK, msgspec.msgpack.encode(book))
        self._book = book

    async def _answered(self, records: "Sequence[Record]") -> None:
        """Answers to commands are among what came."""
        known = [each for each in records if each.kind == "event" and each.pipeline == ANSWERS and each.key in self._book]
        for each in known:
            self._answers[each.key] = _outcome(each.payload)
        while len(self._answers) > MOST_ANSWERS:
            del self._answers[next(iter(self._answers))]
        if known:
            answered = {each.key for each in known}
            async with self._booking:
                await self._keep({identity: each for identity, each in self._book.items() if identity not in answered})

    def answer(self, identity: str) -> Row | None:
        """Whether a command still waits, and what its node answered since this one started; None for one that is not known."""
        outcome, waits = self._answers.get(identity), identity in self._book
        return {"id": identity, "waiting": outcome is None, "outcome": outcome} if outcome is not None or waits else None

    def status(self) -> Row | None:
        """What was taken since the start; None where nothing is."""
        if not self.on:
            return None
        waiting = [
            {"id": identity, "site": each.site, "node": each.node, "topic": each.topic, "expires": to_rfc3339(each.expires)}
            for identity, each in self._book.items()
        ]
        return {**msgspec.to_builtins(self.receiver.counts), "commands": waiting, "trouble": self.trouble}


def _outcome(event: bytes) -> str:
    """`done`, or `refused: why` or `failed: why`, of an answer's event."""
    try:
        return str(msgspec.json.decode(event)["label"])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, KeyError, TypeError):
        return "done"


class LinkView:
    """Fills `skerry.api.UplinkView`."""

    def __init__(self, node: "Node") -> None:
        self._node = node

    def shown(self) -> Row:
        return {"uplink": self._node.uplink.status(), "received": self._node.centre.status()}

    async def hold(self, paused: bool) -> None:
        await self._node.uplink.pause_for_good(paused)

    async def test(self) -> Row:
        tested = await self._node.uplink.test()
        return {"ok": tested.ok, "round_trip_ms": tested.round_trip_ms, "sentence": tested.sentence}

    async def receive(self, envelope: bytes, by: str) -> Row:
        return await self._node.centre.receive(envelope, by)

    async def command(self, frame: bytes) -> Row:
        return await self._node.centre.command(frame)

    def answer(self, identity: str) -> Row | None:
        return self._node.centre.answer(identity)
