"""Bundles on a node that runs: checked, switched to, watched, and kept or taken back. One step at a time, each of them whole.

`apply` begins; each `step` then does what is next and says the phase. The node takes the steps by itself; whoever applies a bundle
to several nodes waits for the outcome of one before it begins with the next.
"""

import asyncio
import contextlib
import hashlib
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from skerry.bundle import BUNDLES, Manifest, Marks, Phase, Shelf, check_needs, check_probation, judge, read_trusted
from skerry.config import NodeConfig, load
from skerry.core import log
from skerry.core.clock import Clock, to_rfc3339
from skerry.core.errors import CorruptError, RejectedError, SkerryError, UnavailableError
from skerry.core.service import beat
from skerry.core.units import parse_duration
from skerry.inference import check_memory, try_model
from skerry.node.live import with_live

if TYPE_CHECKING:
    from skerry.node.life import Node

Row = dict[str, Any]
STEP_S = 0.5
BY_A_PERSON = "a person asked for it"
_log = log.get("bundles")


class Attempt(msgspec.Struct):
    """A bundle that is being applied. Times are microseconds; `began`: when its phase did, by the monotonic clock, in seconds.

    `phase`: `checking`, `coming up`, `on probation`, or `going back`: to `config`, which is what ran before."""

    id: str
    title: str
    at: int
    began: float
    probation: int
    come_up: int = 0
    phase: str = "checking"
    before: Marks = Marks()
    config: NodeConfig | None = None
    reason: str = ""


def settled(config: NodeConfig, clock: Clock) -> NodeConfig:
    """The configuration that a node starts with: a bundle whose probation was cut short by the node's end is taken back.

    Raises `CorruptError`, `UnavailableError`, `ConfigError`."""
    shelf = Shelf(config.data_dir / BUNDLES, clock)
    words = shelf.settle()
    if not words:
        return config
    _log.error(words)
    return load(config.path)


class NodeBundles:
    """Keeper of the bundles of one node; a service. Changes are made one at a time."""

    def __init__(self, node: "Node", clock: Clock) -> None:
        self._node = node
        self._clock = clock
        self._shelf = Shelf(node.config.data_dir / BUNDLES, clock)
        self._attempt: Attempt | None = None
        self._changing = asyncio.Lock()
        self._numbers = itertools.count()

    async def upload(self, content: bytes, file: str = "") -> Row:
        """Take a bundle in: its bytes, or a file on this computer. Its row.

        Raises `RejectedError`: it is no bundle, damaged, signed by nobody who is trusted, or needs a newer skerry."""
        async with self._changing:
            taken = await asyncio.to_thread(self._take, content, file)
            return next(row for row in await asyncio.to_thread(self._shelf.rows) if row["id"] == taken)

    def _take(self, content: bytes, file: str) -> str:
        from skerry.bundle import BundleFile  # late: a node that is given no bundle needs nothing of what it brings

        config = load(self._node.config.path, with_models=False)
        trusted = read_trusted(config.bundles.trusted, config.base)
        draft: Path | None = None
        try:
            if not file:
                draft = self._shelf.directory / f".draft-{next(self._numbers)}"
                draft.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                draft.write_bytes(content)
            found = BundleFile(config.base / file if draft is None else draft)
            check_needs(found.manifest.needs, self._node.version)
            taken = self._shelf.install(found, trusted)
        except OSError as error:
            raise UnavailableError(f"cannot be written: {error.strerror}", where=str(draft), mend="make room") from error
        except SkerryError as error:
            if draft is not None and error.where == str(draft):
                error.where = "the bundle"
            if isinstance(error, CorruptError):  # it is what was sent that is wrong, not what this node has
                raise RejectedError(error.message, where=error.where, mend=error.mend) from error
            raise
        finally:
            if draft is not None:
                with contextlib.suppress(OSError):
                    draft.unlink(missing_ok=True)
        self._shelf.collect(config.bundles.keep)
        return taken

    async def apply(self, bundle: str, probation: str = "", dead_letters: int = 0) -> Row:
        """Begin to apply a bundle that is here: `{id, bundle, at, phase}`.

        Args:
            bundle: an id, the beginning of one, or a name.
            probation: how long it is watched; `bundles.probation` where empty.
            dead_letters: how many further dead letters are let pass meanwhile.

        Raises `RejectedError`, `ConfigError`; what becomes of it later is in `shown`."""
        async with self._changing:
            if self._attempt is not None:
                raise RejectedError(f"bundle {self._attempt.title} is {self._attempt.phase}", mend="wait, or take it back first")
            section = (await asyncio.to_thread(load, self._node.config.path, False)).bundles
            time = check_probation(parse_duration(probation), "probation") if probation else section.probation_us
            found = await asyncio.to_thread(self._shelf.find, bundle)
            title = self._shelf.manifest(found).title
            if self._shelf.read().active == found:
                raise RejectedError(f"bundle {title} is active already", mend="see `skerry bundle list`")
            began = self._clock.monotonic()
            before = Marks(room=dead_letters)
            self._attempt = Attempt(found, title, self._clock.now(), began, time, section.come_up_us, before=before)
            return self.trial() or {}

    async def rollback(self) -> Row:
        """Go back to what was active before; what is active now: `{active}`, empty for skerry.toml alone.

        Raises `RejectedError` where nothing is active, `ConfigError`: what was before no longer fits; then nothing is changed."""
        async with self._changing:
            attempt = self._attempt
            if attempt is not None:
                await self._end(attempt, BY_A_PERSON)
            else:
                await self._roll_back()
            return {"active": self._shelf.read().active}

    async def _roll_back(self) -> None:
        shelf, node = self._shelf, self._node
        active = shelf.read().active
        fresh = await asyncio.to_thread(load, node.config.path, True, shelf.before()) if active else node.config
        await asyncio.to_thread(shelf.rollback, BY_A_PERSON)
        now, title = self._clock.now(), shelf.manifest(active).title
        attempt = Attempt(active, title, now, 0.0, 0, phase="going back", config=with_live(node.config, fresh), reason=BY_A_PERSON)
        self._attempt = attempt
        await self._go_back(attempt)

    async def run(self) -> None:
        """Take the steps until cancelled."""
        while True:
            await beat(STEP_S)
            if self._attempt is not None:
                try:
                    await self.step()
                except SkerryError as error:
                    _log.error(f"a bundle could not be brought on: {error}; it is tried again")

    async def step(self) -> str:
        """Do what is next; the phase that it is in now, empty where nothing is being applied. Raises `UnavailableError`."""
        async with self._changing:
            attempt = self._attempt
            if attempt is not None and attempt.phase == "checking":
                await self._begin(attempt)
            elif attempt is not None and attempt.phase == "going back":
                await self._go_back(attempt)
            elif attempt is not None:
                await self._watch(attempt)
            return self._attempt.phase if self._attempt is not None else ""

    async def _begin(self, attempt: Attempt) -> None:
        """All that can be known without running it, then the switch."""
        try:
            fresh = await asyncio.to_thread(load, self._node.config.path, True, attempt.id)
            manifest = await asyncio.to_thread(self._verified, attempt.id, fresh)
            await asyncio.to_thread(self._other_content, manifest)
            await self._try_models(manifest, fresh)
            await self._switch(attempt, fresh)
        except (SkerryError, OSError) as error:
            await self._end(attempt, str(error))

    def _verified(self, id: str, fresh: NodeConfig) -> Manifest:
        self._shelf.verify(id, read_trusted(fresh.bundles.trusted, fresh.base))
        manifest = self._shelf.manifest(id)
        check_needs(manifest.needs, self._node.version)
        return manifest

    def _other_content(self, manifest: Manifest) -> None:
        """One name and version must mean one model: events name no more than these."""
        catalogue = self._node.models.catalogue
        rows = {(row.name, row.version): row for row in catalogue.versions()}
        for table in manifest.models:
            row = rows.get((table["name"], table["version"]))
            if row is not None and row.file and _sha256(catalogue.path(row)) not in ("", Path(table["file"]).stem):
                self._differs(row.reference)
            if row is not None and not row.file and row.sha256 != Path(table["file"]).stem:
                self._differs(row.reference)

    def _differs(self, reference: str) -> None:
        raise RejectedError(
            f"{reference} is on this node with another content", where="models",
            mend="give the model in the bundle a version of its own, and build it again",
        )  # fmt: skip

    async def _try_models(self, manifest: Manifest, fresh: NodeConfig) -> None:
        catalogue, node = fresh.catalogue(self._clock), self._node
        for table in manifest.models:
            row = catalogue.find(f"{table['name']}@{table['version']}")
            path, engine = catalogue.path(row), row.engine or "auto"
            with node.resources.room(row):
                report = await asyncio.to_thread(
                    try_model, path, where=row.reference, engine=engine, cache=fresh.model_cache, host=node.models.host
                )
                check_memory(catalogue, row.name, report.memory, row.reference)

    async def _switch(self, attempt: Attempt, fresh: NodeConfig) -> None:
        node = self._node
        attempt.config, attempt.before = node.config, self._marks(attempt, attempt.before.room, first=True)
        await asyncio.to_thread(self._shelf.switch, attempt.id, attempt.probation)
        attempt.phase, attempt.began = "coming up", self._clock.monotonic()
        await node.replace_pipelines(with_live(node.config, fresh))
        await node.view.describe_models()
        self._say(attempt, "bundle switched to")

    async def _watch(self, attempt: Attempt) -> None:
        now = self._marks(attempt, attempt.before.room)
        elapsed = int((self._clock.monotonic() - attempt.began) * 1e6)
        coming = attempt.phase == "coming up"
        phase: Phase = "coming up" if coming else "on probation"
        verdict = judge(attempt.before, now, phase, elapsed, attempt.come_up if coming else attempt.probation)
        if verdict.what == "up":
            attempt.phase, attempt.began = "on probation", self._clock.monotonic()
        elif verdict.what == "keep":
            await asyncio.to_thread(self._shelf.keep)
            self._attempt = None
            self._say(attempt, "bundle kept")
        elif verdict.what == "back":
            await self._end(attempt, verdict.reason)

    async def _end(self, attempt: Attempt, reason: str) -> None:
        """Not this one: what ran before runs again. Before the switch there is nothing to do but to say so."""
        attempt.reason = attempt.reason or reason
        if attempt.phase == "checking":
            await asyncio.to_thread(self._shelf.refused, attempt.id, reason)
            self._attempt = None
            self._say(attempt, "bundle refused", reason)
            return
        if attempt.phase != "going back":
            await asyncio.to_thread(self._shelf.take_back, reason)
            attempt.phase = "going back"
        await self._go_back(attempt)

    async def _go_back(self, attempt: Attempt) -> None:
        """Run what the state names again: by the file as it is now, where that still fits, else as it was read before."""
        node = self._node
        try:
            config = with_live(node.config, await asyncio.to_thread(load, node.config.path))
        except SkerryError as error:
            assert attempt.config is not None
            _log.warning(f"the configuration of before is used, as it was read: {error}")
            config = attempt.config
        await node.replace_pipelines(config)
        self._attempt = None
        self._say(attempt, "bundle rolled back", attempt.reason)
        await node.view.describe_models()

    def _say(self, attempt: Attempt, event: str, reason: str = "") -> None:
        text = f"{event}: {attempt.title} ({attempt.id[:12]}){': ' + reason if reason else ''}"
        _log.error(text) if reason not in ("", BY_A_PERSON) else _log.info(text)
        self._node.audit.note(event, by="node", reason=reason, bundle=attempt.title, id=attempt.id)

    def _marks(self, attempt: Attempt, room: int, first: bool = False) -> Marks:
        """What the node shows now. `first`: before the switch, whose workers are not those that are judged."""
        node, manifest = self._node, self._shelf.manifest(attempt.id)
        mine = {str(table["name"]) for table in manifest.pipelines} | attempt.before.states.keys()
        rows = {row["name"]: row for row in node.view.pipelines()}
        books = {name: row["ledger"]["dead_letters"] for name, row in rows.items()}
        dead = {name: sum(count for why, count in found.items() if why != "late") for name, found in books.items()}
        restarts = node.connectors.restarts.total if manifest.connectors else 0
        if first:
            up = {name: (row["state"], "") for name, row in rows.items() if row["state"] in ("running", "degraded")}
            return Marks(up, dead, restarts=restarts, room=room)
        states = {name: (rows[name]["state"], rows[name]["reason"]) for name in mine if name in rows}
        return Marks(states, {name: dead[name] for name in states}, self._faults(manifest), node.pool.deaths, restarts, room)

    def _faults(self, manifest: Manifest) -> dict[str, int]:
        names = {f"{table['name']}@{table['version']}" for table in manifest.models}
        found: dict[str, int] = {}
        for worker in self._node.pool.workers:
            for report in worker.report.pipelines.values():
                for each in report.models:
                    name = f"{each.model}@{each.version}"
                    if name in names:
                        found[name] = found.get(name, 0) + each.errors + each.nan
        return found

    def trial(self) -> Row | None:
        """What is being applied: `{id, bundle, at, phase, seconds_left, reason}`."""
        attempt = self._attempt
        if attempt is None:
            return None
        bound = {"coming up": attempt.come_up, "on probation": attempt.probation}.get(attempt.phase)
        left = None if bound is None else max(0.0, round(bound / 1e6 - (self._clock.monotonic() - attempt.began), 1))
        row = {"id": attempt.id, "bundle": attempt.title, "at": to_rfc3339(attempt.at), "phase": attempt.phase}
        return {**row, "seconds_left": left, "reason": attempt.reason}

    async def shown(self) -> Row:
        """What the API answers."""
        state = self._shelf.read()
        rows = await asyncio.to_thread(self._shelf.rows)
        return {"bundles": rows, "active": state.active or None, "trial": self.trial(), "history": state.history}

    def status(self) -> Row | None:
        """What `status` says: the active bundle and what is being applied; None where there never was one."""
        try:
            state = self._shelf.read()
            title = self._shelf.manifest(state.active).title if state.active else None
        except CorruptError as error:
            return {"active": None, "id": None, "trial": self.trial(), "last": None, "trouble": str(error)}
        if not state.history and self._attempt is None:
            return None
        last = state.history[-1] if state.history else None
        return {"active": title, "id": state.active or None, "trial": self.trial(), "last": last}

    def warnings(self) -> list[str]:
        """That the last bundle did not stay, and why."""
        try:
            history = self._shelf.read().history
        except CorruptError as error:
            return [f"bundles: {error}"]
        last = history[-1] if history else {}
        if last.get("what") not in ("rolled back", "refused") or last["reason"] == BY_A_PERSON:
            return []
        return [f"bundle {last['bundle']} was {last['what']}: {last['reason']}"]


def _sha256(path: Path) -> str:
    """The digest of a file; empty where it cannot be read, which is said elsewhere."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
