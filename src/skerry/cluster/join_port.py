"""The port where nodes join: says who this is, checks a token or waits for a person, and gives out a certificate."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Protocol, Self

import msgspec

from skerry.cluster.admission import LONGEST_LINE, Answer, Ask, Hello, code_of, judge
from skerry.cluster.config import ClusterConfig
from skerry.cluster.join_tokens import JoinTokens
from skerry.cluster.members import EdgeNode
from skerry.cluster.tickets import check_token, mint, new_ticket
from skerry.core import log
from skerry.core.clock import SECOND, Clock
from skerry.core.errors import RejectedError, SkerryError, UnavailableError
from skerry.core.service import cancel_and_wait
from skerry.runtime import TlsListener
from skerry.trust import Issued, SigningKey, certificate_facts, issue_node, verify_strict

ASK_S = 10.0
APPROVAL_S = 600.0
MOST = 32
MOST_EACH = 8
MOST_PENDING = 16
MOST_NAMES = 64
TOKEN_S = 3600
LONGEST_S = 7 * 86_400
OPENING = b'{"way":'
Carry = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
_log = log.get("cluster")


class Membership(Protocol):
    """What the port asks of the cluster: `ClusterManager` is one."""

    def members(self) -> list[EdgeNode]: ...

    @property
    def tokens(self) -> JoinTokens:
        """With which nodes join."""
        ...

    async def readmit(self, node: str) -> None:
        """Let a node in that was removed before."""
        ...


class Pending(msgspec.Struct, frozen=True):
    """A node that waits for a person. `code`: to be compared with what it shows itself."""

    node: str
    address: str
    code: str


class JoinPort:
    """Lets nodes join. `async with JoinPort(…) as port:`; 32 connections at once, 16 of which may wait for a person.

    Args:
        authority: the site's CA, which signs the certificates of nodes.
        key: signs tokens; the same on all members.
        tls: of this port: a certificate of the authority.
        share: what a node is given that has joined: all that members have in common.
        noted: told `node joined` or `join refused`, the node, and why.
    """

    def __init__(
        self,
        config: ClusterConfig,
        cluster: Membership,
        authority: Issued,
        key: SigningKey,
        tls: Callable[[], ssl.SSLContext],
        share: Callable[[], Mapping[str, str]],
        clock: Clock,
        noted: Callable[[str, str, str], None] = lambda event, node, reason: None,
    ) -> None:
        self.port = 0
        self._noted = noted
        self._config = config
        self._cluster = cluster
        self._authority = authority
        self._key = key
        self._tls = tls
        self._share = share
        self._clock = clock
        self._listener: TlsListener | None = None
        self._talks: set[asyncio.Task[None]] = set()
        self.through: Carry | None = None
        self._pending: dict[str, tuple[Pending, asyncio.Future[bool]]] = {}

    async def listen(self, host: str, port: int) -> int:
        """Listen; port 0 asks the kernel. Raises `UnavailableError`."""
        try:
            self._listener = TlsListener(host, port, self._tls, self._protocol, most=lambda: MOST, each=MOST_EACH)
        except OSError as error:
            raise UnavailableError(f"cannot listen on {host}:{port}: {error.strerror}", where="cluster.listen") from error
        self._listener.start()
        self.port = self._listener.port
        return self.port

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop. Nodes that wait are told nothing and try again."""
        if self._listener is not None:
            self._listener.close()
        await cancel_and_wait(*self._talks)

    async def new_token(self, ttl_s: float = TOKEN_S) -> str:
        """A token with which one node may join once, within so many seconds. Raises `RejectedError` for more than a week,
        `UnavailableError` without a quorum."""
        if not 0 < ttl_s <= LONGEST_S:
            raise RejectedError(f"{ttl_s:g} s is no time for a token", mend="a week is the most")
        facts = certificate_facts(self._authority.certificate)
        addresses = tuple(dict.fromkeys([self._config.address, *(node.address for node in self._cluster.members())]))
        expires = self._clock.now() // SECOND + round(ttl_s)
        ticket = new_ticket(self._config.site, expires, facts.fingerprint, tuple(filter(None, addresses)))
        await self._cluster.tokens.issue(ticket.id)
        return mint(ticket, self._key.sign)

    def pending(self) -> list[Pending]:
        """Nodes that wait for a person, by name."""
        return sorted((each for each, _ in self._pending.values()), key=lambda each: each.node)

    def approve(self, node: str, code: str) -> None:
        """Let a node in that waits with this code. Raises `RejectedError` where none does."""
        found = self._pending.get(node)
        if found is None or found[0].code != code or found[1].done():
            raise RejectedError(
                f"no node {node} waits with the code {code}", mend="run `cluster join` there, and compare the codes"
            )
        found[1].set_result(True)

    # one connection

    def _protocol(self) -> asyncio.StreamReaderProtocol:
        return asyncio.StreamReaderProtocol(asyncio.StreamReader(LONGEST_LINE), self._talk)

    def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._talks) >= MOST:
            writer.close()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._talks.add(task)
        task.add_done_callback(self._talks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        began = self._clock.monotonic()
        try:
            self._send(writer, self._hello())
            async with asyncio.timeout(ASK_S):
                line = await reader.readuntil(b"\n")
            took = self._clock.monotonic() - began
            if self.through is not None and line.startswith(OPENING):
                await self.through(line, reader, writer)
            else:
                await self._answer(line, took, reader, writer)
            async with asyncio.timeout(ASK_S):
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return
        finally:
            writer.close()
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(1):
                    await writer.wait_closed()

    def _hello(self) -> Hello:
        config = self._config
        ca = self._authority.certificate.decode()
        return Hello(config.node, config.site, config.version, self._clock.now(), ca, config.address)

    def _send(self, writer: asyncio.StreamWriter, said: msgspec.Struct) -> None:
        writer.write(msgspec.json.encode(said) + b"\n")

    async def _answer(self, line: bytes, took: float, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name = ""
        try:
            ask = msgspec.json.decode(line, type=Ask)
            name = ask.node
            warnings = judge(ask, self._hello(), self._cluster.members(), took)
            if ask.token:
                await self._check(ask)
            elif not await self._approved(ask, reader, writer):
                return
            # a person may have taken minutes: another may have the name by now
            judge(ask, self._hello(), self._cluster.members(), APPROVAL_S)
            self._send(writer, await self._welcome(ask, warnings))
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            self._send(writer, Answer(error=f"that is no request to join: {error}", mend="is skerry there of the same version?"))
        except SkerryError as error:
            _log.warning(f"a node was not let in: {error.message}")
            self._noted("join refused", name, error.message)
            self._send(writer, Answer(error=error.message, mend=error.mend))

    async def _check(self, ask: Ask) -> None:
        """Take the token. Raises `RejectedError`."""
        ticket = check_token(ask.token, self._signed, self._config.site, self._clock.now())
        await self._cluster.tokens.spend(ticket.id)

    def _signed(self, message: bytes, signature: bytes) -> bool:
        return verify_strict(self._key.public, message, signature)

    async def _approved(self, ask: Ask, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Wait for a person, as long as the node does."""
        if ask.node in self._pending or len(self._pending) >= MOST_PENDING:
            raise RejectedError(f"{ask.node} waits already, or too many do", mend="approve those that wait, or use a token")
        decision: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        code = code_of(ask.request)
        self._pending[ask.node] = (Pending(ask.node, ask.address, code), decision)
        self._send(writer, Answer(pending=code))
        _log.info(f"{ask.node} ({ask.address}) wants to join, code {code}: approve it, or let it wait")
        gone = asyncio.get_running_loop().create_task(reader.read(1))
        try:
            waiting: set[asyncio.Future[Any]] = {decision, gone}
            await asyncio.wait(waiting, timeout=APPROVAL_S, return_when=asyncio.FIRST_COMPLETED)
            if not decision.done() and not gone.done():
                raise RejectedError("nobody approved it within ten minutes", mend="join again, or use a token")
            return decision.done()
        finally:
            self._pending.pop(ask.node, None)
            await cancel_and_wait(gone)

    async def _welcome(self, ask: Ask, warnings: tuple[str, ...]) -> Answer:
        names = tuple(dict.fromkeys((*_host(ask.address), *ask.names)))[:MOST_NAMES]
        certificate = issue_node(self._authority, ask.request.encode(), ask.node, names, self._clock.now())
        await self._cluster.readmit(ask.node)
        _log.info(f"{ask.node} ({ask.address}) has joined")
        self._noted("node joined", ask.node, "by its token" if ask.token else "a person approved it")
        return Answer(
            warnings=warnings, certificate=certificate.decode(), members=tuple(self._cluster.members()), share=dict(self._share())
        )


def _host(address: str) -> tuple[str, ...]:
    host = address.rpartition(":")[0].strip("[]")
    return (host,) if host else ()
