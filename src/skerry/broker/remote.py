"""A connection to somebody else's nats-server: with TLS, and with a token or NATS credentials where it asks for them.

Source: docs.nats.io, "NATS client protocol" (INFO, CONNECT) and "JWTs and nkeys": the client signs the server's nonce.
"""

import asyncio
import base64
import json
import ssl
from contextlib import suppress
from typing import Protocol, Self, cast

import msgspec

from skerry.broker.wire import WireClient
from skerry.core.errors import UnavailableError

PING_S = 10.0


class Signer(Protocol):
    """Who signs the server's nonce."""

    def sign(self, message: bytes) -> bytes: ...


class Login(msgspec.Struct, frozen=True):
    """Who we are: user and password, a token, or a JWT and the pair whose public half it names."""

    name: str
    user: str = ""
    password: str = ""
    token: str = ""
    jwt: str = ""
    pair: Signer | None = None

    def packet(self, nonce: str, tls: bool) -> bytes:
        """The CONNECT line, and a PING that is answered when it is accepted."""
        fields: dict[str, object] = {"verbose": False, "pedantic": False, "name": self.name, "lang": "skerry", "version": "1"}
        fields |= {"protocol": 1, "headers": True, "no_responders": True, "echo": False, "tls_required": tls}
        if self.user:
            fields |= {"user": self.user, "pass": self.password}
        if self.token:
            fields["auth_token"] = self.token
        if self.pair is not None:
            signature = base64.urlsafe_b64encode(self.pair.sign(nonce.encode())).decode().rstrip("=")
            fields |= {"jwt": self.jwt, "sig": signature}
        return b"CONNECT " + json.dumps(fields).encode() + b"\r\nPING\r\n"


class RemoteClient(WireClient):
    """A wire client for a server far away: made with `reach`; a connection on which nobody answers is ended."""

    def __init__(self, login: Login, tls: ssl.SSLContext | None, host: str) -> None:
        super().__init__(b"later")
        self._who = login
        self._context = tls
        self._host = host
        self._upgrading: asyncio.Task[None] | None = None
        self._pinging: asyncio.Task[None] | None = None

    @classmethod
    async def reach(cls, host: str, port: int, login: Login, tls: ssl.SSLContext | None, timeout: float) -> Self:
        """Connect and log in. Raises `UnavailableError` when the server does not answer in time or refuses."""
        client = cls(login, tls, host)
        try:
            async with asyncio.timeout(timeout):
                await client._loop.create_connection(lambda: client, host, port)
                await client._ready
        except (OSError, TimeoutError) as error:
            client.close()
            raise UnavailableError(f"the server does not answer: {str(error) or 'time-out'}", where=f"{host}:{port}") from error
        except UnavailableError as error:
            client.close()
            raise UnavailableError(error.message, where=f"{host}:{port}", mend="see whether the credentials are right") from error
        client.subscribe(client.inbox + b".*", client._on_replies)
        client._pinging = asyncio.create_task(client._watch())
        return client

    def _greet(self, info: bytes) -> None:
        self._login = b""
        fields = json.loads(info)
        wanted = bool(fields.get("tls_required"))
        if self._context is None and wanted:
            self.error = "the server asks for TLS (write tls:// for nats://)"
            self.close()
        elif self._context is None:
            self._write(self._who.packet(str(fields.get("nonce", "")), False))
        else:
            self._upgrading = asyncio.create_task(self._upgrade(self._context, str(fields.get("nonce", ""))))

    async def _upgrade(self, context: ssl.SSLContext, nonce: str) -> None:
        assert self._transport is not None
        try:
            secure = await self._loop.start_tls(self._transport, self, context, server_hostname=self._host)
        except (OSError, ssl.SSLError) as error:
            if not self._ready.done():
                self._ready.set_exception(UnavailableError(f"TLS cannot be agreed on: {error}"))
            return
        self._transport = cast(asyncio.Transport, secure)
        self._write(self._who.packet(nonce, True))

    async def _watch(self) -> None:
        """Half-open connections: who does not answer a ping is not there."""
        while not self.closed.done():
            await asyncio.sleep(PING_S)
            try:
                await self.flush(PING_S)
            except UnavailableError:
                if self._transport is not None:
                    self._transport.abort()
                return

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for task in (self._upgrading, self._pinging):
            if task is not None:
                task.cancel()

    def close(self) -> None:
        """Close the connection; what was written is sent first."""
        with suppress(RuntimeError):
            super().close()
