"""A node's connections to the server that has the log: its own, or another member's through the join port."""

import asyncio
from collections.abc import Callable

from skerry.broker import NatsServer, Place, WireClient, api
from skerry.cluster import Tunnel
from skerry.core.errors import RejectedError, UnavailableError

START_S = 120.0
LOOK_S = 0.05
NOT_A_MEMBER = 10044
"""nats-server's code for a server that is none of the cluster's, such as one that was taken out before."""


class Reach:
    """One connection at a time, made anew where it has ended, or where another is wanted."""

    def __init__(self, server: NatsServer, tunnel: Tunnel) -> None:
        self.server = server
        self._tunnel = tunnel
        self._client: WireClient | None = None
        self._client_of = ("", 0, "")

    async def start_again(self, why: str, good: Callable[[Place], bool]) -> None:
        """Have the server started again, and wait until it serves. Raises `UnavailableError` after two minutes."""
        self.drop()
        self.server.start_again(why)
        try:
            async with asyncio.timeout(START_S):
                await self.until_ready(good)
        except TimeoutError as error:
            raise UnavailableError(f"the broker was not there within {START_S:g} s: {self.server.status}") from error

    async def until_ready(self, good: Callable[[Place], bool]) -> None:
        """Until the server serves, at a good place."""
        while True:
            await self.server.ready.wait()
            if good(self.server.place):
                return
            await asyncio.sleep(LOOK_S)

    async def own(self) -> WireClient:
        """A connection to this node's server."""
        server = self.server
        return await self._connected(server.host, server.port, server.user, server.password)

    async def far(self) -> WireClient:
        """A connection to a member's server, through its join port."""
        if self._client is None or self._client.closed.done():
            self._tunnel.forget()
        return await self._connected(*await self._tunnel.target())

    async def _connected(self, host: str, port: int, user: str, password: str) -> WireClient:
        if self._client is None or self._client.closed.done() or self._client_of != (host, port, password):
            self.drop()
            self._client = await WireClient.connect(host, port, user, password, "servers")
            self._client_of = (host, port, password)
        return self._client

    async def forget(self, name: str) -> None:
        """Take another server out of the cluster for good. Raises `RejectedError`, `UnavailableError`."""
        server = self.server
        client = await WireClient.connect(server.host, server.port, server.system_user, server.system_password, "servers")
        try:
            await api(client, "SERVER.REMOVE", {"peer": name})
        except RejectedError as error:
            if f"({NOT_A_MEMBER})" not in str(error):
                raise
        finally:
            client.close()

    def drop(self) -> None:
        """End the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None
