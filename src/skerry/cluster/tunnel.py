"""A member's nats-server, reached from another node through the member's join port: mutual TLS, and a secret of members besides.

A node that stands by has no log of its own yet. It opens a port on loopback; what connects there is carried to the join port of a
member, and from there to that member's nats-server, which listens on loopback only. After `Hello` the node sends one line, `Way`;
the member answers `Through`, and from then on both sides are bytes of the NATS protocol.
"""

import asyncio
import hashlib
import hmac
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from ssl import SSLObject

import msgspec

from skerry.cluster.join_port import Carry
from skerry.cluster.joining import ANSWER_S, CA, CERTIFICATE, KEY, connected, line_of
from skerry.core import log
from skerry.core.errors import RejectedError, SkerryError, UnavailableError
from skerry.core.service import cancel_and_wait

PIECE = 64 * 1024
_log = log.get("cluster")
Target = tuple[str, int, str, str]
"""Host and port of a nats-server, user and password there."""


class Way(msgspec.Struct, frozen=True):
    """A node asks to be carried to the member's nats-server. `way`: see `proof_of`."""

    way: str


class Through(msgspec.Struct, frozen=True, omit_defaults=True):
    """The member's answer: who to be there, or why not."""

    user: str = ""
    password: str = ""
    error: str = ""


def proof_of(seed: str) -> str:
    """What shows that a node is a member, besides its certificate: devices have certificates of the same authority."""
    return hmac.new(seed.encode(), b"to a member's nats-server", hashlib.sha256).hexdigest()


def carrier(proof: str, known: Callable[[str], bool], target: Callable[[], Target | None]) -> Carry:
    """What a join port does with a connection that begins with `Way`.

    Args:
        known: whether a node of this name is a member.
        target: where the nats-server is; None while nobody may use it.
    """

    async def carry(line: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        place = target()
        refusal = _refusal(line, proof, writer.get_extra_info("ssl_object"), known)
        if not refusal and place is None:
            refusal = "the log of this member is not there at the moment"
        if refusal or place is None:
            writer.write(msgspec.json.encode(Through(error=refusal)) + b"\n")
            return
        host, port, user, password = place
        near, far = await asyncio.open_connection(host, port)
        writer.write(msgspec.json.encode(Through(user, password)) + b"\n")
        await _join((reader, writer), (near, far))

    return carry


def _refusal(line: bytes, proof: str, tls: SSLObject | None, known: Callable[[str], bool]) -> str:
    try:
        asked = msgspec.json.decode(line, type=Way)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return "that is not understood"
    shown = tls.getpeercert() if tls is not None else None
    if not shown or not hmac.compare_digest(asked.way, proof):
        return "that is no member of this cluster"
    subject: tuple[tuple[tuple[str, str], ...], ...] = shown.get("subject", ())  # type: ignore[assignment]  # typeshed: any value
    names = [value for part in subject for key, value in part if key == "commonName"]
    if not names or not known(names[0]):
        return f"{names[0] if names else 'a node without a name'} is no member of this cluster"
    return ""


End = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _join(one: End, other: End) -> None:
    """Carry bytes both ways until one side ends."""
    ways = [asyncio.create_task(_carry(one[0], other[1])), asyncio.create_task(_carry(other[0], one[1]))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await cancel_and_wait(*ways)
        for _, writer in (one, other):
            writer.close()


async def _carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while piece := await source.read(PIECE):
            sink.write(piece)
            await sink.drain()


class Tunnel:
    """A port on loopback that leads to a member's nats-server: `async with Tunnel(…) as tunnel:`.

    Args:
        folder: certificate and key of this node, and the authority.
        addresses: join ports of members, tried in turn; asked each time.

    Attributes:
        login: user and password there, as the member said last; empty as long as none was reached.
        trouble: why it led nowhere the last time.
    """

    def __init__(self, folder: Path, proof: str, addresses: Callable[[], Sequence[str]]) -> None:
        self.port = 0
        self.login = ("", "")
        self.trouble = ""
        self._folder = folder
        self._proof = proof
        self._addresses = addresses
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "Tunnel":
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        await cancel_and_wait(*self._tasks)

    async def target(self) -> Target:
        """Where it begins, and who to be at its end. Raises `UnavailableError` where no member answers."""
        if not self.login[0]:
            await self._through(None)
        return ("127.0.0.1", self.port, *self.login)

    def forget(self) -> None:
        """Ask anew who to be: the member may be another, or have another password."""
        self.login = ("", "")

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._through((reader, writer))
        except SkerryError as error:
            self.trouble = str(error)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _through(self, ends: End | None) -> None:
        """One connection to a member; without ends it is only learned who to be there."""
        trouble: SkerryError = UnavailableError("no member's address is known", where="cluster")
        for address in self._addresses():
            try:
                ca = await asyncio.to_thread((self._folder / CA).read_text, "utf-8")
                async with connected(address, ca, (self._folder / CERTIFICATE, self._folder / KEY)) as (reader, writer, _):
                    writer.write(msgspec.json.encode(Way(self._proof)) + b"\n")
                    answer = await line_of(reader, Through, ANSWER_S, address)
                    if answer.error:
                        raise UnavailableError(answer.error, where=address)
                    self.login, self.trouble = (answer.user, answer.password), ""
                    if ends is not None:
                        await _join(ends, (reader, writer))
                    return
            except (UnavailableError, RejectedError) as error:
                trouble = error
            except OSError as error:
                trouble = UnavailableError(f"cannot be read: {error.strerror}", where=str(self._folder))
        self.trouble = str(trouble)
        raise trouble
