"""Where the cluster's records are kept, read by what changed and written by compare-and-set: in memory, or in JetStream."""

import asyncio
from typing import Protocol

from skerry.broker import MIB, WireClient, bucket_plan, ensure, kv_put, parse_address, read_page
from skerry.cluster.config import ClusterConfig
from skerry.cluster.records import Entry
from skerry.core.errors import FencedError, UnavailableError
from skerry.core.units import show_duration

BUCKET = "skerry_cluster"
BUCKET_BYTES = 16 * MIB
ANSWER_S = 1.0
"""How long an answer may take: less than half a lease, so that one that is lost can be asked for again."""
PAGE = 200


class Leases(Protocol):
    """What every store of records does; its own door maps the errors."""

    async def read(self, after: int) -> dict[str, Entry]:
        """All keys whose revision is above `after`. Raises `UnavailableError`."""
        ...

    async def write(self, key: str, value: bytes, revision: int) -> int:
        """Write a key that still has this revision (0: that is not there yet); its new one.

        Raises `FencedError` where it has another, `UnavailableError` where nobody knows what came of it.
        """
        ...

    async def close(self) -> None:
        """Let go of it."""
        ...


class MemoryLeases:
    """Records of one process: a cluster of one, or several managers in one program."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._revision = 0

    async def read(self, after: int) -> dict[str, Entry]:
        return {key: entry for key, entry in self._entries.items() if entry.revision > after}

    async def write(self, key: str, value: bytes, revision: int) -> int:
        entry = self._entries.get(key)
        if (entry.revision if entry else 0) != revision:
            raise FencedError(f"{key} was written by another owner", where="cluster")
        self._revision += 1
        self._entries[key] = Entry(value, self._revision)
        return self._revision

    async def close(self) -> None:
        return


class JetStreamLeases:
    """Records in a replicated bucket of nats-server; connects again by itself.

    Args:
        addresses: `(host, port)` of the servers of the cluster, tried in turn.
        replicas: how many servers keep each record: 1, 3 or 5.
    """

    def __init__(self, addresses: tuple[tuple[str, int], ...], user: str, password: str, replicas: int = 1) -> None:
        self._addresses = addresses
        self._user = user
        self._password = password
        self._replicas = replicas
        self._client: WireClient | None = None
        self._turn = asyncio.Lock()
        self._next = 0

    async def read(self, after: int) -> dict[str, Entry]:
        client = await self._connected()
        found: dict[str, Entry] = {}
        prefix = f"$KV.{BUCKET}."
        while page := await read_page(client, f"KV_{BUCKET}", f"{prefix}>", after, PAGE, ANSWER_S):
            for stored in page:
                found[stored.subject.removeprefix(prefix)] = Entry(stored.payload, stored.sequence)
            after = page[-1].sequence
        return found

    async def write(self, key: str, value: bytes, revision: int) -> int:
        client = await self._connected()
        try:
            async with asyncio.timeout(ANSWER_S):
                return await kv_put(client, BUCKET, key, value, revision)
        except TimeoutError as error:
            waited = show_duration(ANSWER_S * 1e6)
            raise UnavailableError(f"{key} was not acknowledged within {waited}", where="cluster") from error

    async def close(self) -> None:
        if self._client is not None:
            self._client.close()
            await self._client.closed
            self._client = None

    async def _connected(self) -> WireClient:
        async with self._turn:
            if self._client is not None and not self._client.closed.done():
                return self._client
            host, port = self._addresses[self._next % len(self._addresses)]
            self._next += 1
            client = await WireClient.connect(host, port, self._user, self._password, "cluster")
            try:
                async with asyncio.timeout(5 * ANSWER_S):
                    plan = bucket_plan(BUCKET, BUCKET_BYTES, self._replicas)
                    await ensure(client, plan)
            except TimeoutError as error:
                client.close()
                raise UnavailableError(f"{host}:{port} does not answer for the bucket {BUCKET}", where="cluster") from error
            except BaseException:
                client.close()
                raise
            self._client = client
            return client


def leases_of(config: ClusterConfig) -> Leases:
    """The store of records that a configuration names; in memory where it names no servers."""
    if not config.servers:
        return MemoryLeases()
    addresses = tuple(parse_address(text, "servers") for text in config.servers)
    return JetStreamLeases(addresses, config.user, config.password, config.replicas)
