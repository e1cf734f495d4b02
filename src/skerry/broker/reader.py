"""Reading the log: an ordered push consumer from a cursor on, without acknowledgements and without state in the server.

Each frame's reply subject is `$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<ns>.<pending>` (an account
hash and a domain may stand in front, so it is read from the end). A gap in the consumer's own sequence, silence, or a new
connection: a new consumer is made from the cursor of the reader's owner.
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from skerry.broker.jetstream import api
from skerry.broker.wire import Frame, WireClient, header_fields
from skerry.core import log
from skerry.core.errors import RejectedError, UnavailableError

LOG = "$MQTT_msgs"
HEARTBEAT_S = 1.0
SILENCE_S = 3.0
_log = log.get("broker")


class Position(msgspec.Struct, gc=False):
    """Where one frame stands: stream sequence, consumer sequence, arrival in microseconds, messages still to come."""

    stream: int
    consumer: int
    arrival: int
    pending: int


def position(reply: bytes) -> Position:
    """Position out of a frame's reply subject."""
    parts = reply.rsplit(b".", 4)
    return Position(int(parts[1]), int(parts[2]), int(parts[3]) // 1000, int(parts[4]))


BatchHandler = Callable[[list[Frame], Position, Position], None]
"""Called with the frames of one read and the positions of the first and the last."""


class LogReader:
    """One ordered consumer over a stream; calls `on_batch` for every read, from the socket's callback.

    Args:
        subjects: filter subjects.
        cursor: answers the last stream sequence that was taken in; a new consumer starts behind it.
        full: answers whether the owner cannot take more; flow control then waits for `go_on`.
        on_hole: called with the first sequence that did not come while later ones did; for readers without filters.
        headers_only: leave the payloads out.
    """

    def __init__(
        self,
        client: WireClient,
        subjects: Sequence[str],
        cursor: Callable[[], int],
        on_batch: BatchHandler,
        stream: str = LOG,
        full: Callable[[], bool] = lambda: False,
        on_hole: Callable[[int], None] | None = None,
        headers_only: bool = False,
    ) -> None:
        self._client = client
        self._subjects = list(subjects)
        self._cursor = cursor
        self._on_batch = on_batch
        self._stream = stream
        self._full = full
        self._on_hole = on_hole
        self._headers_only = headers_only
        self._last = 0
        self._owed: list[bytes] = []
        self._sid = b""
        self._name = ""
        self._expected = 1
        self._heard = 0.0
        self._gap = asyncio.Event()
        self.pending = 0
        self.caught_up = False
        self.reading = False
        self.consumers = 0

    async def run(self) -> None:
        """Read until the connection ends or the task is cancelled. Raises `UnavailableError` when the server does not answer."""
        try:
            while not self._client.closed.done():
                await self._create()
                await self._until_broken()
        finally:
            await self._drop()

    async def _until_broken(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._client.closed.done() and loop.time() - self._heard < SILENCE_S:
            try:
                async with asyncio.timeout(HEARTBEAT_S / 2):
                    await self._gap.wait()
            except TimeoutError:
                continue
            return

    async def _create(self) -> None:
        await self._drop()
        self._gap.clear()
        self._owed = []
        self._expected = 1
        self._last = 0
        self.caught_up = False
        self.consumers += 1
        self._heard = asyncio.get_running_loop().time()
        self._name = "r" + secrets.token_hex(6)
        deliver = self._client.reply_subject() + b".log"
        self._sid = self._client.subscribe(deliver, self._on_frames)
        config: dict[str, Any] = {
            "name": self._name,
            "ack_policy": "none",
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": self._cursor() + 1,
            "deliver_subject": deliver.decode(),
            "flow_control": True,
            "idle_heartbeat": int(HEARTBEAT_S * 1e9),
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": 30_000_000_000,
            "filter_subjects": self._subjects,
            **({"headers_only": True} if self._headers_only else {}),
        }
        if len(self._subjects) == 1:
            config["filter_subject"] = config.pop("filter_subjects")[0]
        body = {"stream_name": self._stream, "config": config}
        made = await api(self._client, f"CONSUMER.CREATE.{self._stream}.{self._name}", body)
        self.reading = True
        if self._expected == 1:
            self.pending = int(made["num_pending"])
            self.caught_up = self.pending == 0

    async def _drop(self) -> None:
        if not self._sid:
            return
        self._client.unsubscribe(self._sid)
        self._sid = b""
        if not self._client.closed.done():
            try:
                await api(self._client, f"CONSUMER.DELETE.{self._stream}.{self._name}", timeout=2)
            except (UnavailableError, RejectedError) as error:
                _log.debug(f"consumer {self._name} was not deleted, it ends by itself: {error}")

    def _on_frames(self, frames: list[Frame]) -> None:
        self._heard = asyncio.get_running_loop().time()
        begin = 0
        for at, frame in enumerate(frames):
            if frame[2].startswith(b"NATS/1.0 100"):
                self._take(frames[begin:at])
                begin = at + 1
                self._on_status(frame)
        self._take(frames[begin:] if begin else frames)

    def _take(self, frames: list[Frame]) -> None:
        if not frames or self._gap.is_set():
            return
        first, last = position(frames[0][1]), position(frames[-1][1])
        if first.consumer != self._expected or last.consumer != self._expected + len(frames) - 1:
            self._gap.set()
            return
        self._expected = last.consumer + 1
        self.pending = last.pending
        self.caught_up = last.pending == 0
        if self._on_hole is not None and self._last and last.stream != self._last + len(frames):
            self._on_hole(self._first_missing(frames))
        self._last = last.stream
        self._on_batch(frames, first, last)

    def _first_missing(self, frames: list[Frame]) -> int:
        found = [position(frame[1]).stream for frame in frames]
        return next(wanted for at, wanted in zip(found, range(self._last + 1, found[-1] + 1), strict=False) if at != wanted)

    def _on_status(self, frame: Frame) -> None:
        if frame[1]:
            self._grant(frame[1])
            return
        fields = header_fields(frame[2])
        stalled = fields.get("nats-consumer-stalled")
        if stalled:
            self._grant(stalled.encode())
        if int(fields.get("nats-last-consumer", 0)) >= self._expected:
            self._gap.set()

    def _grant(self, reply: bytes) -> None:
        """Answer a flow-control message: more may come. While the owner is full the answer is owed."""
        if self._full():
            self._owed.append(reply)
        else:
            self._client.publish(reply, b"")

    def go_on(self) -> None:
        """The owner can take more: give the answers that are owed."""
        owed, self._owed = self._owed, []
        for reply in owed[-1:]:
            self._client.publish(reply, b"")
