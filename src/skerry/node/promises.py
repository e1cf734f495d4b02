"""The four promises as live numbers: latency, reliability, efficiency with energy, bandwidth; formulas in docs/promises.md."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from skerry.core.clock import Clock
from skerry.core.histogram import Histogram
from skerry.core.service import beat, cancel_and_wait
from skerry.core.units import counted, show_duration, show_size
from skerry.node.processes import processes_of
from skerry.node.roundtrip import RoundTrip
from skerry.runtime import EnergyMeter, WakeupMeter, busy_seconds
from skerry.worker import PipelineReport, merge_reports

if TYPE_CHECKING:
    from skerry.node.life import Node

Row = dict[str, Any]
EVERY_S = 2.0
ENOUGH = 1000
"""Messages of which the cost of a thousand can be told; of fewer it would be that of starting up and idling."""
WINDOW_S = 60.0
DAY_US = 86_400_000_000
_KEPT = int(WINDOW_S / EVERY_S) + 1


class Counts(msgspec.Struct, frozen=True):
    """What has been counted up to one time, all from zero at the node's start but `bytes_in`, `bytes_sent`.

    Attributes:
        at: seconds. cpu_s: CPU seconds of all processes. memory: resident bytes of them now. devices: that pipelines know.
        received, scored: messages. bytes_in: payloads that pipelines took, ever. bytes_sent: up the link, ever.
        joules: of the processor packages. busy_s: CPU seconds of this whole machine, where `joules` are told.
        wakeups: of all threads of all processes, where `joules` are not told. link_ms: the round trip to the uplink's host.
    """

    at: float = 0.0
    cpu_s: float = 0.0
    memory: int = 0
    devices: int = 0
    received: int = 0
    scored: int = 0
    bytes_in: int = 0
    bytes_sent: int = 0
    joules: float | None = None
    busy_s: float = 0.0
    wakeups: int | None = None
    link_ms: float | None = None


class Worked(msgspec.Struct, frozen=True):
    """What was done between two counts. None: nothing, or too little, was done that it could be told of."""

    scored_per_cpu_s: float | None = None
    memory_per_device: float | None = None
    cpu_s_per_1000: float | None = None
    joules_per_1000: float | None = None
    wakeups_per_1000: float | None = None


def worked(before: Counts, now: Counts) -> Worked:
    """Efficiency between two counts. Of the packages' energy the node has the share that it has of the machine's CPU time."""
    cpu_s, scored, received = now.cpu_s - before.cpu_s, now.scored - before.scored, now.received - before.received
    enough = received >= ENOUGH
    joules = None
    if now.joules is not None and before.joules is not None and enough:
        busy = max(cpu_s, now.busy_s - before.busy_s)
        joules = 1000 * (now.joules - before.joules) * (cpu_s / busy if busy > 0 else 0.0) / received
    woken = None
    if now.wakeups is not None and before.wakeups is not None and enough:
        woken = 1000 * (now.wakeups - before.wakeups) / received
    return Worked(
        wakeups_per_1000=woken,
        scored_per_cpu_s=scored / cpu_s if scored and cpu_s > 0 else None,
        memory_per_device=now.memory / now.devices if now.devices else None,
        cpu_s_per_1000=1000 * cpu_s / received if enough else None,
        joules_per_1000=joules,
    )


class Growth:
    """Sums of counters that may begin anew or go back: by how much each has grown since it was first seen."""

    def __init__(self) -> None:
        self.total = 0
        self._last: dict[str, int] = {}

    def add(self, counters: Mapping[str, int]) -> int:
        """The sum with these; a counter that is not there keeps its place."""
        for name, value in counters.items():
            self.total += max(0, value - self._last.get(name, value))
            self._last[name] = value
        return self.total


class Promises:
    """Keeps the counts of the last minute; a service.

    Args:
        reports: of all pipelines now. topics: by pipeline, the topic that it reads. uptime: the ledger's report over a time.
        rest: memory, CPU seconds, energy and time: the counts that do not come of reports.
        beside: what is run as long as it is. linked: whether there is an uplink.
    """

    def __init__(
        self,
        reports: Callable[[], Mapping[str, PipelineReport]],
        topics: Callable[[], Mapping[str, str]],
        uptime: Callable[[int], Row],
        rest: Callable[[], Counts],
        beside: Sequence[RoundTrip] = (),
        linked: Callable[[], bool] = lambda: True,
    ) -> None:
        self._reports = reports
        self._topics = topics
        self._uptime = uptime
        self._rest = rest
        self._beside = beside
        self._linked = linked
        self._received, self._scored = Growth(), Growth()
        self._counts: deque[Counts] = deque(maxlen=_KEPT)
        self._first: Counts | None = None

    async def run(self) -> None:
        """Count every two seconds, and measure the link, until cancelled."""
        measuring = [asyncio.create_task(beside.run()) for beside in self._beside]
        try:
            while True:
                self.count()
                await beat(EVERY_S)
        finally:
            await cancel_and_wait(*measuring)

    def count(self) -> None:
        """Count once."""
        reports, topics = self._reports(), self._topics()
        books = {name: report.books for name, report in reports.items() if report.books}
        counts = msgspec.structs.replace(
            self._rest(),
            devices=by_topic({name: report.keys for name, report in reports.items()}, topics),
            received=self._received.add({name: each["received"] for name, each in books.items()}),
            scored=self._scored.add({name: each["scored"] for name, each in books.items()}),
            bytes_in=by_topic({name: report.received_bytes for name, report in reports.items()}, topics),
        )
        self._first = self._first or counts
        self._counts.append(counts)

    @property
    def now(self) -> Counts:
        """The last count."""
        return self._counts[-1] if self._counts else Counts()

    @property
    def lately(self) -> Worked:
        """What was done within the last minute; what a thousand messages cost since the start, where that minute had fewer."""
        if self._first is None:
            return Worked()
        lately, ever = worked(self._counts[0], self._counts[-1]), worked(self._first, self._counts[-1])
        return lately if self._of_last_minute else msgspec.structs.replace(ever, scored_per_cpu_s=lately.scored_per_cpu_s)

    @property
    def _of_last_minute(self) -> bool:
        return self._counts[-1].received - self._counts[0].received >= ENOUGH if self._counts else False

    def status(self) -> Row:
        """Each promise with its figures and a sentence."""
        return {
            "latency": _latency(self._reports(), self.now.link_ms),
            "reliability": _reliability(self._uptime(0), self._uptime(DAY_US)),
            "efficiency": _efficiency(self.lately, self.now.devices),
            "energy": _energy(self.lately, self.now.received, "in the last minute" if self._of_last_minute else "since the start"),
            "bandwidth": _bandwidth(self.now, self._linked()),
        }


def promises_of(node: "Node", clock: Clock) -> Promises:
    """Those of a node."""
    energy, wakeups = EnergyMeter(), WakeupMeter()
    link = RoundTrip(lambda: node.config.uplink.url, clock)

    def reports() -> Mapping[str, PipelineReport]:
        return merge_reports([worker.report for worker in node.pool.workers])

    def topics() -> Mapping[str, str]:
        return {spec.name: spec.source.topic for spec in node.config.pipelines}

    def rest() -> Counts:
        resources, readable = node.resources, energy.readable
        return Counts(
            at=clock.monotonic(),
            cpu_s=resources.cpu_seconds,
            memory=round(resources.used.memory),
            bytes_sent=node.uplink.bytes_sent,
            joules=energy.read() if readable else None,
            busy_s=busy_seconds() if readable else 0.0,
            wakeups=None if readable else wakeups.read(each.pid for each in processes_of(node) if each.pid),
            link_ms=link.milliseconds,
        )

    return Promises(reports, topics, node.uptime.report, rest, [link], lambda: bool(node.config.uplink.url))


def by_topic(counts: Mapping[str, int], topics: Mapping[str, str]) -> int:
    """The sum over topics: pipelines that read the same one see the same messages and devices."""
    most: dict[str, int] = {}
    for name, count in counts.items():
        topic = topics.get(name, name)
        most[topic] = max(most.get(topic, 0), count)
    return sum(most.values())


def _latency(reports: Mapping[str, PipelineReport], link_ms: float | None) -> Row:
    arrival, age = Histogram(), Histogram()
    for report in reports.values():
        arrival.merge(report.latency)
        age.merge(report.age)
    both = {"arrival_ms": _quantiles(arrival), "device_ms": _quantiles(age)}
    link = {"link_ms": None if link_ms is None else round(link_ms, 3)}
    beside = f"; a round trip to the uplink {_ms(link_ms)}" if link_ms is not None else ""
    if not arrival.total:
        return {**both, **link, "events": 0, "sentence": f"no event yet{beside}"}
    return {
        **both,
        **link,
        "events": arrival.total,
        "sentence": f"broker to event p50 {_ms(both['arrival_ms']['p50'])}, p99 {_ms(both['arrival_ms']['p99'])}; "
        f"device's time to event p50 {_ms(both['device_ms']['p50'])}, p99 {_ms(both['device_ms']['p99'])}{beside}",
    }


def _quantiles(histogram: Histogram) -> dict[str, float | None]:
    found = {"p50": histogram.quantile(0.5), "p99": histogram.quantile(0.99)}
    return {name: None if value is None else round(value, 3) for name, value in found.items()}


def _reliability(ever: Row, day: Row) -> Row:
    gaps = ever["gaps"]
    last = gaps[-1] if gaps else None
    ended = "" if last is None else f"; last gap {_seconds(last['seconds'])} at {last['begin']}: {last['reason']}"
    sentence = (
        f"up {100 * ever['ratio']:.3f} % since {ever['since']} ({100 * day['ratio']:.3f} % of the last day), "
        f"down {_seconds(ever['planned_s'])} planned, {_seconds(ever['unplanned_s'])} unplanned{ended}"
    )
    kept = {name: ever[name] for name in ("since", "ratio", "up_s", "planned_s", "unplanned_s", "starts")}
    return {**kept, "day_ratio": day["ratio"], "gaps": len(gaps), "last_gap": last, "sentence": sentence}


def _efficiency(lately: Worked, devices: int) -> Row:
    found = {"scored_per_cpu_s": lately.scored_per_cpu_s, "memory_per_device": lately.memory_per_device, "devices": devices}
    scored = f"{lately.scored_per_cpu_s:,.0f}" if lately.scored_per_cpu_s is not None else "no"
    memory = lately.memory_per_device
    each = f"{show_size(memory)} of memory a device, {counted(devices, 'device')}" if memory is not None else "no device yet"
    return {**found, "sentence": f"{scored} messages scored per CPU-second in the last minute; {each}"}


def _energy(lately: Worked, received: int, when: str) -> Row:
    found: Row = {name: getattr(lately, name) for name in ("joules_per_1000", "cpu_s_per_1000", "wakeups_per_1000")}
    if lately.cpu_s_per_1000 is None:
        return {**found, "sentence": f"told from {ENOUGH:,} messages on; {received:,} so far"}
    woken = f" and {lately.wakeups_per_1000:,.0f} wake-ups" if lately.wakeups_per_1000 is not None else ""
    spent = f"{lately.cpu_s_per_1000:.3g} CPU-seconds{woken} per 1,000 messages {when}"
    if lately.joules_per_1000 is None:
        return {**found, "sentence": f"{spent} (this machine tells no energy)"}
    return {**found, "sentence": f"{lately.joules_per_1000:.3g} J and {spent}"}


def _bandwidth(now: Counts, linked: bool) -> Row:
    saved = max(0, now.bytes_in - now.bytes_sent)
    part = f" ({100 * saved / now.bytes_in:.1f} %)" if now.bytes_in else ""
    sentence = f"{show_size(now.bytes_in)} in, {show_size(now.bytes_sent)} sent up, {show_size(saved)} saved{part}"
    if not linked:
        sentence = f"{show_size(now.bytes_in)} in; nothing leaves (no uplink)"
    return {"bytes_in": now.bytes_in, "bytes_sent": now.bytes_sent, "bytes_saved": saved, "sentence": sentence}


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f} ms"


def _seconds(value: float) -> str:
    return show_duration(value * 1e6)
