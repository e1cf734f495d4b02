"""Envelopes to a stream of a central nats-server; the acknowledgement is the stream's.

Plain publishes with a message id, no leaf link: the centre sees one subject a node, nothing else (docs/adr/0015-uplink.md).
"""

import asyncio
import ssl
from urllib.parse import unquote, urlsplit

import msgspec

from skerry.broker import Frame, Login, RemoteClient, to_subject
from skerry.core.errors import ConfigError, OverloadedError, UnavailableError
from skerry.trust import KeyPair
from skerry.uplink.credentials import read_credentials
from skerry.uplink.envelope import digest_of
from skerry.uplink.targets.target import TIMEOUT_S, Place, TakeCommand

PORT = 4222
_ALLOWED = "nats://host:4222, or tls://host:4222"


class _Ack(msgspec.Struct):
    stream: str = ""
    seq: int = 0
    error: dict[str, object] | None = None


class NatsTarget:
    """One server; commands come on the node's own subject."""

    def __init__(self, place: Place, take: TakeCommand) -> None:
        parts = urlsplit(place.url)
        if parts.scheme not in ("nats", "tls") or not parts.hostname or parts.path not in ("", "/"):
            raise ConfigError(f"{place.url!r} is no nats-server", where="uplink.url", allowed=_ALLOWED)
        self._host, self._port = parts.hostname, parts.port or PORT
        self._user, self._password = unquote(parts.username or ""), unquote(parts.password or "")
        self._tls = parts.scheme == "tls"
        self._place = place
        self._take = take
        self._client: RemoteClient | None = None
        self._connecting = asyncio.Lock()
        self.where = f"{parts.scheme}://{self._host}:{self._port}"

    async def send(self, envelope: bytes) -> None:
        client = await self._connected()
        subject = to_subject(self._place.subject).encode()
        header = f"Nats-Msg-Id: {digest_of(envelope)}\r\n".encode()
        try:
            answer = await client.request(subject, envelope, header, TIMEOUT_S)
        except UnavailableError:
            client.close()
            raise
        try:
            ack = msgspec.json.decode(answer[3], type=_Ack)
        except msgspec.MsgspecError as error:
            raise UnavailableError("what answers there is no stream", where=self.where) from error
        if ack.error is not None:
            raise OverloadedError(f"the central stream refuses: {ack.error.get('description')}", where=self.where)
        if not ack.stream or not ack.seq:
            mend = f"make one that captures {subject.decode()}"
            raise UnavailableError("what answers there is no stream", where=self.where, mend=mend)

    async def _connected(self) -> RemoteClient:
        async with self._connecting:
            if self._client is None or self._client.closed.done():
                known = await asyncio.to_thread(read_credentials, self._place.credentials)
                login = Login(
                    name=f"skerry-uplink-{self._place.node}",
                    user=known.username or self._user,
                    password=known.password or self._password,
                    token=known.token,
                    jwt=known.jwt,
                    pair=KeyPair.from_seed(known.seed) if known.seed else None,
                )
                self._client = await RemoteClient.reach(self._host, self._port, login, self._context(), TIMEOUT_S / 2)
                if self._place.commands:
                    self._client.subscribe(to_subject(self._place.orders).encode(), self._on_commands)
            return self._client

    def _on_commands(self, frames: list[Frame]) -> None:
        for frame in frames:
            self._take(frame[3])

    def _context(self) -> ssl.SSLContext | None:
        if not self._tls:
            return None
        try:
            context = ssl.create_default_context(cafile=self._place.ca or None)
        except OSError as error:
            raise ConfigError("cannot be read, or holds no certificate", where=self._place.ca, mend="name a PEM file") from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()
