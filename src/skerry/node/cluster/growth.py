"""From one nats-server to several: the founder's log becomes that of all, with its devices waiting for some seconds.

Each node is in one state, which its files say, so that a start goes on where the last one ended:

| state | its server | leads to |
| --- | --- | --- |
| alone | has the log; the founder's | growing, when three nodes are there and the others have agreed |
| standby | does not run; reads the founder's log through its join port | growing, or whole where there is a cluster already |
| promoting | gets the standby's copy, as a person wants it | alone |
| growing | one of several, still without streams | whole, when all streams are on all of them; or back |
| whole | one of several, with the log | |

The founder shuts its gate, lets its workers end, copies all streams into files, and only then says `growing` of itself. Nobody
else decides: as long as it has not said `whole` it can go back to its old store, in which nothing is missing.
"""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from skerry.broker import ALONE, NatsServer, Place, load_streams, save_streams, saved_streams, whole
from skerry.cluster import NodeStatus, Servers, Tunnel, carrier, proof_of, read_servers, write_servers
from skerry.config import NodeConfig
from skerry.core import log
from skerry.core.clock import Clock
from skerry.core.errors import ConfigError, SkerryError, UnavailableError
from skerry.core.service import beat, cancel_and_wait
from skerry.node.cluster.book import ServersBook
from skerry.node.cluster.keeping import Keeping
from skerry.node.cluster.member import NodeCluster
from skerry.node.cluster.placed import RecordsPlace
from skerry.node.cluster.reach import Reach
from skerry.node.cluster.replicas import balance
from skerry.node.cluster.seat import TURN, Seat
from skerry.node.cluster.shrink import judge_copies, judge_removal
from skerry.node.cluster.standby import StandbyCopy

LOOK_S = 1.0
ALL = 3
FILL_S, AGREE_S, HERE = 300.0, 30.0, (NodeStatus.ONLINE, NodeStatus.JOINING)
_log = log.get("cluster")


class Growth:
    """The state of this node's server among those of the others. `run` never raises: what hinders is in `trouble`.

    Args:
        stop_work: closes the gate for devices, ends what reads and writes the log, and comes back when that is done.

    Attributes:
        settled: set while the log of this node's server may be used.
        may_serve: set while this node's server is to run.
        trouble: why it does not go on, in one sentence.
    """

    def __init__(
        self, config: NodeConfig, clock: Clock, seed: str, cluster: NodeCluster, stop_work: Callable[[], Awaitable[None]]
    ) -> None:
        self.settled = asyncio.Event()
        self.may_serve = asyncio.Event()
        self.trouble = ""
        self._config = config
        self._clock = clock
        self._seat = Seat(config, seed, cluster)
        self._name = self._seat.name
        self._cluster = cluster
        self._stop_work = stop_work
        self._folder = self._seat.folder
        self._saved = self._folder / "saved"
        self._tunnel = Tunnel(self._folder, proof_of(seed), self._seat.addresses)
        self._reach: Reach | None = None
        manager = cluster.manager
        if cluster.join_port is not None and manager is not None:
            cluster.join_port.through = carrier(proof_of(seed), lambda node: not manager.removed(node), self.carried_to)
        self._copy = StandbyCopy(self._folder, clock)
        if self._seat.state == "promoting":
            # of a promotion that did not come to its end; all that is in there is in the copy
            shutil.rmtree(config.data_dir / "broker" / ALONE.store, ignore_errors=True)
        if not cluster.enabled and read_servers(self._folder) is not None:
            raise ConfigError(
                "the log of this node is kept by the servers of its cluster", where="cluster.enabled",
                mend=f"set it to true; or remove {self._folder} to begin with an empty log",
            )  # fmt: skip
        self._moved = 0.0
        self._keeping = Keeping(self._seat, cluster, self._copy, clock, self._enter, self._end_work)
        self._enter()

    def _enter(self) -> None:
        """Let be done what may be done in the state that the files say."""
        state = self._seat.state
        for event, on in ((self.settled, state in ("alone", "whole")), (self.may_serve, state != "standby")):
            (event.set if on else event.clear)()
        if self._cluster.manager is not None:
            self._cluster.manager.take_work(state in ("alone", "whole") or (state == "growing" and self._seat.founder))

    async def _end_work(self) -> None:
        """Nobody is let in here, and nothing reads or writes the log."""
        self.settled.clear()
        await self._stop_work()

    def promote(self) -> None:
        """See `Keeping.promote`."""
        self._keeping.promote()

    @property
    def _there(self) -> Reach:
        assert self._reach is not None
        return self._reach

    def place(self) -> Place:
        """Where the server stands, for its next start."""
        return self._seat.place()

    @property
    def replicas(self) -> int:
        """How many servers keep the log."""
        return self._seat.place().replicas

    def records(self) -> RecordsPlace | None:
        """Where the cluster's records are now; None while they are nowhere."""
        server = self._reach.server if self._reach else None
        if self.settled.is_set():
            if server is None or not server.port or server.pid is None or server.place.quiet:
                return None
            return RecordsPlace(((server.host, server.port),), server.user, server.password, self.replicas)
        if self._tunnel.port and self._tunnel.login[0] and not self._seat.founder:
            return RecordsPlace((("127.0.0.1", self._tunnel.port),), *self._tunnel.login, 0)
        return None

    def carried_to(self) -> tuple[str, int, str, str] | None:
        """Where a member's connection through the join port leads; None while the log is on its way."""
        server = self._reach.server if self._reach else None
        if server is None or not self.settled.is_set() or not server.ready.is_set() or server.place.quiet:
            return None
        return server.host, server.port, server.user, server.password

    async def serve(self, server: NatsServer) -> None:
        """Run this node's server whenever it is to have one, until cancelled."""
        while True:
            await self.may_serve.wait()
            serving = asyncio.create_task(server.run())
            try:
                while self.may_serve.is_set():
                    await beat(LOOK_S / 4)
            finally:
                await cancel_and_wait(serving)

    async def run(self, server: NatsServer) -> None:
        """Go from state to state until cancelled; nothing to do where there is no cluster."""
        self._reach = Reach(server, self._tunnel)
        if not self._cluster.enabled:
            return
        steps = {
            "alone": self._offer,
            "standby": self._stand_by,
            "promoting": lambda: self._keeping.be_promoted(self._there),
            "growing": self._grow,
            "whole": self._keep,
        }
        async with self._tunnel:
            while True:
                try:
                    await steps[self._seat.state]()
                    self.trouble = ""
                except (SkerryError, OSError) as error:
                    if str(error) != self.trouble:
                        _log.warning(f"the cluster's servers: {error}")
                    self.trouble = str(error)
                    self._there.drop()
                await beat(LOOK_S)

    # alone: the founder asks the others

    async def _offer(self) -> None:
        here = [node.id for node in self._cluster.members() if node.status in HERE]
        if self._name not in here:
            return
        book = ServersBook(await self._there.own())
        await book.begin()
        await book.tell_address(self._name, self._seat.routes())
        addresses = {node: await book.address(node) for node in sorted(here)}
        members = tuple((node, address) for node, address in addresses.items() if address)
        if len(members) < ALL:
            return
        asked, revision = await book.servers()
        first = int(self._seat.read(TURN) or 1)
        if asked is None or asked.turn < first or not {*asked.members} <= {*members}:
            turn = max(first, asked.turn + 1 if asked else 1)
            asked = Servers(f"{self._config.node.site}-{turn}", ALL, members, "growing", turn)
            await book.put(asked, revision)
        others = [node for node, _ in asked.members if node != self._name]
        if all([await book.agreed(node) == asked.turn for node in others]):
            await self._save(asked)

    async def _save(self, servers: Servers) -> None:
        """Copy all streams while nothing reaches them; from the last line on the old store is not used any more."""
        _log.info(f"the log goes to {len(servers.members)} nodes; devices wait for some seconds")
        self.settled.clear()
        try:
            await self._stop_work()
            self._seat.quiet = True
            await self._there.start_again("its streams are copied", lambda place: place.quiet)
            client = await self._there.own()
            await save_streams(client, self._saved)
            write_servers(self._folder, servers)
        finally:
            self._there.drop()
            self._seat.quiet = False
            self._enter()
            self._there.server.start_again(
                "it becomes one of several" if self._seat.state == "growing" else "its streams were not copied"
            )

    # standby: another has the log

    async def _stand_by(self) -> None:
        book = ServersBook(await self._there.far())
        await book.tell_address(self._name, self._seat.routes())
        asked, revision = await book.servers()
        here = dict(asked.members) if asked is not None else {}
        if asked is not None and asked.state == "whole" and here.get(self._name) != self._seat.routes():
            # there is a cluster: this one's server comes to those that are there
            await book.take_back(self._name)
            members = tuple((here | {self._name: self._seat.routes()}).items())
            await book.put(msgspec.structs.replace(asked, members=members), revision)
        elif asked is not None and self._name in here:
            await self._agree(book, asked)
        elif self._cluster.role == "node":
            await self._copy.keep(await self._there.far())
            await asyncio.to_thread(self._seat.clear_away, "")  # what it kept as one of several is in the copy

    async def _agree(self, book: ServersBook, servers: Servers) -> None:
        write_servers(self._folder, servers)
        await book.agree(self._name, servers.turn)
        _log.info(f"this node's server is one of {len(servers.members)} from now on")
        again = self.may_serve.is_set()
        self._enter()
        if again:
            self._there.server.start_again("the founder began anew")

    # growing

    async def _grow(self) -> None:
        if saved_streams(self._saved) is not None:
            await self._fill()
        else:
            await self._await_whole()

    async def _fill(self) -> None:
        """Restore what was saved, and say when all of it is on all; after five minutes in which nothing came of it go back."""
        servers = read_servers(self._folder)
        assert servers is not None
        self._moved = self._clock.monotonic()
        while not (self._there.server.ready.is_set() and await self._filled(servers.replicas)):
            if self._clock.monotonic() - self._moved > FILL_S:
                await self._go_back(servers)
                return
            await asyncio.sleep(LOOK_S / 4)
        write_servers(self._folder, msgspec.structs.replace(servers, state="whole"))
        self._enter()
        await self._tell_whole()
        _log.info(f"the log is kept by {servers.replicas} nodes")

    async def _filled(self, replicas: int) -> bool:
        try:
            client = await self._there.own()
            made = await load_streams(client, self._saved, replicas)
            if made:
                self._moved = self._clock.monotonic()
                _log.info(f"{len(made)} streams were restored")
            return await whole(client, replicas)
        except SkerryError as error:
            self.trouble = str(error)
            self._there.drop()
            return False

    async def _go_back(self, servers: Servers) -> None:
        """The old store has all of it: nothing was taken since."""
        _log.warning("the other nodes did not take the log; this one goes on alone, and asks them again when they are there")
        self._seat.write(TURN, str(servers.turn + 1))
        write_servers(self._folder, None)
        await asyncio.to_thread(shutil.rmtree, self._saved, True)
        self._there.drop()
        self._there.server.start_again("it is alone again")
        await self._there.until_ready(lambda place: place.routes is None)
        self._enter()

    async def _await_whole(self) -> None:
        """Until the founder says that all streams are here, or asks anew."""
        servers = read_servers(self._folder)
        assert servers is not None
        if self._there.server.ready.is_set() and self._there.server.place.store == servers.store:
            with_client = ServersBook(await self._there.own())
            try:
                said, _ = await with_client.servers()
            except UnavailableError:
                said = None
            if said is not None and said.turn == servers.turn and said.state == "whole":
                write_servers(self._folder, said)
                self._enter()
                return
        book = ServersBook(await self._there.far())
        asked, _ = await book.servers()
        if asked is not None and asked.turn > servers.turn and self._name in dict(asked.members):
            await self._agree(book, asked)

    # whole

    async def _keep(self) -> None:
        """Keep the list of servers as it is in the log, and clear away what the way here has left."""
        servers = read_servers(self._folder)
        assert servers is not None
        try:
            if self._there.server.ready.is_set():
                await self._keep_whole(servers)
        finally:
            if not self._cluster.quorum:
                await self._keeping.look_elsewhere(self._there, servers)

    async def _keep_whole(self, servers: Servers) -> None:
        book = ServersBook(await self._there.own())
        if self._saved.exists():
            await self._tell_whole()
        await book.begin()
        said, revision = await book.servers()
        if said is None:
            await book.put(servers, revision)
        elif said.turn == servers.turn and said.state == "whole" and self._name in dict(said.members):
            if said != servers:
                write_servers(self._folder, said)
            elif servers.address(self._name) != (now := self._seat.routes_now(servers)):
                # its address has changed: the others know it at their next start, until then it is this one that reaches them
                here = dict(said.members) | {self._name: now}
                await book.put(msgspec.structs.replace(said, members=tuple(here.items())), revision)
                return
        if said is not None and await self._keeping.fewer(self._there, book, said):
            return
        if said is not None and self._cluster.leads:
            await balance(self._there, book, said, revision, self._config.cluster.replicas)
        await asyncio.to_thread(self._copy.clear)
        await asyncio.to_thread(self._seat.clear_away, servers.store)

    async def judge_removal(self, node: str) -> None:
        """Whether the rest goes on without it. Raises `RejectedError`, `UnavailableError`."""
        servers = read_servers(self._folder) if self._seat.state == "whole" else None
        judge_removal(node, {each.id: (str(each.status), each.role) for each in self._cluster.members()}, servers)
        if servers is not None:
            await judge_copies(await self._there.own(), node)

    async def remove(self, node: str) -> None:
        """A node is gone for good: its server goes too, as soon as there are enough others. Raises `UnavailableError`."""
        if self._seat.state == "whole":
            await ServersBook(await self._there.own()).take_out(node)

    async def _tell_whole(self) -> None:
        """Tell the others; the file here says it already."""
        servers = read_servers(self._folder)
        book = ServersBook(await self._there.own())
        said, revision = await book.servers()
        if servers is not None and said != servers:
            await book.put(servers, revision)
        await asyncio.to_thread(shutil.rmtree, self._saved, True)

    def status(self) -> dict[str, Any]:
        """`state`, and of a standby how far it is behind."""
        state = self._seat.state
        return {"state": state, **(self._copy.status() if state == "standby" else {})}

    @property
    def stands_by(self) -> bool:
        """Whether another node has the log, and this one waits."""
        return self._seat.state == "standby"

    def warnings(self) -> list[str]:
        """What a person should look at, one sentence each."""
        return [self.sentence] if self.sentence else []

    @property
    def sentence(self) -> str:
        """What a person should know of it; empty where all is as it should be."""
        if self._seat.state == "standby" and self._cluster.role == "witness":
            return f"this witness waits until there are three members{f' ({self.trouble})' if self.trouble else ''}"
        if self._seat.state == "standby":
            found = self._copy.status()
            lag = (
                "nothing is copied yet"
                if found["copied"] is None
                else f"copied at {found['copied']}, {found['behind']} messages behind"
            )
            return f"this node stands by: {lag}{f' ({self.trouble})' if self.trouble else ''}"
        if self._seat.state in ("growing", "promoting"):
            return f"the log is on its way to this node's broker{f': {self.trouble}' if self.trouble else ''}"
        return self.trouble
