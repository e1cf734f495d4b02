"""All workers of a node: who runs what, and what is said to all of them, in their next lives too."""

import asyncio
from collections.abc import Callable, Collection
from typing import Any

from skerry.core import log
from skerry.core.clock import Clock
from skerry.core.service import cancel_and_wait
from skerry.core.units import show_size
from skerry.pipeline import Standing
from skerry.worker.breaches import load_breaches, save_breaches
from skerry.worker.child import Breached, Worker
from skerry.worker.plan import WorkerPlan
from skerry.worker.protocol import Command
from skerry.worker.sharing import deal

_log = log.get("workers")


class WorkerPool:
    """All workers of a node; a service. `pipelines`: the names of those that they know."""

    def __init__(self, plan: WorkerPlan, clock: Clock, log_end: Callable[[], int], breached: Breached = lambda *_: None) -> None:
        self.ready = asyncio.Event()
        self._clock = clock
        self._breached = breached
        self._file = plan.run_dir / "breaches.json"
        self._breaches = load_breaches(self._file)
        self.pipelines = {str(table["name"]) for table in plan.assignment.pipelines}
        self._breaches.keep_only(self.pipelines)
        self._dealt: dict[str, int] = {}
        self.workers = [Worker(plan, index, clock, log_end, self._breach, breached) for index in range(plan.workers)]
        for name in self.quarantined:
            self.mark(name, True)

    async def run(self) -> None:
        """Keep the workers running until they are drained, or cancelled."""
        tasks = [asyncio.create_task(worker.run()) for worker in self.workers]
        waiting = asyncio.create_task(self._await_ready())
        try:
            await asyncio.gather(*tasks)
        finally:
            await cancel_and_wait(*tasks, waiting)

    async def _await_ready(self) -> None:
        for worker in self.workers:
            await worker.first_ready.wait()
        self.ready.set()

    def give(self, host: str, port: int, user: str, password: str) -> None:
        """Say where the log is."""
        for worker in self.workers:
            worker.place = {"host": host, "port": port, "user": user, "password": password}

    async def run_units(self, units: Collection[str]) -> None:
        """Run these units from now on: those that are new are loaded, those that are gone are stored and let go of."""
        self._dealt = deal(units, self._dealt, len(self.workers))
        shares = [sorted(unit for unit, at in self._dealt.items() if at == worker.index) for worker in self.workers]
        await asyncio.gather(*[worker.run_units(share) for worker, share in zip(self.workers, shares, strict=True)])

    def held(self) -> set[str]:
        """The units that the workers are to run, or may not have stopped yet; the others have been stored."""
        return set().union(*[worker.held() for worker in self.workers])

    async def extend(self, lease: float) -> None:
        """Work until this time, by the monotonic clock of this computer, and no longer unless told so anew."""
        for worker in self.workers:
            worker.share.lease = lease
        await asyncio.gather(*[worker.send(Command("lease", lease=lease)) for worker in self.workers])

    def mark(self, pipeline: str, paused: bool) -> None:
        """Note that a pipeline is paused, or no longer, for the workers' next lives."""
        for worker in self.workers:
            (worker.paused.add if paused else worker.paused.discard)(pipeline)

    @property
    def quarantined(self) -> dict[str, str]:
        """Pipelines that run no more until a person says so: they took too much memory, too often. Why, in one sentence."""
        return self._breaches.quarantined

    async def _breach(self, pipeline: str, used: int, allowed: int) -> float | None:
        """Count what was too much, and say so; see `Breach`."""
        pause = self._breaches.breach(pipeline, used, allowed, self._clock.now())
        words = f"pipeline {pipeline} is stopped: it used {show_size(used)} of {show_size(allowed)}"
        if pause is None:
            words = f"pipeline {pipeline} is quarantined: {self.quarantined[pipeline]}"
            self.mark(pipeline, True)
            await asyncio.gather(*[worker.command("pause", pipeline) for worker in self.workers])
        save_breaches(self._file, self._breaches)
        _log.error(words)
        self._breached(pipeline, words)
        return pause

    async def command(self, do: str, pipeline: str) -> None:
        """`pause` or `resume` a pipeline on all workers, and in their next lives; `resume` ends a quarantine."""
        self.mark(pipeline, do == "pause")
        if do == "resume" and self._breaches.forgive(pipeline):
            save_breaches(self._file, self._breaches)
        for worker in self.workers if do == "resume" else ():
            worker.wake()
        await asyncio.gather(*[worker.command(do, pipeline) for worker in self.workers])

    async def change_models(self, models: list[dict[str, Any]], shadows: dict[str, str], epoch: int) -> None:
        """Bring other models to all workers, and to their next lives."""
        for worker in self.workers:
            worker.models = {"models": models, "shadows": shadows, "epoch": epoch}
        command = Command("models", models=models, shadows=shadows, epoch=epoch)
        await asyncio.gather(*[worker.send(command) for worker in self.workers])

    def stand(self, standings: dict[str, Standing]) -> None:
        """Note what pipelines are given of the node, for the workers' next lives."""
        for worker in self.workers:
            worker.standings = standings

    async def change_standings(self, standings: dict[str, Standing]) -> None:
        """Give pipelines more or less of the node, on all workers and in their next lives."""
        self.stand(standings)
        await asyncio.gather(*[worker.send(Command("standings", standings=standings)) for worker in self.workers])

    @property
    def deaths(self) -> int:
        """How often workers were started again, all together."""
        return sum(worker.restarts.total for worker in self.workers)

    async def drain(self) -> None:
        """Store all and end."""
        await asyncio.gather(*[worker.drain() for worker in self.workers])
