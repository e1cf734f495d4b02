"""The streams are led where the cluster is led: what dies elsewhere then leads nothing, and no election holds anybody up.

A stream whose leader dies takes nothing for 4 s to 9 s, which nats-server fixes; one that is given away, for about 0.04 s.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from skerry.broker import WireClient, api
from skerry.core import log
from skerry.core.errors import RejectedError, SkerryError

EVERY_S = 5.0
CALM_LOOKS = 3
"""So many looks in a row must have found this node leading and all servers current."""
_log = log.get("cluster")


class Gathering:
    """Has this node's server lead all replicated streams while this node leads the cluster.

    Args:
        server: name of the node's own server.
    """

    def __init__(self, server: str, leads: Callable[[], bool]) -> None:
        self._server = server
        self._leads = leads

    async def run(self, client: WireClient) -> None:
        """Look every 5 s until the connection ends."""
        calm = 0
        while not client.closed.done():
            await asyncio.sleep(EVERY_S)
            if not self._leads():
                calm = 0
                continue
            try:
                strayed = await strayed_streams(client, self._server)
                calm = 0 if strayed is None else calm + 1
                for stream in strayed or () if calm >= CALM_LOOKS else ():
                    await api(client, f"STREAM.LEADER.STEPDOWN.{stream}", {"placement": {"preferred": self._server}})
                    _log.info(f"{stream} is led here now, as the cluster is")
            except RejectedError as error:
                _log.info(f"a stream is led elsewhere: {error}")
            except SkerryError as error:  # there may be no quorum; the next look may be better
                _log.debug(f"the streams were not looked at: {error}")
                calm = 0


async def strayed_streams(client: WireClient, server: str) -> list[str] | None:
    """Replicated streams that another server leads; None while a server is behind or away."""
    found: list[str] = []
    names = (await api(client, "STREAM.NAMES")).get("streams") or []
    for name in names:
        cluster: dict[str, Any] = (await api(client, f"STREAM.INFO.{name}")).get("cluster") or {}
        replicas = cluster.get("replicas") or []
        if not replicas:
            continue
        if not cluster.get("leader") or not all(each.get("current") and not each.get("offline") for each in replicas):
            return None
        if cluster["leader"] != server:
            found.append(name)
    return found
