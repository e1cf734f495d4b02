"""The log-in call-out: nats-server asks about every client that is none of the node's own, and gets a signed answer."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Protocol

from skerry.broker.claims import (
    Claims,
    ConnectRequest,
    Decision,
    Grant,
    Refusal,
    read_request,
    response_claims,
    user_claims,
)
from skerry.broker.connections import Connections
from skerry.broker.wire import Frame, WireClient
from skerry.core import log
from skerry.core.clock import Clock
from skerry.core.errors import SkerryError
from skerry.core.service import cancel_and_wait

SUBJECT = b"$SYS.REQ.USER.AUTH"
GROUP = b"skerry"
Decide = Callable[[ConnectRequest], Awaitable[Decision]]
Noted = Callable[[str, str, str], None]
_log = log.get("broker")


class Signer(Protocol):
    """The issuer's key: the server was told its public half (`auth_callout.issuer`)."""

    @property
    def public(self) -> str: ...

    def sign(self, claims: Claims) -> str: ...

    def verify_server(self, token: bytes) -> Claims:
        """The claims of a token that a server signed. Raises `RejectedError`."""
        ...


class Callout:
    """Answers the server's questions on the node's own connection, until it ends.

    Whatever goes wrong with one question, the answer is a refusal and the next one is served. What comes on top of `at_most`
    questions at once is answered with an empty message, which the server takes as a refusal; a decision that takes longer
    than `patience` (seconds; below the server's `authorization.timeout`) is a refusal too. `refused` counts those by reason;
    pass the counter that outlives the connection. With `connections`, a device that was kicked meanwhile is refused. `noted` is
    told of each refusal that `decide` does not know of: reason, who, from where.
    """

    def __init__(
        self,
        client: WireClient,
        signer: Signer,
        decide: Decide,
        clock: Clock,
        *,
        account: str = "AGENT",
        at_most: int = 512,
        patience: float = 1.8,
        refused: Counter[str] | None = None,
        connections: Connections | None = None,
        noted: Noted | None = None,
    ) -> None:
        self.ready = asyncio.Event()
        self.refused = Counter() if refused is None else refused
        self._client = client
        self._signer = signer
        self._decide = decide
        self._clock = clock
        self._account = account
        self._at_most = at_most
        self._patience = patience
        self._connections = connections
        self._noted = noted
        self._asked: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve until cancelled or until the connection ends. Raises `UnavailableError` when the server does not answer."""
        subscription = self._client.subscribe(SUBJECT, self._take, GROUP)
        try:
            await self._client.flush()
            self.ready.set()
            await asyncio.shield(self._client.closed)
        finally:
            self.ready.clear()
            self._client.unsubscribe(subscription)
            await cancel_and_wait(*self._asked)

    def _take(self, frames: list[Frame]) -> None:
        for _, reply, _, token in frames:
            if not reply:
                continue
            if len(self._asked) >= self._at_most:
                self._count("overload")
                self._client.publish(reply, b"")
                continue
            task = asyncio.create_task(self._answer(reply, token))
            self._asked.add(task)
            task.add_done_callback(self._asked.discard)

    async def _answer(self, reply: bytes, token: bytes) -> None:
        answer = b""
        try:
            request = read_request(self._signer.verify_server(token), self._signer.public)
            began = self._connections.moment() if self._connections else 0
            answer = self._signed(request, self._unless_kicked(request, await self._decision(request), began)).encode()
        except Exception as error:  # noqa: BLE001 - one odd question must not end the log-in of all others
            self._count("unreadable")
            _log.warning(f"a log-in question was refused: {error}", kind=type(error).__name__)
        self._client.publish(reply, answer)

    async def _decision(self, request: ConnectRequest) -> Decision:
        # The server does not hold the users of a call-out to their allowed connection types: seen with 2.15.
        if request.transport != "mqtt":
            self._count("not-mqtt", request.username, request.address)
            return Refusal("not-mqtt")
        try:
            async with asyncio.timeout(self._patience):
                return await self._decide(request)
        except TimeoutError:
            reason = "timeout"
        except SkerryError as error:
            reason = "unavailable"
            _log.warning(f"{request!r} was refused: {error}")
        except Exception as error:  # noqa: BLE001 - as above: it must not end the log-in of all others
            reason = "error"
            _log.error(f"{request!r} was refused: {error}", kind=type(error).__name__)
        self._count(reason, request.username, request.address)
        return Refusal(reason)

    def _unless_kicked(self, request: ConnectRequest, decision: Decision, began: int) -> Decision:
        if self._connections is None or isinstance(decision, Refusal):
            return decision
        if self._connections.granting(request.server, request.connection, decision.name, began):
            return decision
        self._count("kicked", decision.name, request.address)
        return Refusal("kicked")

    def _count(self, reason: str, who: str = "", address: str = "") -> None:
        self.refused[reason] += 1
        if self._noted is not None:
            self._noted(reason, who, address)

    def _signed(self, request: ConnectRequest, decision: Decision) -> str:
        now = self._clock.now()
        if isinstance(decision, Grant):
            user = self._signer.sign(user_claims(request, decision, self._account, now))
            return self._signer.sign(response_claims(request, now, user=user))
        return self._signer.sign(response_claims(request, now, error=f"refused: {decision.reason}"))
