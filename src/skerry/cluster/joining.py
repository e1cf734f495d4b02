"""Joining a cluster, from the side of the node: asks a member, checks that it is the right one, and keeps what it is given."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from skerry.broker import parse_address
from skerry.cluster.admission import LONGEST_LINE, Answer, Ask, Hello, code_of, skew_warning, version_refusal
from skerry.cluster.beacon import Found
from skerry.cluster.config import ClusterConfig
from skerry.cluster.members import EdgeNode
from skerry.cluster.tickets import read_token
from skerry.core.clock import Clock, SystemClock
from skerry.core.errors import RejectedError, UnavailableError
from skerry.core.files import replace_synced, sync_names
from skerry.runtime import machine_names
from skerry.trust import certificate_facts, new_request, signed_by

CONNECT_S = 5.0
ANSWER_S = 10.0
APPROVAL_S = 660.0
CA, CERTIFICATE, KEY, JOINED = "ca.pem", "node.pem", "node.key", "joined.json"
_OTHER = "ask another member"
Told = Callable[[str], None]
T = TypeVar("T")


class Joined(msgspec.Struct, frozen=True):
    """What a node knows that has joined.

    Attributes:
        by: the member that let it in.
        share: what all members know, by name; secrets are among it.
    """

    site: str
    by: str
    members: tuple[EdgeNode, ...]
    share: dict[str, str]
    warnings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Joined(site={self.site!r}, by={self.by!r})"


def has_joined(folder: Path) -> Joined | None:
    """What was kept of a join in this folder; None where none came to its end. Raises `UnavailableError`."""
    try:
        text = (folder / JOINED).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnavailableError(f"cannot be read: {error.strerror}", where=str(folder / JOINED)) from error
    return msgspec.json.decode(text, type=Joined)


async def join(
    config: ClusterConfig,
    folder: Path,
    *,
    token: str = "",
    addresses: tuple[str, ...] = (),
    tell: Told = lambda sentence: None,
    clock: Clock | None = None,
) -> Joined:
    """Join the cluster of which members have these addresses, or those in the token; keep keys and certificate in `folder`.

    Without a token a person has to approve the code that is told, at a member; which authority it is can then only be compared by
    people. Raises `RejectedError` with the member's sentence, `UnavailableError` where no member answers.

    Args:
        tell: called with each step, one sentence.
    """
    if has_joined(folder) is not None:
        raise RejectedError("this node has joined already", where=str(folder), mend="remove that folder to join anew")
    ticket = read_token(token) if token else None
    candidates = addresses or (ticket.addresses if ticket else ()) or config.seeds
    if not candidates:
        raise RejectedError("no member's address is known", mend="name one with --address")
    trouble: UnavailableError | None = None
    for address in candidates:
        tell(f"asking {address}")
        try:
            return await _Joining(config, folder, token, tell, clock or SystemClock()).at(address)
        except UnavailableError as error:
            trouble = error
            tell(f"{address} does not answer: {error.message}")
    assert trouble is not None
    raise trouble


class _Joining:
    """One attempt."""

    def __init__(self, config: ClusterConfig, folder: Path, token: str, tell: Told, clock: Clock) -> None:
        self._config = config
        self._folder = folder
        self._token = token
        self._authority = read_token(token).authority if token else ""
        self._tell = tell
        self._clock = clock

    async def at(self, address: str) -> Joined:
        began = self._clock.monotonic()
        async with connected(address) as (_, _, hello):
            warnings = self._check(hello, self._clock.monotonic() - began)
        # anew, now that the authority is known: who holds no certificate of a server of it gets neither token nor request
        async with connected(address, hello.ca) as (reader, writer, _):
            asked = new_request(self._config.node)
            writer.write(msgspec.json.encode(self._ask(asked.certificate.decode())) + b"\n")
            answer = await line_of(reader, Answer, ANSWER_S, address)
            if answer.pending:
                code = code_of(asked.certificate.decode())
                self._tell(f"waiting to be approved at {hello.id}: the code is {code}, and the site's CA {hello_code(hello)}")
                answer = await line_of(reader, Answer, APPROVAL_S, address)
        if answer.error:
            raise RejectedError(answer.error, where=hello.id, mend=answer.mend)
        if not signed_by(answer.certificate, hello.ca):
            raise RejectedError("the certificate that it gave is not of its own authority", where=hello.id)
        self._tell(f"{hello.id} let it in; the certificate is kept in {self._folder}")
        told = tuple(dict.fromkeys((*warnings, *answer.warnings)))
        joined = Joined(hello.site, hello.id, answer.members, answer.share, told)
        await asyncio.to_thread(keep_joined, self._folder, hello.ca, answer.certificate, asked.key, joined)
        return joined

    def _check(self, hello: Hello, took_s: float) -> tuple[str, ...]:
        """Warnings. Raises `RejectedError` where this is not the member to be asked."""
        config = self._config
        if self._authority and certificate_facts(hello.ca).fingerprint != self._authority:
            raise RejectedError(f"{hello.id} is not of the site that made the token", mend="is the address right?")
        if hello.site != config.site:
            raise RejectedError(f"{hello.id} is of the site {hello.site}, this node of {config.site}", mend="set [node] site")
        refusal = version_refusal(hello.version, config.version)
        if refusal:
            raise RejectedError(f"{hello.id}: {refusal}", mend="install a version that is at most one minor version apart")
        self._tell(f"{hello.id} is of the site {hello.site} and runs skerry {hello.version}")
        warnings = skew_warning(hello.now, self._clock.now(), took_s)
        return tuple(f"{hello.id}: {each}" for each in warnings) if not self._token else ()

    def _ask(self, request: str) -> Ask:
        config = self._config
        names = tuple(name for name in machine_names() if name not in ("127.0.0.1", "::1"))
        return Ask(config.node, config.site, config.version, self._clock.now(), config.address, names, request, self._token)


async def hello_of(address: str) -> Found:
    """Who answers at a join port; no reason to trust it. Raises `UnavailableError`."""
    async with connected(address) as (_, _, hello):
        return Found(hello.id, hello.site, hello.version, hello.address or address)


async def clock_of(address: str, clock: Clock) -> tuple[str, ...]:
    """Ask a member for the time: a sentence where its clock and this one differ. Raises `UnavailableError` where none answers."""
    began = clock.monotonic()
    async with connected(address) as (_, _, hello):
        return skew_warning(hello.now, clock.now(), clock.monotonic() - began)


def hello_code(hello: Hello) -> str:
    """The authority's fingerprint, short, for people to compare."""
    digest = certificate_facts(hello.ca).fingerprint.removeprefix("sha256:")
    return "-".join(digest[at : at + 4] for at in (0, 4, 8))


@asynccontextmanager
async def connected(
    address: str, ca: str = "", own: tuple[Path, Path] | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter, Hello]]:
    """A connection and what the other side says it is; with `ca` it holds a server's certificate of that authority.

    `own`: files of the certificate and key that are shown to it.
    """
    host, port = parse_address(address, "address")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED if ca else ssl.CERT_NONE
    try:
        if ca:
            context.load_verify_locations(cadata=ca)
        if own is not None:
            context.load_cert_chain(*own)
        async with asyncio.timeout(CONNECT_S):
            reader, writer = await asyncio.open_connection(host, port, ssl=context, limit=LONGEST_LINE)
    except ssl.SSLCertVerificationError as error:
        raise RejectedError(f"it shows no certificate of a member: {error.verify_message}", where=address, mend=_OTHER) from error
    except (OSError, TimeoutError) as error:
        raise UnavailableError(str(error) or "time-out", where=address, mend="is the node there running?") from error
    try:
        hello = await line_of(reader, Hello, ANSWER_S, address)
        yield reader, writer, hello
    finally:
        writer.close()
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(1):
                await writer.wait_closed()


async def line_of(reader: asyncio.StreamReader, kind: type[T], seconds: float, where: str) -> T:
    try:
        async with asyncio.timeout(seconds):
            return msgspec.json.decode(await reader.readuntil(b"\n"), type=kind)
    except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise UnavailableError(str(error) or f"no answer within {seconds:g} s", where=where) from error
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise RejectedError(
            f"what it says is not understood: {error}", where=where, mend="is that a cluster's join port?"
        ) from error


def keep_joined(folder: Path, ca: str, certificate: str, key: bytes, joined: Joined) -> None:
    """All on the disk; `joined.json` last, whole, and only then has it joined. Raises `UnavailableError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name, content in (
            (CA, ca.encode()),
            (CERTIFICATE, certificate.encode()),
            (KEY, key),
            (JOINED, msgspec.json.encode(joined)),
        ):
            replace_synced(folder / name, content)
        sync_names(folder)
    except OSError as error:
        raise UnavailableError(
            f"cannot be written: {error.strerror}", where=str(folder), mend="see who owns it, and the disk"
        ) from error
