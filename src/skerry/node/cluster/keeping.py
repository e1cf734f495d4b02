"""One node has the log alone: a standby, as a person wants it, or one of several servers of which too few are left."""

from collections.abc import Awaitable, Callable
from contextlib import suppress

from skerry.broker import ALONE, load_streams
from skerry.cluster import NodeStatus, Servers, write_servers
from skerry.core import log
from skerry.core.clock import SECOND, Clock
from skerry.core.errors import RejectedError, SkerryError, UnavailableError
from skerry.node.cluster.book import ServersBook
from skerry.node.cluster.member import NodeCluster
from skerry.node.cluster.reach import Reach
from skerry.node.cluster.seat import PROMOTED, TURN, Seat
from skerry.node.cluster.shrink import Fewer, copy_frozen, set_longest, to_one, too_few
from skerry.node.cluster.standby import StandbyCopy, renew_records

AGREE_S = 30.0
_log = log.get("cluster")


class Keeping:
    """The steps to it, for `Growth`.

    Args:
        enter: lets be done what may be done in the state that the files say.
        end_work: lets nobody in, and ends what reads and writes the log.
    """

    def __init__(
        self,
        seat: Seat,
        cluster: NodeCluster,
        copy: StandbyCopy,
        clock: Clock,
        enter: Callable[[], None],
        end_work: Callable[[], Awaitable[None]],
    ) -> None:
        self._seat = seat
        self._cluster = cluster
        self._copy = copy
        self._clock = clock
        self._enter = enter
        self._end_work = end_work
        self._moved = 0.0
        self._ended = False

    def promote(self) -> None:
        """Go on with the copy, as the one that has the log: the one that has it is gone for good. What it took since the copy is
        lost, and it must not come back with its data. Raises `RejectedError`."""
        joined = self._cluster.joined
        if self._seat.state not in ("standby", "growing") or joined is None or joined.by == self._seat.name:
            raise RejectedError("this node does not stand by", where="cluster", mend="see `skerry status`")
        if self._copy.place() is None:
            raise RejectedError("there is no whole copy of the log here", where="cluster", mend="let it stand by until there is")
        self._begin_alone(0)

    def _begin_alone(self, turn: int) -> None:
        """The copy counts from the last line on."""
        before = self._seat.broker / ALONE.store
        if before.exists():
            before.rename(before.with_name(f"{ALONE.store}.before-{self._clock.now()}"))
        self._seat.quiet = True
        # no turn of the one that is gone was so high: a store that it began to fill is not taken for one of this node's
        self._seat.write(TURN, str(max(turn, self._clock.now() // SECOND)))
        self._seat.write(PROMOTED, "filling")
        self._enter()

    async def be_promoted(self, there: Reach) -> None:
        """Give the server what was copied. A crash in here leaves it to be done again."""
        copy = self._copy.place()
        if copy is None:
            raise UnavailableError("the copy of the log is not there any more", where=str(self._seat.folder))
        write_servers(self._seat.folder, None)
        if not self._seat.quiet or not there.server.place.quiet:
            self._seat.quiet = True
            await there.start_again("it is given the copy of the log", lambda place: place.quiet)
        client = await there.own()
        await load_streams(client, copy, 1)
        await renew_records(client)
        turn = int(self._seat.read(TURN))
        me = Servers(f"{self._cluster.site}-{turn}", 1, ((self._seat.name, self._seat.routes()),), "alone", turn)
        await ServersBook(client).alone(me)
        self._seat.write(PROMOTED, "done")
        there.drop()
        self._seat.quiet = False
        there.server.start_again("it has the log now")
        await there.until_ready(lambda place: not place.quiet)
        self._enter()
        _log.warning("this node was promoted: it goes on with the copy of the log that it had")

    # too few are left

    async def fewer(self, there: Reach, book: ServersBook, servers: Servers) -> bool:
        """Go on with the step to one server, where it is under way; whether it is."""
        plan, revision = await book.fewer()
        gone, _ = await book.gone()
        if plan is None and self._cluster.leads and too_few(servers, gone):
            others = [node for node, _ in servers.members if node not in (*gone, self._seat.name)]
            here = [node.id for node in self._cluster.members() if node.id in others and node.status != NodeStatus.OFFLINE]
            longest = await to_one(await there.own(), self._seat.name)
            plan = Fewer(self._seat.name, servers.turn + 1, tuple(here), longest)
            await book.put_fewer(plan, revision)
        if plan is None:
            if self._ended:  # it was given up
                self._ended = False
                self._enter()
            return False
        await self._end()
        if plan.keeper != self._seat.name:
            await book.agree(self._seat.name, plan.turn)
        else:
            await self._become_one(there, book, plan, revision)
        return True

    async def _become_one(self, there: Reach, book: ServersBook, plan: Fewer, revision: int) -> None:
        self._moved = self._moved or self._clock.monotonic()
        agreed = [await book.agreed(node) == plan.turn for node in plan.others]
        if not all(agreed) and self._clock.monotonic() - self._moved < AGREE_S:
            return
        client = await there.own()
        await to_one(client, self._seat.name)
        try:
            await self._copy.take(lambda folder: copy_frozen(client, self._seat.name, plan, folder))
        except SkerryError:
            self._moved = 0.0
            await set_longest(client, plan.longest, frozen=False)
            await book.put_fewer(None, revision)  # anew, with what is there then
            raise
        self._moved, self._ended = 0.0, False
        self._begin_alone(plan.turn)

    async def _end(self) -> None:
        """Nobody is let in here, and nothing reads or writes the log, until it is entered again."""
        if not self._ended:
            await self._end_work()
            self._ended = True

    async def look_elsewhere(self, there: Reach, servers: Servers) -> None:
        """Whether another has the log alone by now: then this node stands by."""
        with suppress(SkerryError):
            said, _ = await ServersBook(await there.far()).servers()
            if said is not None and said.state == "alone" and said.turn > servers.turn:
                await self._end()
                self._seat.follow(said.members[0][0])
                self._ended = False
                self._enter()
                _log.info(f"{said.members[0][0]} has the log alone; this node stands by")
        there.drop()
