"""A cluster of several that are one from their first start: the real founding and joining, while none of them runs yet.

On a machine of their own: `python -m tests.cluster.born NAME=FILE … ROUTE …`.
"""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from skerry.cluster import ClusterManager, JoinPort
from skerry.cluster.servers import Servers, write_servers
from skerry.config import NodeConfig, load
from skerry.core.clock import SystemClock
from skerry.node.cluster.founding import (
    cluster_config,
    cluster_folder,
    cluster_tls,
    join_site,
    listen_address,
    prepare,
    ticket_file,
)
from skerry.node.cluster.shared import shared
from skerry.node.tls import site_authority
from skerry.trust import ServerTls, SigningKey, load_or_create

CLOCK = SystemClock()


def born_together(files: Mapping[str, Path], routes: Sequence[str]) -> None:
    """Found a cluster with the first node, let the others join it, and give all the list of their servers.

    Args:
        files: the configuration of each, by name.
        routes: `host:port` where the server of each takes routes.
    """
    configs = {name: load(file) for name, file in files.items()}
    asyncio.run(_join_all(list(configs.values())))
    servers = Servers("sea", len(configs), tuple(zip(configs, routes, strict=True)))
    for config in configs.values():
        write_servers(cluster_folder(config), servers)


async def _join_all(configs: list[NodeConfig]) -> None:
    founder, *others = configs
    founder.data_dir.mkdir(mode=0o700)
    load_or_create(founder.data_dir / "keys" / "issuer.seed")
    prepare(founder, CLOCK)
    own = cluster_config(founder)
    tls = ServerTls(cluster_tls(founder), CLOCK)
    key = SigningKey.from_pem(ticket_file(founder).read_bytes())
    async with ClusterManager(own, clock=CLOCK) as manager:
        await manager.elect_leader(60)
        authority = site_authority(founder).load()
        async with JoinPort(own, manager, authority, key, lambda: tls.context, lambda: shared(founder.data_dir), CLOCK) as port:
            await port.listen(*listen_address(founder))
            for config in others:
                await join_site(config, CLOCK, token=await port.new_token())


if __name__ == "__main__":
    pairs = [word.split("=", 1) for word in sys.argv[1:] if "=" in word]
    born_together({name: Path(file) for name, file in pairs}, [word for word in sys.argv[1:] if "=" not in word])
