"""The models of a worker: loaded and tried in a thread, swapped between two feeds."""

import asyncio
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from skerry.core import log
from skerry.core.errors import RejectedError, SkerryError
from skerry.inference import NOISE_S, ModelConfig, Models, load_engine, slowness
from skerry.pipeline import PipelineSpec
from skerry.runtime import resident, trim
from skerry.worker import warming
from skerry.worker.live import Floats, LiveModel, Shadow, nan_of
from skerry.worker.protocol import Assignment, ModelReport

if TYPE_CHECKING:
    from skerry.inference import Model
    from skerry.worker.slot import Slot

TRIES = 5
LONG_S = 0.5
_log = log.get("worker")


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
    bad = nan_of(rows, scores)
    if bad and not nan_of(rows, live.model.score(rows)[0]):
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
