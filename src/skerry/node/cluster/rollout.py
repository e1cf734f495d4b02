"""Bundles of a cluster: applied at any member, and brought from node to node; each node does what the common record asks of it."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from skerry.bundle import (
    BUNDLES,
    CUT_SHORT,
    Rollout,
    Shelf,
    State,
    Word,
    advance,
    check_probation,
    duty,
    taken_back,
)
from skerry.cluster import EdgeNode, NodeStatus
from skerry.core import log
from skerry.core.clock import Clock, to_rfc3339
from skerry.core.errors import ConfigError, CorruptError, RejectedError, SkerryError, UnavailableError
from skerry.core.files import replace_synced
from skerry.core.service import beat
from skerry.core.units import parse_duration
from skerry.node.cluster import model_files
from skerry.node.cluster.mirror import Mirror

if TYPE_CHECKING:
    from skerry.node.life import Node

Row = dict[str, Any]
PREFIX = "bundle."
STEP_S = 0.5
TELL_S = 20.0
TRIES = 3
"""So often a node tries a bundle that its own end cut short."""
_THERE = (NodeStatus.ONLINE, NodeStatus.SUSPECT, NodeStatus.MAINTENANCE)
_log = log.get("bundles")


class Kept(msgspec.Struct):
    """What a node keeps of it on its disk: the record, and of what it tried last: for which number, how often, since when."""

    record: Rollout = Rollout()
    tried: tuple[int, str] = (0, "")
    tries: int = 0
    since: str = ""


class NodeRollout:
    """In the place of the node's own bundles in a cluster; a part of what is mirrored (`skerry.node.cluster.mirror.Part`)."""

    key = "rollout"

    def __init__(self, node: "Node", clock: Clock) -> None:
        self.mirror: Mirror | None = None
        self._node = node
        self._clock = clock
        self._file = node.config.data_dir / "cluster" / "rollout.json"
        self._kept = _read(self._file)
        self._shelf = Shelf(node.config.data_dir / BUNDLES, clock)
        self._told = asyncio.Event()
        self._changing = asyncio.Lock()
        self._trouble = ""

    @property
    def record(self) -> Rollout:
        """What all are to run, as far as is known here."""
        return self._kept.record

    # what people ask for

    async def upload(self, content: bytes, file: str = "") -> Row:
        """See `NodeBundles.upload`."""
        return await self._node.bundles.upload(content, file)

    async def apply(self, bundle: str, probation: str = "", dead_letters: int = 0) -> Row:
        """Begin to apply a bundle that is here to all nodes, one by one.

        Raises as `NodeBundles.apply`; `UnavailableError`: there is no quorum."""
        async with self._changing:
            if self.record.state == "going":
                raise RejectedError(f"bundle {self.record.title} is being applied", mend="wait, or take it back first")
            if probation:
                check_probation(parse_duration(probation), "probation")
            found = await asyncio.to_thread(self._shelf.find, bundle)
            title, active = self._shelf.manifest(found).title, self._shelf.read().active
            before = self.record.wanted if self.record.number else active
            if found == before:
                raise RejectedError(f"bundle {title} is active already", mend="see `skerry bundle list`")
            self._needs_quorum()
            await self._hand_out(found, before)
            await self._tell(
                Rollout(self.record.number + 1, found, title, before, "going", probation, dead_letters, self._clock.now())
            )
            return self._trial() or {}

    async def rollback(self) -> Row:
        """Have all nodes go back to what was active before; what is active then: `{active}`."""
        async with self._changing:
            record, now = self.record, self._clock.now()
            if record.state != "going":
                active = self._shelf.read().active
                if not active:
                    raise RejectedError("no bundle is active here", mend="see `skerry bundle list`")
                before, title = self._shelf.before(), self._shelf.manifest(active).title
                self._needs_quorum()
                await self._hand_out(before)
                record = Rollout(record.number + 1, active, title, before, at=now)
            await self._tell(taken_back(record, "a person asked for it", now))
            return {"active": self.record.wanted}

    async def shown(self) -> Row:
        """What the API answers: of this node, and `nodes`: what each says of itself."""
        own, record = await self._node.bundles.shown(), self.record
        history = own["history"]
        if record.number and record.state != "going":
            what = "kept" if record.state == "kept" else "rolled back"
            row = {"at": to_rfc3339(record.ended), "id": record.id, "bundle": record.title, "what": what, "reason": record.reason}
            history = [*history, {**row, "nodes": len(record.done)}]
        words = self._words()
        members = {member.id: str(member.status) for member in self._members()}
        nodes = [
            {"node": name, "status": status, **msgspec.structs.asdict(words.get(name, Word()))} for name, status in members.items()
        ]
        return {**own, "trial": self._trial() or own["trial"], "history": history, "nodes": nodes}

    def _trial(self) -> Row | None:
        record = self.record
        if record.state != "going":
            return None
        words = self._words()
        at = ", ".join(f"{words[node].phase or 'about to begin'} at {node}" for node in record.turns if node in words)
        phase = f"{at or 'going from node to node'}; kept by {', '.join(record.done) or 'none yet'}"
        row = {"id": record.id, "bundle": record.title, "at": to_rfc3339(record.at), "phase": phase}
        return {**row, "seconds_left": None, "reason": record.reason}

    def warnings(self) -> list[str]:
        """Nodes that are not on what all are to run, and why."""
        if self.record.state == "going":
            return []
        failed = {name: word.failed for name, word in self._words().items() if word.failed}
        found = [f"{name} did not take bundle {self.record.title}: {why}" for name, why in failed.items()]
        return [*found, *([f"the bundle of the cluster is not here: {self._trouble}"] if self._trouble else [])]

    # what this node does

    async def run(self) -> None:
        """Do what the record asks for, and bring it on while this node leads, until cancelled."""
        while True:
            try:
                await self._step()
                self._trouble = ""
            except (SkerryError, TimeoutError) as error:
                if str(error) != self._trouble:
                    _log.warning(f"the bundle of the cluster is not brought on: {error}")
                self._trouble = str(error)
            self._say()
            await beat(STEP_S)

    async def _step(self) -> None:
        if not self.record.number or self.mirror is None or not self.mirror.first.is_set():
            return  # what is known here may be old
        cluster, bundles, name = self._node.cluster, self._node.bundles, self._node.config.node.name
        if self.record.state == "going" and cluster.leads and cluster.quorum and not self._changing.locked():
            there = sorted(member.id for member in self._members() if member.status in _THERE)
            following = advance(self.record, name, there, self._words(), self._clock.now())
            if following != self.record:
                self._note(following)
                await self._keep(following)
        record, trial, state = self.record, bundles.trial(), self._shelf.read()
        todo = duty(record, name, state.active, trial["id"] if trial else "", bool(self._failed(state)))
        if todo == "back":
            await bundles.rollback()
        elif todo == "apply":
            await self._apply(record)

    async def _apply(self, record: Rollout) -> None:
        if record.wanted not in self._shelf.ids():
            await self._fetch(record.wanted)
        tried = (record.number, record.wanted)
        again = self._kept.tries if tried == self._kept.tried else 0
        since = self._kept.since if again else to_rfc3339(self._clock.now())
        self._kept = Kept(record, tried, again + 1, since)
        await asyncio.to_thread(_write, self._file, self._kept)
        try:
            if record.wanted not in self._shelf.ids():
                await self._node.bundles.upload(b"", str(self._coming(record.wanted)))
            await self._node.bundles.apply(record.wanted, record.probation, record.dead_letters)
        except (RejectedError, ConfigError) as error:
            await asyncio.to_thread(self._shelf.refused, record.wanted, str(error))
        finally:
            self._coming(record.wanted).unlink(missing_ok=True)

    def _members(self) -> list[EdgeNode]:
        """Those that run something: a witness takes no bundle."""
        return [member for member in self._node.cluster.members() if member.role == "node"]

    def _note(self, record: Rollout) -> None:
        if record.state != self.record.state:
            event = f"bundle {'kept by all nodes' if record.state == 'kept' else 'taken back at all nodes'}"
            _log.info(f"{event}: {record.title}{': ' + record.reason if record.reason else ''}")
            self._node.audit.note(event, by="node", reason=record.reason, bundle=record.title, id=record.id)

    def _failed(self, state: State) -> str:
        """Why what was tried here did not stay and is not tried again; empty where that is not so."""
        kept, wanted = self._kept, self._kept.record.wanted
        if kept.tried != (kept.record.number, wanted) or state.active == wanted or self._node.bundles.trial() is not None:
            return ""
        ends = ("refused", "rolled back")
        rows = [row for row in state.history if row["id"] == wanted and row["what"] in ends and row["at"] >= kept.since]
        reason = str(rows[-1]["reason"]) if rows else CUT_SHORT
        return reason if reason != CUT_SHORT or kept.tries >= TRIES else ""

    def _word(self) -> Word:
        trial, state = self._node.bundles.trial(), self._shelf.read()
        title = self._shelf.manifest(state.active).title if state.active else ""
        return Word(self.record.number, state.active, title, trial["phase"] if trial else "", self._failed(state))

    def _words(self) -> dict[str, Word]:
        """By node, what each says of itself."""
        found = {}
        for key, data in (self.mirror.others if self.mirror is not None else {}).items():
            if key.startswith(PREFIX):
                try:
                    found[key.removeprefix(PREFIX)] = msgspec.json.decode(data, type=Word)
                except msgspec.MsgspecError:
                    continue  # of a later version
        return {**found, self._node.config.node.name: self._word()}

    def _say(self) -> None:
        if self.mirror is not None:
            try:
                self.mirror.say(PREFIX + self._node.config.node.name, msgspec.json.encode(self._word()))
            except CorruptError as error:
                self._trouble = str(error)

    def _needs_quorum(self) -> None:
        cluster = self._node.cluster
        if not cluster.quorum or self.mirror is None or not self.mirror.first.is_set():
            raise UnavailableError(f"there is no quorum since {cluster.no_quorum_text}: nothing is changed", mend="try again later")

    async def _tell(self, record: Rollout) -> None:
        """Have the others know of it. Raises `UnavailableError` where they do not, `RejectedError` where another was faster."""
        self._needs_quorum()
        assert self.mirror is not None
        before = self.record
        self._told.clear()
        await self._keep(record)
        self.mirror.look()
        try:
            async with asyncio.timeout(TELL_S):
                await self._told.wait()
        except TimeoutError as error:
            if self.record == record:
                await self._keep(before)
            mend = "see `skerry bundle list`, and try again"
            raise UnavailableError("the other nodes could not be told of it", mend=mend) from error
        if (self.record.number, self.record.id) != (record.number, record.id):
            raise RejectedError(f"another bundle was applied at the same moment: {self.record.title}", mend="wait for that one")

    async def _keep(self, record: Rollout) -> None:
        self._kept = msgspec.structs.replace(self._kept, record=record)
        await asyncio.to_thread(_write, self._file, self._kept)

    # its bundle's way to the others

    async def read(self) -> bytes | None:
        return msgspec.json.encode(self.record) if self.record.number else None

    async def take(self, data: bytes) -> None:
        try:
            record = msgspec.json.decode(data, type=Rollout)
        except msgspec.MsgspecError as error:
            raise CorruptError(f"what bundle all are to run cannot be read: {error}") from error
        await self._keep(record)
        self._told.set()

    async def give(self, data: bytes) -> None:
        """Those that lack its bundles get them from the common files."""
        await self._hand_out(self.record.id, self.record.before)

    async def _hand_out(self, *ids: str) -> None:
        mine = set(ids) & set(self._shelf.ids())
        async with model_files.connected(self._node.server) as client:
            there = await model_files.there(client)
            for bundle in (each for each in mine if _name(each) not in there):
                part = self._file.with_name(f"{bundle}.giving")
                try:
                    await asyncio.to_thread(self._shelf.pack, bundle, part)
                    await model_files.give(client, part, _name(bundle))
                finally:
                    part.unlink(missing_ok=True)

    async def given(self, data: bytes) -> None:
        self._told.set()
        named = {_name(each) for each in (self.record.id, self.record.before) if each}
        async with model_files.connected(self._node.server) as client:
            there = {each for each in await model_files.there(client) if each.startswith(_name(""))}
            await model_files.drop(client, there - named)

    def _coming(self, id: str) -> Path:
        return self._file.with_name(f"{id}.coming")

    async def _fetch(self, id: str) -> None:
        async with model_files.connected(self._node.server) as client:
            await model_files.fetch(client, _name(id), self._coming(id))


def _name(id: str) -> str:
    return f"bundle-{id}"


def _read(file: Path) -> Kept:
    try:
        return msgspec.json.decode(file.read_bytes(), type=Kept)
    except (OSError, msgspec.MsgspecError):
        return Kept()


def _write(file: Path, kept: Kept) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        replace_synced(file, msgspec.json.encode(kept))
    except OSError as error:
        raise UnavailableError(f"cannot be written: {error.strerror}", where=str(file), mend="make room on the disk") from error
