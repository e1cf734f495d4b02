"""TLS for MQTT and for MQTT over WebSocket, in front of nats-server's plain ports.

nats-server serves MQTT on one port, asks either all clients for a certificate or none, and a new certificate costs every device its
connection (docs/adr/0009-tls-before-nats-server.md). A port here takes TLS off and hands bytes on. It writes the first packet of a
connection anew: the password becomes a word that is good for one log-in. By that word the call-out finds what the client
really said, where it comes from, and its certificate.
"""

import asyncio
import os
import ssl
from collections.abc import Callable

from skerry.broker.callers import Callers
from skerry.broker.tls_client import Door, TlsClient
from skerry.core import log
from skerry.core.service import Backoff
from skerry.runtime import TlsListener

Address = tuple[str, int]
TELL_EVERY_S = 60.0
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_log = log.get("broker")


class TlsPort:
    """One TLS port. `run` never raises: what hinders it is in `status`, and it tries again.

    Args:
        name: of the key in the configuration: `mqtts` or `websocket`.
        listen: host and port; port 0 asks the kernel.
        target: nats-server's plain port, asked for each connection.
        context: of the TLS server, asked for each connection.
        most: connections at a time; more are closed at once.
        patience: seconds until a client has said who it is, and seconds until nats-server has taken it.
        websocket: what comes is MQTT over WebSocket.

    Attributes:
        failed: handshakes that came to nothing.
    """

    def __init__(
        self,
        name: str,
        listen: Address,
        target: Callable[[], Address],
        context: Callable[[], ssl.SSLContext],
        callers: Callers,
        most: int,
        patience: float = 10.0,
        *,
        websocket: bool = False,
    ) -> None:
        self.ready = asyncio.Event()
        self.status = f"{name} is starting"
        self.port = 0
        self.open: set[TlsClient] = set()
        self.failed = 0
        self._untold = 0
        self._tell_at = 0.0
        self._door = Door(target, callers, patience, websocket, self.open)
        self._name = name
        self._listen = listen
        self._context = context
        self._most = most

    @property
    def address(self) -> str:
        """`host:port` that listens, empty until it does; an address of this machine where it listens on all."""
        host, _ = self._listen
        return _shown(_ANY.get(host, host), self.port) if self.port else ""

    async def run(self) -> None:
        """Serve until cancelled."""
        try:
            listener = await self._bind()
            self.ready.set()
            await listener.run()
        finally:
            self.ready.clear()
            self.port, self.status = 0, f"{self._name} is stopped"
            for client in list(self.open):
                client.abort()

    async def _bind(self) -> TlsListener:
        host, port = self._listen
        backoff = Backoff(first=0.5, most=10.0)
        while True:
            try:
                listener = TlsListener(
                    host, port, self._context, lambda: TlsClient(self._door),
                    most=lambda: self._most - len(self.open), each=max(16, self._most // 4), failed=self._tell,
                )  # fmt: skip
            except OSError as error:
                # a tuple and the address are put into strerror
                why = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
                self.status = f"broker.{self._name} cannot listen on {host}:{port}: {why.lower()}"
                if not backoff.attempts:
                    _log.error(f"{self.status}; trying again")
                await asyncio.sleep(backoff.next())
            else:
                self.port = listener.port
                self.status = f"{self._name} listens on {_shown(host, self.port)}"
                _log.info(self.status)
                return listener

    def _tell(self, address: str, why: str) -> None:
        """One line a minute on handshakes that failed: of a device one often sees no more than that it does not connect."""
        self.failed += 1
        self._untold += 1
        now = asyncio.get_running_loop().time()
        if now >= self._tell_at:
            count = f"{self._untold} handshake{'' if self._untold == 1 else 's'} failed"
            _log.warning(f"{self._name}: {count}, the last by {address}: {why}")
            self._tell_at, self._untold = now + TELL_EVERY_S, 0


def _shown(host: str, port: int) -> str:
    return f"{f'[{host}]' if ':' in host else host}:{port}"
