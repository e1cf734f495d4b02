"""Outputs under way: published, not yet acknowledged by their stream; sent again until they are."""

import asyncio
import itertools
from collections.abc import Callable

import msgspec

from skerry.broker import Frame, WireClient
from skerry.core.errors import UnavailableError
from skerry.pipeline import DEAD, EVENTS, Output

MOST = 20_000
RESEND_S = 5.0
FENCE = "Skerry-Fence"
"""Header of an output in a cluster: a later owner of its unit has a higher one."""


class _Ack(msgspec.Struct):
    stream: str = ""
    seq: int = 0
    error: dict[str, object] | None = None


_decode_ack = msgspec.json.Decoder(_Ack).decode


class Outbox:
    """Publishes outputs and keeps each until its PubAck; ids make a second sending harmless.

    Args:
        may_send: whether anything may be published now; what may not is kept.

    Attributes:
        known: ids that are in the streams already (outputs of a run before this one, behind the checkpoint): not sent.
        fence: what the unit was claimed under, where several nodes may claim it; it goes with each output.
    """

    def __init__(self, on_drained: Callable[[], None], may_send: Callable[[], bool] = lambda: True) -> None:
        self.known: set[str] = set()
        self.fence = 0
        self.events_seq = 0
        self.dead_seq = 0
        self.number = 0
        self.refused = ""
        self._on_drained = on_drained
        self._may_send = may_send
        self._client: WireClient | None = None
        self._base = self._sid = b""
        self._gone = False
        self._unacked: dict[int, tuple[Output, float]] = {}
        self._numbers = itertools.count(1)
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._watched: tuple[str, int, Callable[[int], None]] | None = None

    @property
    def unacked(self) -> int:
        return len(self._unacked)

    @property
    def full(self) -> bool:
        """True when no more should be read until the streams have caught up."""
        return len(self._unacked) > MOST

    def watch(self, identity: str, stored: Callable[[int], None]) -> None:
        """Call back once with the sequence, when an output that is about to be sent is stored; 0: it was before."""
        self._watched = (identity, 0, stored)

    def _find_watched(self, outputs: list[Output]) -> None:
        assert self._watched is not None
        identity, _, stored = self._watched
        if not any(output.id == identity for output in outputs):
            return
        number = next((number for number, (output, _) in self._unacked.items() if output.id == identity), 0)
        self._watched = (identity, number, stored)
        if not number:
            self._watched = None
            stored(0)

    def _look_for_watched(self, frames: list[Frame]) -> None:
        assert self._watched is not None
        _, number, stored = self._watched
        if not number or number in self._unacked:
            return
        acks = (_decode_ack(frame[3]) for frame in frames if frame[3] and frame[0].endswith(b".%d" % number))
        self._watched = None
        stored(next((ack.seq for ack in acks), 0))

    def attach(self, client: WireClient) -> None:
        """Use a new connection; what is not acknowledged is sent again."""
        self._client = client
        self._base = client.reply_subject() + b".out."
        self._sid = client.subscribe(self._base + b"*", self._on_acks)
        self.resend(older_than=0.0)

    def detach(self) -> None:
        """Publish nothing any more, for good; who waits for acknowledgements waits in vain, and is told."""
        if self._client is not None and not self._client.closed.done():
            self._client.unsubscribe(self._sid)
        self._client = None
        self._gone = True
        for _, future in self._waiters:
            if not future.done():
                future.set_result(None)

    def send(self, outputs: list[Output]) -> None:
        """Publish; outputs that are known to be stored already are dropped."""
        now, may = asyncio.get_running_loop().time(), self._may_send()
        for output in outputs:
            if self.known and output.id in self.known:
                self.known.discard(output.id)
                continue
            self.number = next(self._numbers)
            self._unacked[self.number] = (output, now)
            if may:
                self._publish(self.number, output)
        if self._watched is not None:
            self._find_watched(outputs)

    def _publish(self, number: int, output: Output) -> None:
        if self._client is not None:
            fence = f"{FENCE}: {self.fence}\r\n" if self.fence else ""
            header = f"Nats-Msg-Id: {output.id}\r\n{fence}".encode()
            self._client.publish(output.subject.encode(), output.payload, self._base + b"%d" % number, header)

    def resend(self, older_than: float | None = None) -> None:
        """Send again what has waited longer than so many seconds, `RESEND_S` without."""
        if not self._may_send():
            return
        older_than = RESEND_S if older_than is None else older_than
        now = asyncio.get_running_loop().time()
        for number, (output, sent) in list(self._unacked.items()):
            if now - sent >= older_than:
                self._unacked[number] = (output, now)
                self._publish(number, output)

    def _on_acks(self, frames: list[Frame]) -> None:
        was_full = self.full
        for frame in frames:
            number = int(frame[0].rsplit(b".", 1)[1])
            if not frame[3]:
                self.refused = "the stream does not answer"
                continue
            ack = _decode_ack(frame[3])
            if ack.error is not None:
                self.refused = str(ack.error.get("description"))
                continue
            if self._unacked.pop(number, None) is not None:
                self.refused = ""
                if ack.stream == EVENTS:
                    self.events_seq = max(self.events_seq, ack.seq)
                elif ack.stream == DEAD:
                    self.dead_seq = max(self.dead_seq, ack.seq)
        if self._watched is not None:
            self._look_for_watched(frames)
        if self._waiters:
            self._wake()
        if was_full and not self.full:
            self._on_drained()

    def _wake(self) -> None:
        oldest = next(iter(self._unacked), None)
        for number, future in self._waiters:
            if (oldest is None or oldest > number) and not future.done():
                future.set_result(None)
        self._waiters = [waiter for waiter in self._waiters if not waiter[1].done()]

    async def acknowledged(self, number: int) -> None:
        """Wait until all outputs up to this number are acknowledged; what was refused is sent again meanwhile.

        Raises `UnavailableError` when it was detached before."""
        while (oldest := next(iter(self._unacked), None)) is not None and oldest <= number:
            if self._gone:
                raise UnavailableError("it is published here no longer")
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append((number, future))
            try:
                async with asyncio.timeout(RESEND_S):
                    await future
            except TimeoutError:
                self.resend()

    def settle(self, stored: set[str]) -> None:
        """Take outputs whose ids are in their stream as acknowledged."""
        for number, (output, _) in list(self._unacked.items()):
            if output.id in stored:
                del self._unacked[number]
        self._wake()
