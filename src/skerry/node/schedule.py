"""Which pipelines run and what each is given: admitted by priority, degraded under pressure, and whole again when it is over."""

import os
from typing import TYPE_CHECKING, Any

import msgspec

from skerry.core import log
from skerry.core.clock import Clock, to_rfc3339
from skerry.core.units import counted, parse_duration
from skerry.node.resources import reserved
from skerry.pipeline import PipelineSpec, Standing, standing
from skerry.runtime import Admission, Bounds, Candidate, Claim, Reading, ResourceUsage, Shedding, admit, judge
from skerry.worker import merge_reports

if TYPE_CHECKING:
    from skerry.node.life import Node

Row = dict[str, Any]
_log = log.get("schedule")


class Degraded(msgspec.Struct, frozen=True):
    """What a pipeline goes without, since when (microseconds), and why."""

    steps: tuple[str, ...]
    since: int
    because: str

    @property
    def sentence(self) -> str:
        return f"degraded: {', '.join(self.steps)} since {to_rfc3339(self.since)}, because {self.because}"

    @property
    def row(self) -> Row:
        return {"steps": list(self.steps), "since": to_rfc3339(self.since), "because": self.because}


class NodeSchedule:
    """The schedule of one node. `standings`: what each pipeline is given now, for its workers."""

    def __init__(self, node: "Node", clock: Clock) -> None:
        self._node = node
        self._clock = clock
        self._running: tuple[str, ...] = ()
        self._admission = Admission((), {}, {})
        self._going: dict[str, int] = {}
        self._shedding = Shedding()
        self._reading = Reading()
        self._degraded: dict[str, Degraded] = {}
        self._claimed: dict[str, ResourceUsage] = {}
        self._served = False
        self._end = 0
        section = node.config.resources
        after, recover = (parse_duration(each) / 1e6 for each in (section.shed_after, section.recover_after))
        self._bounds = Bounds(lag=section.max_lag, shed_after=after, recover_after=recover)
        self.standings: dict[str, Standing] = {}

    def runs(self, name: str) -> bool:
        """Whether a pipeline is admitted."""
        return name in self._running

    def take_config(self) -> None:
        """Admit anew: who runs stays, unless it asks for something else now or goes for a higher priority."""
        before, self._claimed = self._claimed, {claim.name: claim.needs for claim in self._claims()}
        self._served = bool(self._node.models.place()["models"])
        self._running = tuple(name for name in self._running if before.get(name) == self._claimed.get(name))
        self._admit()
        self._stand()

    async def follow(self) -> None:
        """Take one step: let in who fits, let go who makes room, degrade or give back; and tell the workers and the historian."""
        self._make_room()
        self._admit()
        self._relieve()
        if self._stand():
            await self._node.pool.change_standings(self.standings)
            await self._node.history.thin([name for name, given in self.standings.items() if not given.history])

    def _claims(self) -> list[Claim]:
        config = self._node.config
        return [
            Claim(spec.name, reserved(spec, table.get("resources") or {}), spec.priority)
            for spec, table in zip(config.pipelines, config.pipeline_tables(), strict=True)
            if set(spec.capabilities) <= set(config.node.capabilities)  # else it never runs here
        ]

    def _admit(self) -> None:
        resources = self._node.resources
        found = admit(resources.manager.limits, resources.others(self._served), self._claims(), self._running)
        for name, why in found.pending.items():
            if name not in self._admission.pending:
                _log.warning(f"pipeline {name} is pending: {why}")
        for name in self._admission.pending:
            if name in found.admitted:
                _log.info(f"pipeline {name} is admitted")
        self._admission, self._running = found, found.admitted

    def _make_room(self) -> None:
        """Degrade who must go for a higher priority by one more step, or stop it when it has none left."""
        specs = {spec.name: spec for spec in self._node.config.pipelines}
        making = {name: other for name, other in self._admission.making_room.items() if name in specs}
        going = {name: self._going.get(name, 0) + 1 for name in making}
        self._going = {name: level for name, level in going.items() if level <= len(specs[name].shed)}
        for name, other in making.items():
            if name in self._going:
                self._note(specs[name], f"it makes room for {other}", self._going[name])
            else:
                _log.warning(f"pipeline {name} stops to make room for {other}: it goes on where it is, when there is room")
        self._running = tuple(name for name in self._running if name not in making or name in self._going)

    def _relieve(self) -> None:
        """Look at the pressure, and take at most one step by it."""
        node = self._node
        reports = merge_reports([worker.report for worker in node.pool.workers])
        # what had come when this was looked at before: what came since may be on its way
        lags = {name: max(0, self._end - each.cursor) for name, each in reports.items() if each.state == "running"}
        self._end = node.link.last_sequence
        before, self._reading = self._reading, self._read(lags)
        candidates = [
            Candidate(spec.name, spec.priority, len(spec.shed))
            for spec in node.config.pipelines
            if spec.shed and self.runs(spec.name) and not (spec.name in reports and reports[spec.name].state == "paused")
        ]
        verdict = judge(self._bounds, before, self._reading)
        move = self._shedding.step(self._bounds, verdict, candidates, self._clock.monotonic())
        if move is not None:
            self._note(node.config.pipeline(move.name), move.because, move.level)

    def _read(self, lags: dict[str, int]) -> Reading:
        used, limits = self._node.resources.used, self._node.resources.manager.limits
        cores = min(limits.cpu or float("inf"), os.cpu_count() or 1)
        return Reading(used.memory / limits.memory if limits.memory else 0.0, used.cpu / cores, lags)

    def _note(self, spec: PipelineSpec, because: str, level: int) -> None:
        if because:
            _log.warning(f"pipeline {spec.name} sheds {spec.shed[level - 1]}: {because}")
            self._degraded[spec.name] = Degraded(spec.shed[:level], self._clock.now(), because)
        else:
            _log.info(f"pipeline {spec.name} sheds {spec.shed[level]} no longer: there has been calm")

    def _stand(self) -> bool:
        """Work out what each is given; whether that has changed."""
        found: dict[str, Standing] = {}
        degraded: dict[str, Degraded] = {}
        for spec in self._node.config.pipelines:
            if not self.runs(spec.name):  # it comes back whole
                self._shedding.levels.pop(spec.name, None)
            level = max(self._going.get(spec.name, 0), self._shedding.levels.get(spec.name, 0))
            found[spec.name] = standing(spec.shed[:level], not self.runs(spec.name))
            if level and self.runs(spec.name):
                degraded[spec.name] = msgspec.structs.replace(self._degraded[spec.name], steps=spec.shed[:level])
        self._degraded = degraded
        changed, self.standings = found != self.standings, found
        return changed

    def row(self, name: str, state: str, reason: str) -> Row:
        """What a pipeline's row says of it: its state and why it is that, its priority, what it may send."""
        pending, degraded = self._admission.pending.get(name), self._degraded.get(name)
        if pending is not None and state != "quarantined":
            state, reason = "pending", f"pending: {pending}"
        elif degraded is not None and state == "running":
            state, reason = "degraded", reason or degraded.sentence
        shed = degraded.row if degraded is not None else None
        waiting = self._node.uplink.held(name) + sum(relay.held(name) for relay in self._node.relays)
        network = self._node.uplink.bandwidth.row(name, waiting)
        priority = self._node.config.pipeline(name).priority
        return {"state": state, "reason": reason, "priority": priority, "shed": shed, "network": network}

    def figures(self) -> dict[str, tuple[bool, int]]:
        """By pipeline: whether it is pending, and by how many steps it is degraded."""
        return {
            name: (given.held, len(self._degraded[name].steps) if name in self._degraded else 0)
            for name, given in self.standings.items()
        }

    def warnings(self) -> list[str]:
        """Pipelines that are not admitted, and what they hold of the log."""
        reports = merge_reports([worker.report for worker in self._node.pool.workers])
        found = []
        for name, why in self._admission.pending.items():
            behind = self._node.link.last_sequence - reports[name].durable if name in reports else 0
            held = f"; it holds {counted(behind, 'message')} of the log" if behind > 0 else ""
            found.append(f"pipeline {name} is pending: {why}{held}")
        cluster = self._node.cluster
        lacks = {spec.name: cluster.lacking(spec) for spec in self._node.config.pipelines if spec.capabilities}
        return [*found, *(f"pipeline {name} is pending: {why}" for name, why in lacks.items() if why)]
