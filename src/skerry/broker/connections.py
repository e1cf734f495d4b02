"""Whose a connection is, and ending all that a device has: asked of the server over its system account, on one connection."""

import asyncio
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from skerry.broker.wire import WireClient
from skerry.core.clock import from_rfc3339
from skerry.core.errors import UnavailableError

MOST_REMEMBERED = 4096
PAGE = 1024
MOST_PAGES = 100
MOST_PRESENT = 16 * PAGE
_ALL_STATES = 2
_CLOSING_S = (0.0, 0.02, 0.1)
"""A connection that is ending is for a moment neither among the open nor among the closed ones."""


class Presence(msgspec.Struct):
    """What the server knows of one device: how many connections it has, their client ids, since when, when it last said
    something or left (microseconds; 0: not known), and what came over the open ones."""

    connections: int = 0
    client_ids: list[str] = []
    since: int = 0
    last: int = 0
    messages: int = 0
    bytes: int = 0


class Connections:
    """What the server knows of its clients; `connect` opens a connection of the system account.

    A device that logs in at the very moment it is kicked stays out: a grant that was decided upon before the kick is not given,
    and one that was given and of which the server knows nothing yet is ended by its number.
    """

    def __init__(self, connect: Callable[[], Awaitable[WireClient]]) -> None:
        self._connect = connect
        self._client: WireClient | None = None
        self._connecting = asyncio.Lock()
        self._server = ""
        self._moment = 0
        self._kicked: OrderedDict[str, int] = OrderedDict()
        self._forgotten = 0
        self._granted: OrderedDict[tuple[str, int], str] = OrderedDict()

    def moment(self) -> int:
        """Stands for now, for `granting`."""
        return self._moment

    def granting(self, server: str, connection: int, device: str, since: int) -> bool:
        """Whether a grant that was decided upon since a moment may be given; then it is remembered for a while."""
        if self._kicked.get(device, self._forgotten) > since:
            return False
        self._granted[server, connection] = device
        self._granted.move_to_end((server, connection))
        if len(self._granted) > MOST_REMEMBERED:
            self._granted.popitem(last=False)
        return True

    async def kick(self, device: str) -> int:
        """End all connections that a device has; answers how many. Raises `UnavailableError` when the server does not answer."""
        self._moment += 1
        self._kicked[device] = self._moment
        self._kicked.move_to_end(device)
        if len(self._kicked) > MOST_REMEMBERED:
            self._forgotten = max(self._forgotten, self._kicked.popitem(last=False)[1])
        mine = {number for number, owner in self._granted.items() if owner == device}
        ended = 0
        for _ in range(MOST_PAGES):
            page = await self._find(user=device)
            mine |= {(self._server, int(one["cid"])) for one in page}
            ended += sum(await asyncio.gather(*[self._end(*number) for number in mine if number[0] == self._server]))
            if len(page) < PAGE:
                break
            mine.clear()
        return ended

    async def device_of(self, connection: int) -> str:
        """Who has or had a connection; empty when the server does not remember. Raises `UnavailableError`."""
        for wait in _CLOSING_S:
            await asyncio.sleep(wait)
            if found := await self._find(cid=connection, state=_ALL_STATES):
                return str(found[0].get("authorized_user", ""))
        return ""

    async def has_client(self, client_id: str) -> bool:
        """Whether a client with this id is connected. Raises `UnavailableError`."""
        return bool(await self._find(mqtt_client=client_id))

    async def presence(self, device: str = "") -> dict[str, Presence]:
        """Who is there, and who was lately, by device; of one device or of all. Of more than `MOST_PRESENT` connections some are
        left out. Raises `UnavailableError`."""
        found: dict[str, Presence] = {}
        given = {"user": device} if device else {}
        for at in range(0, MOST_PRESENT, PAGE):
            page = await self._find(state=_ALL_STATES, offset=at, **given)
            for one in page:
                _add(found.setdefault(str(one.get("authorized_user", "")), Presence()), one)
            if len(page) < PAGE:
                break
        return found

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    async def _end(self, server: str, connection: int) -> bool:
        self._granted.pop((server, connection), None)
        return "error" not in await self._ask(f"$SYS.REQ.SERVER.{server}.KICK", {"cid": connection})

    async def _find(self, **wanted: Any) -> list[dict[str, Any]]:
        # not PING.CONNZ: that all servers of a cluster answer
        answer = await self._ask("$SYS.REQ.SERVER.{own}.CONNZ", {"auth": True, "limit": PAGE, **wanted})
        return answer.get("data", {}).get("connections") or []

    async def _ask(self, subject: str, question: dict[str, Any]) -> dict[str, Any]:
        """One question; `{own}` in its subject is the server's id. On a connection that has ended it is asked again."""
        for last_try in (False, True):
            client = await self._connected()
            try:
                asked = subject.format(own=client.server_id).encode()
                answer: dict[str, Any] = json.loads((await client.request(asked, json.dumps(question).encode()))[3])
                self._server = client.server_id
                return answer
            except UnavailableError:
                if last_try or not client.closed.done():
                    raise
        raise AssertionError

    async def _connected(self) -> WireClient:
        async with self._connecting:
            if self._client is None or self._client.closed.done():
                self._client = await self._connect()
            return self._client


def _add(found: Presence, one: dict[str, Any]) -> None:
    """One connection, open or closed, to what is known of its device."""
    at = [_moment(one.get(name)) for name in ("last_activity", "stop")]
    found.last = max(found.last, *at)
    if one.get("stop"):
        return
    found.connections += 1
    began = _moment(one.get("start"))
    found.since = min(found.since or began, began)
    found.messages += int(one.get("in_msgs") or 0)
    found.bytes += int(one.get("in_bytes") or 0)
    if client_id := one.get("mqtt_client"):
        found.client_ids.append(str(client_id))


def _moment(text: object) -> int:
    try:
        return max(0, from_rfc3339(str(text))) if text else 0
    except ValueError:
        return 0
