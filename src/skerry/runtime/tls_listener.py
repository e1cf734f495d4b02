"""A listener for TLS whose handshakes are bounded and cannot take the event loop from what is under way."""

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from skerry.core.log import get
from skerry.core.service import cancel_and_wait

HANDSHAKE_S = 10.0
TIRED_S = 0.5
BACKLOG = 4096


class TlsListener:
    """Listens from when it is made, accepts while `run` does.

    One connection is taken each time the loop comes round: in a storm of them those that have begun, and what they wait for, are
    not kept waiting by more that begin. The rest waits in the kernel.

    Args:
        host, port: port 0 asks the kernel. Raises `OSError` when it cannot be had.
        context: of the TLS server, asked for each connection.
        factory: makes the protocol of a connection whose handshake is done.
        most: handshakes that may be under way now; a connection that comes on top is closed.
        each: of them those of one address.
        failed: told the address and why, in a few words, for each handshake that came to nothing.
    """

    def __init__(
        self,
        host: str,
        port: int,
        context: Callable[[], ssl.SSLContext],
        factory: Callable[[], asyncio.Protocol],
        *,
        most: Callable[[], int],
        each: int,
        failed: Callable[[str, str], None] | None = None,
    ) -> None:
        self._socket = _listen(host, port)
        self.port: int = self._socket.getsockname()[1]
        self._context = context
        self._factory = factory
        self._most = most
        self._each = each
        self._failed = failed
        self._task: asyncio.Task[None] | None = None
        self._shaking: set[asyncio.Task[None]] = set()
        self._of: Counter[str] = Counter()

    def start(self) -> None:
        """Accept in a task of its own, until `close`."""
        self._task = asyncio.get_running_loop().create_task(self.run())

    def close(self) -> None:
        """Stop accepting."""
        if self._task is not None:
            self._task.cancel()

    async def run(self) -> None:
        """Accept until cancelled; then the port is free again. Connections that are up stay up."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    raw, peer = await loop.sock_accept(self._socket)
                except OSError as error:
                    get("tls").error(f"a connection cannot be taken: {error.strerror}; trying again")
                    await asyncio.sleep(TIRED_S)
                    continue
                self._take(raw, str(peer[0]))
                await asyncio.sleep(0)
        finally:
            self._socket.close()
            await cancel_and_wait(*self._shaking)

    def _take(self, raw: socket.socket, address: str) -> None:
        if len(self._shaking) >= self._most() or self._of[address] >= self._each:
            raw.close()
            return
        self._of[address] += 1
        task = asyncio.get_running_loop().create_task(self._shake(raw, address))
        self._shaking.add(task)
        task.add_done_callback(self._shaking.discard)

    async def _shake(self, raw: socket.socket, address: str) -> None:
        """The handshake; what comes of it lives on by itself."""
        try:
            with suppress(OSError):
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().connect_accepted_socket(
                self._factory, raw, ssl=self._context(), ssl_handshake_timeout=HANDSHAKE_S
            )
        except asyncio.CancelledError:
            raw.close()
            raise
        except (OSError, TimeoutError) as error:  # of which those of TLS are kinds
            raw.close()
            if self._failed is not None:
                self._failed(address, _reason(error))
        finally:
            self._of[address] -= 1
            if not self._of[address]:
                del self._of[address]


def _reason(error: Exception) -> str:
    """Why a handshake failed, in a few words."""
    return (getattr(error, "reason", None) or str(error) or "it went away").lower().replace("_", " ")


def _listen(host: str, port: int) -> socket.socket:
    family, both = (socket.AF_INET6, host == "::" and socket.has_dualstack_ipv6()) if ":" in host else (socket.AF_INET, False)
    listener = socket.create_server((host, port), family=family, backlog=BACKLOG, dualstack_ipv6=both)
    listener.setblocking(False)
    return listener
