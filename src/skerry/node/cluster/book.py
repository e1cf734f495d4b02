"""What the members tell each other of their nats-servers, in a bucket: where each takes routes, and which are one."""

import msgspec

from skerry.broker import MIB, WireClient, bucket_plan, ensure, kv_get, kv_put
from skerry.cluster import Servers
from skerry.core.errors import CorruptError
from skerry.node.cluster.shrink import Fewer

BUCKET = "skerry_servers"
SERVERS, GONE, FEWER = "servers", "gone", "fewer"


class ServersBook:
    """The bucket over one connection. All calls raise `UnavailableError` while the log does not answer."""

    def __init__(self, client: WireClient) -> None:
        self._client = client

    async def begin(self) -> None:
        """Make the bucket where it is not there."""
        await ensure(self._client, bucket_plan(BUCKET, MIB))

    async def servers(self) -> tuple[Servers | None, int]:
        """Which servers are one, or are to be, and the revision of that; `growing`: they are asked to."""
        found = await kv_get(self._client, BUCKET, SERVERS)
        if found is None:
            return None, 0
        try:
            return msgspec.json.decode(found[0], type=Servers), found[1]
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise CorruptError(f"is not what a node writes: {error}", where=f"{BUCKET}/{SERVERS}") from error

    async def put(self, servers: Servers, revision: int) -> None:
        """Raises `FencedError` where another was faster."""
        await kv_put(self._client, BUCKET, SERVERS, msgspec.json.encode(servers), revision)

    async def tell_address(self, node: str, address: str) -> None:
        """Say where this node would take routes."""
        if await self.address(node) != address:
            await kv_put(self._client, BUCKET, f"routes.{node}", address.encode(), None)

    async def address(self, node: str) -> str:
        """Where a node would take routes; empty as long as it has not said."""
        found = await kv_get(self._client, BUCKET, f"routes.{node}")
        return found[0].decode() if found else ""

    async def gone(self) -> tuple[list[str], int]:
        """Nodes that a person has taken out and whose servers are still among those that are one; and the revision of that."""
        found = await kv_get(self._client, BUCKET, GONE)
        return (msgspec.json.decode(found[0], type=list[str]), found[1]) if found else ([], 0)

    async def take_out(self, node: str) -> None:
        """Note that a node is gone for good."""
        names, revision = await self.gone()
        if node not in names:
            await kv_put(self._client, BUCKET, GONE, msgspec.json.encode([*names, node]), revision)

    async def take_back(self, node: str) -> None:
        """It has come again, or it is out."""
        names, revision = await self.gone()
        if node in names:
            await kv_put(self._client, BUCKET, GONE, msgspec.json.encode([each for each in names if each != node]), revision)

    async def fewer(self) -> tuple[Fewer | None, int]:
        """The step to one server that is under way, and the revision of that."""
        found = await kv_get(self._client, BUCKET, FEWER)
        return (msgspec.json.decode(found[0], type=Fewer | None), found[1]) if found else (None, 0)

    async def put_fewer(self, plan: Fewer | None, revision: int) -> None:
        """Raises `FencedError` where another was faster."""
        await kv_put(self._client, BUCKET, FEWER, msgspec.json.encode(plan), revision)

    async def alone(self, servers: Servers) -> None:
        """Note that one server has the log, and nothing of before counts any more."""
        await kv_put(self._client, BUCKET, SERVERS, msgspec.json.encode(servers), None)
        await kv_put(self._client, BUCKET, GONE, b"[]", None)
        await kv_put(self._client, BUCKET, FEWER, b"null", None)

    async def agree(self, node: str, turn: int) -> None:
        """Say that this node's server is one of those of this turn."""
        if await self.agreed(node) != turn:
            await kv_put(self._client, BUCKET, f"agreed.{node}", b"%d" % turn, None)

    async def agreed(self, node: str) -> int:
        """The turn that a node agreed to last; 0: none yet."""
        found = await kv_get(self._client, BUCKET, f"agreed.{node}")
        return int(found[0]) if found else 0
