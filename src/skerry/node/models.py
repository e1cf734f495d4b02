"""The node's keeper of models: switches versions while pipelines run, watches a new one, and takes it back when it is worse."""

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import msgspec

from skerry.core import log
from skerry.core.clock import Clock, to_rfc3339
from skerry.core.errors import RejectedError, SkerryError
from skerry.core.service import beat
from skerry.inference import (
    Counts,
    EngineHost,
    ModelConfig,
    Verdict,
    Version,
    activate,
    adopt_index,
    check_memory,
    decide,
    stage,
    try_model,
)
from skerry.node.look import mark_of
from skerry.worker import ModelReport, ShadowReport, add_models, add_shadows, merge_reports

if TYPE_CHECKING:
    from skerry.node.life import Node

Row = dict[str, Any]
JUDGE_S = 0.5
HISTORY = 50
_log = log.get("models")


class Watch(msgspec.Struct):
    """A version on probation: which one it replaced, since when, and what that one had done."""

    version: str
    before: str
    epoch: int
    began: float
    deaths: int
    counts_before: Counts


class Kept(msgspec.Struct):
    """What is kept over restarts beside the catalogue: what happened, newest last."""

    history: list[Row] = []


class NodeModels:
    """Keeper of the catalogue of one node. Changes are made one at a time."""

    def __init__(self, node: "Node", clock: Clock) -> None:
        self._node = node
        self._clock = clock
        self._file = node.config.data_dir / "rollout.json"
        self._kept = _read(self._file)
        self._watches: dict[str, Watch] = {}
        self._changing = asyncio.Lock()
        self._marks: dict[tuple[str, str], tuple[str, tuple[int, int]]] = {}
        self.epoch = 0
        self.rollbacks: dict[str, int] = {}
        self.host = EngineHost()
        self.take_config()

    def take_config(self) -> None:
        """Read the configuration's models (again)."""
        config = self._node.config
        self.catalogue = config.catalogue(self._clock)
        self._marks = _marks(list(config.models), config.base)

    def changed_files(self) -> list[str]:
        """A sentence for each file of the configuration that is not what it was when it was read."""
        found = []
        now = _marks(list(self._node.config.models), self._node.config.base)
        for (name, version), (file, mark) in now.items():
            if self._marks.get((name, version), (file, mark)) != (file, mark):
                found.append(
                    f"{name}@{version}: {file} has changed under the same version; workers take it when they next start; "
                    "give it a version of its own"
                )
        return found

    def place(self) -> dict[str, Any]:
        """What workers are told of models."""
        configs = self.catalogue.configs()
        shadows = {name: version for name in {config.name for config in configs} if (version := self._shadow(name))}
        return {"models": [msgspec.to_builtins(config) for config in configs], "shadows": shadows, "epoch": self.epoch}

    def _shadow(self, name: str) -> str:
        found = self.catalogue.shadow_of(name)
        return found.version if found is not None else ""

    async def _push(self) -> None:
        self.epoch += 1
        await self._node.pool.change_models(**self.place())
        await self._node.serving.give(self.place()["models"])
        await self._node.view.describe_models()

    async def add(self, name: str, file: str, version: str, given: Row) -> Row:
        """Try a file and keep it, staged. `given`: labels, threshold, features, convert."""
        path = self._node.config.base / file
        # not one at a time with the rest: a trial may hang until its time is over, and a version on probation must not wait for it
        added = await asyncio.to_thread(stage, self.catalogue, name, path, version, host=self.host, **given)
        async with self._changing:
            self._tell(name, added.version, "added")
            await self._push()
            return self._row(added)

    async def upload(self, name: str, file: bytes, version: str) -> Row:
        """Keep what is in a file as `add` does; what is refused leaves nothing behind."""
        with TemporaryDirectory(prefix="skerry-model-") as folder:
            path = Path(folder) / "upload.onnx"
            await asyncio.to_thread(path.write_bytes, file)
            return await self.add(name, str(path), version, {})

    async def activate(self, name: str, version: str) -> None:
        """Try a version in a process of its own, switch to it, and watch it."""
        async with self._changing:
            active = self._active(name)
            if active == version:
                return
            began, deaths = self._clock.monotonic(), self._node.pool.deaths
            watch = Watch(version, active, self.epoch + 1, began, deaths, self._counts(name, active))
            try:
                slowdown, cache = self._max_slowdown(name, version), self._node.config.model_cache
                with self._node.resources.room(self.catalogue.find(f"{name}@{version}")):
                    await asyncio.to_thread(activate, self.catalogue, name, version, slowdown, cache=cache, host=self.host)
            except RejectedError as error:
                self._tell(name, version, "failed its trial", str(error))
                raise
            self._tell(name, version, "activated")
            if active:
                self._watches[name] = watch
            await self._collect(self._node.config.runtime.keep_versions)
            await self._push()

    async def give_up(self) -> None:
        """Remove what nothing uses but for the newest of each name: the disk is short."""
        async with self._changing:
            await self._collect(1)

    async def _collect(self, keep: int) -> None:
        pinned = [spec.model for spec in self._node.config.pipelines if spec.model]
        for gone in await asyncio.to_thread(self.catalogue.collect, keep, pinned):
            self._tell(gone.partition("@")[0], gone.partition("@")[2], "removed: too old")

    async def rollback(self, name: str) -> None:
        """Go back to the version before."""
        async with self._changing:
            self._watches.pop(name, None)
            version = await asyncio.to_thread(self.catalogue.rollback, name)
            self._tell(name, version.version, "rolled back to")
            await self._push()

    async def shadow(self, name: str, version: str | None) -> None:
        """Run a version beside the active one, or none."""
        async with self._changing:
            if version is not None:
                row = self.catalogue.find(f"{name}@{version}")
                path, engine, cache = self.catalogue.path(row), row.engine or "auto", self._node.config.model_cache
                with self._node.resources.room(row):
                    report = await asyncio.to_thread(
                        try_model, path, where=row.reference, engine=engine, cache=cache, host=self.host
                    )
                    check_memory(self.catalogue, name, report.memory, row.reference)
            await asyncio.to_thread(self.catalogue.shadow, name, version)
            self._tell(name, version or "", "runs as shadow" if version else "shadow ended")
            await self._push()

    async def remove(self, name: str, version: str) -> None:
        """Remove a version that is not active."""
        async with self._changing:
            await asyncio.to_thread(self.catalogue.remove, name, version)
            self._tell(name, version, "removed")
            await self._push()

    async def adopt(self, data: bytes) -> None:
        """Have the catalogue of another node from now on, whose files are here. A version on probation there is judged there."""
        async with self._changing:
            await asyncio.to_thread(adopt_index, self.catalogue, data)
            await self._push()

    async def run(self) -> None:
        """Judge versions on probation until cancelled."""
        try:
            while True:
                await beat(JUDGE_S)
                self.host.reap()
                for name in list(self._watches):
                    try:
                        await self._judge(name)
                    except SkerryError as error:
                        _log.error(f"model {name} could not be taken back: {error}")
        finally:
            self.host.close()

    async def _judge(self, name: str) -> None:
        async with self._changing:
            watch = self._watches.get(name)
            if watch is None:
                return
            verdict = self._verdict(name, watch)
            if verdict.settled:
                del self._watches[name]
            if not verdict.roll_back:
                return
            await asyncio.to_thread(self._take_back, name, watch, verdict.reason)
            self.rollbacks[name] = self.rollbacks.get(name, 0) + 1
            self._tell(name, watch.version, f"rolled back to {watch.before}", verdict.reason)
            _log.error(f"model {name}@{watch.version} was rolled back to {watch.before}: {verdict.reason}")
            await self._push()

    def _take_back(self, name: str, watch: Watch, reason: str) -> None:
        before = self.catalogue.previous(name)
        if self._active(name) == watch.version and before is not None:
            self.catalogue.rollback(name, reason)
        else:
            self.catalogue.fail(name, watch.version, reason)

    def _verdict(self, name: str, watch: Watch) -> Verdict:
        parts = [each for each in self._reports(name) if each.version == watch.version and each.epoch >= watch.epoch]
        failure = next((each.failure for each in parts if each.failure), "")
        return decide(
            _sum(parts),
            watch.counts_before,
            max_slowdown=self._max_slowdown(name, watch.version),
            elapsed=self._clock.monotonic() - watch.began,
            deaths=max(0, self._node.pool.deaths - watch.deaths),
            failure=failure,
        )

    def _max_slowdown(self, name: str, version: str) -> float:
        for config in self.catalogue.configs():
            if (config.name, config.version) == (name, version):
                return float(getattr(config, "max_slowdown", 3.0))
        return 3.0

    def _reports(self, name: str) -> list[ModelReport]:
        """What the versions of a model did, over all workers and pipelines."""
        found = (report for worker in self._node.pool.workers for report in worker.report.pipelines.values())
        return add_models(each for report in found for each in report.models if each.model == name)

    def _counts(self, name: str, version: str) -> Counts:
        return _sum([each for each in self._reports(name) if each.version == version])

    def _shadow_report(self, name: str) -> ShadowReport | None:
        total: ShadowReport | None = None
        for worker in self._node.pool.workers:
            for report in worker.report.pipelines.values():
                if report.shadow is not None and report.shadow.model == name:
                    total = add_shadows(total, report.shadow)
        return total

    def _active(self, name: str) -> str:
        found = self.catalogue.active(name)
        return found.version if found is not None else ""

    def _tell(self, name: str, version: str, what: str, reason: str = "") -> None:
        """Keep what happened; a disk without room loses the note, not the change."""
        self._kept.history.append(
            {"at": to_rfc3339(self._clock.now()), "name": name, "version": version, "what": what, "reason": reason}
        )
        del self._kept.history[:-HISTORY]
        temporary = self._file.with_suffix(".new")
        try:
            temporary.write_bytes(msgspec.json.encode(self._kept))
            temporary.replace(self._file)
        except OSError as error:
            _log.warning(f"{self._file}: cannot be written: {error.strerror}")

    def _row(self, version: Version) -> Row:
        row: Row = msgspec.to_builtins(version)  # leaves out what is at its default
        return {"state": version.state, "file": str(self.catalogue.path(version)), **row, "active": version.state == "active"}

    def rows(self) -> list[Row]:
        """A row a version."""
        return [self._row(version) for version in self.catalogue.versions()]

    def row(self, name: str, described: list[Row]) -> Row | None:
        """One model with its versions, what they did in pipelines, its shadow, and what happened to it."""
        versions = [row for row in described if row["name"] == name]
        if not versions:
            return None
        active = self._active(name)
        return {
            "name": name,
            "active": active or None,
            "versions": versions,
            "running": [_running(each) for each in self._reports(name)],
            "charged": [msgspec.to_builtins(each) for each in self._node.resources.charged(name)],
            "shadow": self._shadow_row(name),
            "on_probation": name in self._watches,
            "drift": self._drift(name),
            "history": [each for each in self._kept.history if each["name"] == name],
        }

    def _drift(self, name: str) -> Row:
        """How far the features of each pipeline that uses the model have moved from its reference."""
        reports = merge_reports([worker.report for worker in self._node.pool.workers])
        return {
            pipeline: msgspec.to_builtins(report.drift)
            for pipeline, report in reports.items()
            if report.model == name and report.drift is not None
        }

    def _shadow_row(self, name: str) -> Row | None:
        wanted = self._shadow(name)
        if not wanted:
            return None
        report = self._shadow_report(name)
        if report is None or report.version != wanted:
            return {"version": wanted, "rows": 0}
        return {
            "version": report.version,
            "against": report.against,
            "rows": report.rows,
            "mean_difference": report.sum_difference / report.rows if report.rows else None,
            "max_difference": report.max_difference if report.rows else None,
            "label_agreement": report.agreed / report.labels if report.labels else None,
            "errors": report.errors,
            "nan": report.nan,
            "skipped": report.skipped,
            "seconds_per_row": report.seconds / report.rows if report.rows else None,
            "failure": report.failure,
        }

    def warnings(self) -> list[str]:
        """Versions that were taken back and are the last thing that happened to their model."""
        last = {each["name"]: each for each in self._kept.history}
        return [f"model {name}@{each['version']} {each['what']}: {each['reason']}" for name, each in last.items() if each["reason"]]


def _running(report: ModelReport) -> Row:
    row: Row = msgspec.to_builtins(report)
    row["seconds_per_row"] = report.seconds / report.rows if report.rows else None
    return row


def _sum(parts: list[ModelReport]) -> Counts:
    return Counts(
        runs=sum(each.runs for each in parts),
        rows=sum(each.rows for each in parts),
        errors=sum(each.errors for each in parts),
        nan=sum(each.nan for each in parts),
        seconds=sum(each.seconds for each in parts),
    )


def _marks(configs: list[ModelConfig], base: Path) -> dict[tuple[str, str], tuple[str, tuple[int, int]]]:
    """File, size and time of change of the configuration's models; what is not there has none."""
    found = {}
    for config in configs:
        if (mark := mark_of(base / config.file)) is not None:
            found[config.name, config.version] = (config.file, mark)
    return found


def _read(file: Path) -> Kept:
    try:
        return msgspec.json.decode(file.read_bytes(), type=Kept)
    except (OSError, msgspec.MsgspecError):
        return Kept()
