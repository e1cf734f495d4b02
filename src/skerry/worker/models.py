"""The models of a worker: counted versions, the swap from one to the next between two feeds, and shadows beside them."""

import asyncio
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from skerry.core import log
from skerry.core.errors import RejectedError, SkerryError
from skerry.inference import NOISE_S, ModelConfig, Models, load_engine, slowness
from skerry.pipeline import PipelineSpec
from skerry.runtime import resident, trim
from skerry.worker import warming
from skerry.worker.protocol import Assignment, ModelReport, ShadowReport

if TYPE_CHECKING:
    from skerry.inference import Model
    from skerry.worker.slot import Slot

Floats = NDArray[np.float64]
Label = str | int | None
RECENT = 64
"""Rows of the last batch that a new version is tried on."""
TRIES = 5
LONG_S = 0.5
SHADOW_QUEUE = 8
KEPT = 8
"""Reports of earlier versions that a pipeline keeps."""
_log = log.get("worker")


class Shadow:
    """A version that runs beside the active one, in a thread, on the same rows; at most `SHADOW_QUEUE` batches wait."""

    def __init__(self, model: "Model", against: str, threads: ThreadPoolExecutor) -> None:
        self.report = ShadowReport(model.name, model.version, against)
        self._model = model
        self._threads = threads
        self._waiting = 0
        self._lock = threading.Lock()

    def offer(self, rows: Floats, scores: Floats, labels: Sequence[Label]) -> None:
        """Compare what it answers with these answers, or pass over them where it cannot keep up."""
        with self._lock:
            if self._waiting >= SHADOW_QUEUE:
                self.report.skipped += len(rows)
                return
            self._waiting += 1
        try:
            self._threads.submit(self._run, rows, scores, labels)
        except RuntimeError:  # the threads are ending
            with self._lock:
                self._waiting -= 1

    def _run(self, rows: Floats, scores: Floats, labels: Sequence[Label]) -> None:
        report = self.report
        began = time.perf_counter()
        try:
            mine, named = self._model.score(rows)
        except SkerryError as error:
            with self._lock:
                report.errors += 1
                report.failure = report.failure or str(error)
            return
        finally:
            with self._lock:
                self._waiting -= 1
                report.runs += 1
                report.seconds += time.perf_counter() - began
        with self._lock:
            self._compare(rows, (scores, labels), (mine, named))

    def _compare(self, rows: Floats, active: tuple[Floats, Sequence[Label]], mine: tuple[Floats, Sequence[Label]]) -> None:
        report = self.report
        report.rows += len(rows)
        report.nan += _nan_of(rows, mine[0])
        difference = np.abs(active[0] - mine[0])
        difference = difference[np.isfinite(difference)]
        if difference.size:
            report.sum_difference += float(difference.sum())
            report.max_difference = max(report.max_difference, float(difference.max()))
        pairs = [(a, b) for a, b in zip(active[1], mine[1], strict=True) if a is not None or b is not None]
        report.labels += len(pairs)
        report.agreed += sum(a == b for a, b in pairs)


class LiveModel:
    """One version as a pipeline scores with it (a `Scorer`): what it does is counted, and its shadow is given the same rows."""

    def __init__(self, model: "Model", epoch: int, load_seconds: float = 0.0, memory: int = 0) -> None:
        self.name = model.name
        self.version = model.version
        self.metadata = model.metadata
        self.model = model
        self.report = ModelReport(model.name, model.version, epoch, load_seconds=load_seconds, memory=memory)
        self.recent: Floats | None = None
        self.shadow: Shadow | None = None

    def score(self, rows: Floats) -> tuple[Floats, Sequence[Label]]:
        """As `Model.score`."""
        report = self.report
        began = time.perf_counter()
        try:
            scores, labels = self.model.score(rows)
        except SkerryError:
            report.errors += 1
            raise
        finally:
            report.runs += 1
            report.rows += len(rows)
            report.seconds += time.perf_counter() - began
        report.nan += _nan_of(rows, scores)
        self.recent = rows if len(rows) <= RECENT else rows[:RECENT]
        if self.shadow is not None:
            self.shadow.offer(rows, scores, labels)
        return scores, labels


class WorkerModels:
    """All models of a worker. Loading and trying happen in a thread; swapping on the loop, between two feeds."""

    def __init__(self, assignment: Assignment) -> None:
        self._base, self._threads = Path(assignment.base), assignment.threads
        self._cache = Path(assignment.cache) if assignment.cache else None
        self._shadows, self._epoch = dict(assignment.shadows), assignment.epoch
        self._models = self._read(assignment.models)
        self._rested = frozenset(name for name, given in assignment.standings.items() if not given.shadow)
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="shadow")
        self._changing = asyncio.Lock()

    def _read(self, tables: Sequence[dict[str, Any]]) -> Models:
        return Models([msgspec.convert(table, ModelConfig) for table in tables], self._base, self._threads, self._cache)

    async def load(self, slot: "Slot") -> LiveModel:
        """The model that a pipeline begins with. Raises `ConfigError`, `RejectedError`, which the slot keeps for its report."""
        reference = str(slot.spec.model)
        async with self._changing:
            models = self._models
            config = models.find(reference)
            await asyncio.to_thread(load_engine, config.engine)
            began, before = time.perf_counter(), resident()
            try:
                model = await asyncio.to_thread(models.load, reference)
                warming.check(model, slot.spec)
                await asyncio.to_thread(warming.warm, model, slot.spec)
                await asyncio.to_thread(trim)
            except RejectedError as error:
                slot.keep(ModelReport(config.name, config.version, self._epoch, failure=str(error)))
                raise
            live = LiveModel(model, self._epoch, time.perf_counter() - began, max(0, resident() - before))
            await self._put_shadow(live, models, slot.spec)
            return live

    async def change(self, tables: Sequence[dict[str, Any]], shadows: dict[str, str], epoch: int, slots: Iterable["Slot"]) -> None:
        """Take the models as they are now: pipelines whose reference means another version try it, and swap."""
        async with self._changing:
            self._models, self._shadows, self._epoch = self._read(tables), dict(shadows), epoch
            models = self._models
            for slot in slots:
                if slot.spec.model and slot.live is not None:
                    await self._follow(slot, slot.live, models)
            for slot in slots:
                if slot.live is not None:
                    await self._put_shadow(slot.live, models, slot.spec)

    async def rest(self, pipelines: frozenset[str], slots: Iterable["Slot"]) -> None:
        """Run no shadows beside the models of these pipelines, and those of the others again."""
        async with self._changing:
            self._rested = pipelines
            for slot in slots:
                if slot.live is not None:
                    await self._put_shadow(slot.live, self._models, slot.spec)

    async def _follow(self, slot: "Slot", live: LiveModel, models: Models) -> None:
        reference = str(slot.spec.model)
        version = "?"
        try:
            config = models.find(reference)
            version = config.version
            if (config.name, version) == (live.name, live.version):
                return
            await asyncio.to_thread(load_engine, config.engine)
            began, before = time.perf_counter(), resident()
            model = await asyncio.to_thread(models.load, reference)
            await asyncio.to_thread(try_beside, model, live, slot.spec, float(getattr(config, "max_slowdown", 3.0)))
        except Exception as error:  # noqa: BLE001 - whatever a new version does, the one that runs goes on
            reason = str(error) if isinstance(error, SkerryError) else f"{type(error).__name__}: {error}"
            name = reference.partition("@")[0]
            slot.keep(ModelReport(name, version, self._epoch, failure=reason))
            _log.error(f"pipeline {slot.spec.name} stays on {live.name}@{live.version}: {name}@{version} was not taken: {reason}")
            return
        slot.swap(LiveModel(model, self._epoch, time.perf_counter() - began, max(0, resident() - before)))

    async def _put_shadow(self, live: LiveModel, models: Models, spec: PipelineSpec) -> None:
        wanted = self._shadows.get(live.name)
        if wanted is None or wanted == live.version or spec.name in self._rested:
            live.shadow = None
            return
        if live.shadow is not None and live.shadow.report.version == wanted:
            return
        try:
            reference = f"{live.name}@{wanted}"
            await asyncio.to_thread(load_engine, models.find(reference).engine)
            before = resident()
            model = await asyncio.to_thread(models.load, reference)
            warming.check(model, spec)
            live.shadow = Shadow(model, live.version, self._executor)
            live.shadow.report.memory = max(0, resident() - before)
        except Exception as error:  # noqa: BLE001 - a shadow never stops what it stands beside
            live.shadow = None
            _log.error(f"{live.name}@{wanted} does not run as a shadow: {error}")

    def close(self) -> None:
        """Forget what waits for shadows; their threads end with the batch that they are at."""
        self._executor.shutdown(wait=False, cancel_futures=True)


def try_beside(model: "Model", live: LiveModel, spec: PipelineSpec, max_slowdown: float) -> None:
    """Try a version on the rows that the running one has just had, both timed. Raises `RejectedError` with what is wrong."""
    warming.check(model, spec)
    rows = live.recent
    if rows is None or not len(rows):
        warming.warm(model, spec)
        return
    first = time.perf_counter()
    scores, _ = model.score(rows)
    first = time.perf_counter() - first
    bad = _nan_of(rows, scores)
    if bad and not _nan_of(rows, live.model.score(rows)[0]):
        raise RejectedError(f"{bad} of {len(rows)} scores are not a number, on the rows that {live.name}@{live.version} scored")
    tries = 1 if first > LONG_S else TRIES
    times = [(_time(model, rows), _time(live.model, rows)) for _ in range(tries)]
    mine, before = min(each[0] for each in times), min(each[1] for each in times)
    if mine > NOISE_S and mine > max_slowdown * before:
        raise RejectedError(slowness(mine / len(rows), before / len(rows), max_slowdown))


def _time(model: "Model", rows: Floats) -> float:
    began = time.perf_counter()
    model.score(rows)
    return time.perf_counter() - began


def _nan_of(rows: Floats, scores: Floats) -> int:
    """How many scores are not a number although their row was."""
    bad = np.isnan(scores)
    if not bad.any():
        return 0
    if rows.dtype.kind == "O":  # strings
        return int(bad.sum())
    return int((bad & np.isfinite(rows.reshape(len(rows), -1)).all(axis=1)).sum())
