"""A witness: a third member that keeps log and records with two boxes, so that they have a majority, and does nothing else."""

import asyncio
import os
import signal
from importlib.metadata import version
from typing import Any

from skerry.api import Api, TokenStore, WitnessHandlers
from skerry.broker import NatsServer
from skerry.cluster import has_joined
from skerry.config import NodeConfig, socket_path
from skerry.core import log
from skerry.core.clock import Clock, SystemClock
from skerry.core.errors import ConfigError
from skerry.core.service import cancel_and_wait
from skerry.core.units import parse_size
from skerry.device import AuditLog
from skerry.node.cluster import ClusterLink, Growth, NodeCluster, cluster_folder, common_bytes
from skerry.node.link import quotas
from skerry.node.processes import Process, rows
from skerry.node.uplink import BUCKETS
from skerry.runtime import DirectoryLock, Notifier, keep_trimmed, run_loop, settle
from skerry.trust import TokenSigner, load_or_create

TELL_S = 2.0
GO_LIMIT, SERVER_MEMORY = "GOMEMLIMIT", "24MiB"
"""What nats-server's heap and stacks may take before it collects harder; left alone they grew to 90 MiB with some hundred
messages a second. It has no setting of its own for that, and is this process's only child."""
_log = log.get("witness")


class Witness:
    """Joined like a node; `run` works until cancelled. Its nats-server is one of the cluster's, and takes no device.

    Raises `ConfigError` where it has joined no cluster, `UnavailableError` where its data directory is in use.
    """

    def __init__(self, config: NodeConfig, clock: Clock | None = None) -> None:
        clock = clock or SystemClock()
        data = config.data_dir
        if not config.cluster.enabled or has_joined(cluster_folder(config)) is None:
            raise ConfigError(
                "a witness is one of a cluster", where="cluster",
                mend="set [cluster] enabled = true, and let it join with `skerry cluster join --token TOKEN`",
            )  # fmt: skip
        self._lock = DirectoryLock(data)
        self._lock.take()
        self.config = config
        self.cluster = NodeCluster(config, clock, "witness")
        issuer = load_or_create(data / "keys" / "issuer.seed")
        self.growth = Growth(config, clock, issuer.seed, self.cluster, _nothing)
        queue = parse_size(config.uplink.queue.size)
        most = quotas(parse_size(config.broker.retention.size), queue + BUCKETS + common_bytes(config))
        self.server = NatsServer(
            config.broker, data, TokenSigner(issuer).public, most, clock, self.growth.place, devices=False
        )  # fmt: skip
        self.cluster.keep_records_at(self.growth.records, self.server)
        self.audit = self.cluster.audit = AuditLog(data / "logs" / "audit.log", clock)
        self.view = WitnessStatus(self, clock)
        self._api = Api(
            WitnessHandlers(self.view), config.api, socket_path(config), self.view.version,
            tokens=TokenStore(config.token_file, clock), audit=self.audit, clock=clock,
        )  # fmt: skip

    async def run(self) -> None:
        """Be a witness until cancelled. Raises `UnavailableError` when the control socket cannot be had."""
        growing, member = lambda: self.growth.run(self.server), self.cluster
        works = (self._api.run, self._serve, member.until_removed, member.run, growing, keep_trimmed)
        tasks = [asyncio.create_task(work()) for work in works]
        try:
            await asyncio.gather(*tasks)
        finally:
            server = tasks.pop(1)
            await cancel_and_wait(*tasks)  # what says goodbye to the others needs the server
            await cancel_and_wait(server)
            self.audit.close()
            self._lock.release()

    async def _serve(self) -> None:
        """Run the broker, once the log is kept by three."""
        settle()
        await self.growth.serve(self.server)


class WitnessStatus:
    """What a witness says of itself: see `skerry.api.WitnessView`."""

    def __init__(self, witness: Witness, clock: Clock) -> None:
        self.version = version("skerry")
        self.cluster = ClusterLink(witness.cluster, witness.growth, clock)
        self._witness = witness

    def ready(self) -> tuple[bool, str]:
        cluster, growth = self._witness.cluster, self._witness.growth
        if not cluster.quorum:
            return False, cluster.sentence
        if growth.stands_by or not self._witness.server.ready.is_set():
            return growth.stands_by, growth.sentence or self._witness.server.status
        return True, "a witness: it keeps what the others keep"

    async def status(self) -> dict[str, Any]:
        witness, server = self._witness, self._witness.server
        ready, reason = self.ready()
        agent = Process("agent", os.getpid())
        warnings = [*witness.cluster.warnings(), *witness.growth.warnings(), server.warning]
        return {
            "node": witness.config.node.name,
            "site": witness.config.node.site,
            "version": self.version,
            "role": "witness",
            "ready": ready,
            "reason": reason,
            "broker": {"sentence": server.status},
            "cluster": self.cluster.shown(),
            "processes": rows([agent, Process("nats-server", server.pid, server.restarts, last=server.last)]),
            "warnings": [each for each in warnings if each],
        }


async def _nothing() -> None:
    """There is no work to stop."""


def witness(config: NodeConfig) -> int:
    """Run a witness until SIGTERM or SIGINT; the exit code."""
    return run_loop(_run(config))


async def _run(config: NodeConfig) -> int:
    notifier = Notifier()  # first: what is started must not inherit its variables
    os.environ.setdefault(GO_LIMIT, SERVER_MEMORY)
    one = Witness(config)
    running = asyncio.create_task(one.run())
    telling = asyncio.create_task(_tell(one, notifier))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, running.cancel)
    try:
        await running
    except asyncio.CancelledError:
        notifier.stopping()
        _log.info("stopped")
    finally:
        await cancel_and_wait(telling)
    return 0


async def _tell(one: Witness, notifier: Notifier) -> None:
    """Tell the service manager that it is there, how it is, and that it lives."""
    notifier.ready()
    while notifier.wanted:
        notifier.status(one.view.ready()[1])
        notifier.watchdog()
        await asyncio.sleep(notifier.watchdog_s / 3 or TELL_S)
