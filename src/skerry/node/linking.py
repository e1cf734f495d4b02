"""A node's connections to its log: one after the other, each with a link and a log-in call-out on it."""

import asyncio
from typing import TYPE_CHECKING

from skerry.broker import Callout, ConnectRequest, Decision, Refusal, WireClient
from skerry.core import log
from skerry.core.clock import Clock
from skerry.core.errors import SkerryError
from skerry.core.service import Backoff

if TYPE_CHECKING:
    from skerry.node.life import Node
    from skerry.trust import TokenSigner

LONG_S = 10.0
"""A connection that lasted longer is no reason to wait before the next."""
_log = log.get("node")


class Linking:
    """Keeps a connection to the broker; a service.

    Attributes:
        trouble: why the log is not ready, empty while it is.
    """

    def __init__(self, node: "Node", clock: Clock, signer: "TokenSigner") -> None:
        self.trouble = ""
        self._node = node
        self._clock = clock
        self._signer = signer

    async def run(self) -> None:
        """Connect, and again when a connection ends, until cancelled."""
        backoff, server = Backoff(0.05, 5.0), self._node.server
        while True:
            await self._node.growth.settled.wait()
            await server.ready.wait()
            if server.place.quiet:
                await asyncio.sleep(0.05)
                continue
            began = self._clock.monotonic()
            try:
                await self._one()
            except SkerryError as error:
                self.trouble = str(error)
                _log.warning(f"the log is not ready: {error}")
            if self._clock.monotonic() - began > LONG_S:
                backoff.reset()
            await asyncio.sleep(backoff.next())

    async def _one(self) -> None:
        node, server = self._node, self._node.server
        client = await WireClient.connect(server.host, server.port, server.user, server.password, "node")
        callout = Callout(
            client, self._signer, self._decide, self._clock, refused=node.login.refused, connections=node.connections,
            noted=node.devices.note_refusal,
        )  # fmt: skip
        try:
            self.trouble = ""
            await node.link.run(client, callout)
        finally:
            client.close()

    async def _decide(self, request: ConnectRequest) -> Decision:
        asked = self._node.tls.resolve(request)
        if asked is None:
            self._node.login.refused["gone"] += 1
            return Refusal("gone")
        return await self._node.login.decide(asked)
