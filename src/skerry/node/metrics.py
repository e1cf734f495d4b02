"""Prometheus metrics out of what workers report; names as the documents fix them, prefix `skerry_`."""

from collections.abc import Iterable, Mapping

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from skerry.connector import ConnectorReport
from skerry.core.histogram import PROMETHEUS_BOUNDS_S, Histogram
from skerry.node.promises import Counts, Worked
from skerry.worker import ModelReport, PipelineReport, add_models


class Figures:
    """What the metrics are made of at one moment."""

    def __init__(self) -> None:
        self.pipelines: dict[str, PipelineReport] = {}
        self.restarts: Mapping[str, int] = {}
        self.rollbacks: Mapping[str, int] = {}
        self.refused: Mapping[str, int] = {}
        self.topics_refused: Mapping[str, int] = {}
        self.api_refused: Mapping[str, int] = {}
        self.audit_lost: Mapping[str, int] = {}
        self.store_bytes: Mapping[str, int] = {}
        self.disk_given_up: Mapping[str, int] = {}
        self.memory: Mapping[str, int] = {}
        self.resources: Mapping[str, Mapping[str, float]] = {}
        self.breaches: Mapping[str, int] = {}
        self.partitions: Mapping[str, int] = {}
        self.schedule: Mapping[str, tuple[bool, int]] = {}
        self.loop_lag_s = 0.0
        self.loop_stalls = 0
        self.cpu_seconds: Mapping[str, float] = {}
        self.quarantined: Mapping[str, int] = {}
        self.connectors: Mapping[str, ConnectorReport] = {}
        self.promised, self.lately = Counts(), Worked()
        self.uplink_waiting: Mapping[str, int] = {}
        self.uplink_thinned: Mapping[str, int] = {}
        self.uptime: Mapping[str, float] = {"planned_s": 0.0, "unplanned_s": 0.0}
        self.uptime_ratio = 0.0
        self.ready = False
        self.leads = True
        self.members: Mapping[str, int] = {}
        self.telemetry: Mapping[str, tuple[int, int]] = {}


class _Families(Collector):
    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def collect(self) -> Iterable[Metric]:
        yield from self._messages()
        yield from self._inference()
        yield from self._drift()
        yield from self._node()
        yield from self._promises()
        yield from self._uplink()
        yield from self._connectors()
        yield from self._telemetry()

    def _messages(self) -> Iterable[Metric]:
        received = CounterMetricFamily("skerry_messages_received", "Messages taken from the log.", labels=["pipeline"])
        scored = CounterMetricFamily("skerry_messages_scored", "Messages in scored windows.", labels=["pipeline"])
        events = CounterMetricFamily("skerry_events", "Events put out.", labels=["pipeline"])
        windows = CounterMetricFamily("skerry_windows", "Windows scored.", labels=["pipeline"])
        late = CounterMetricFamily("skerry_late", "Messages that came after their windows.", labels=["pipeline"])
        dead = CounterMetricFamily("skerry_deadletters", "Dead letters.", labels=["pipeline", "reason"])
        same = CounterMetricFamily("skerry_duplicates", "Re-sends dropped.", labels=["pipeline"])
        shed = CounterMetricFamily("skerry_shed", "Messages that were not scored, the node being short.", labels=["pipeline"])
        opened = GaugeMetricFamily("skerry_open_messages", "Messages in open windows.", labels=["pipeline"])
        off = GaugeMetricFamily("skerry_ledger_difference", "Messages unaccounted for; 0.", labels=["pipeline"])
        lag = GaugeMetricFamily("skerry_lag_messages", "Messages in the log not yet taken.", labels=["pipeline"])
        taken = CounterMetricFamily("skerry_received_bytes", "Payload bytes taken from the log.", labels=["pipeline"])
        latency = HistogramMetricFamily("skerry_latency_seconds", "Broker arrival to event.", labels=["pipeline"])
        age = HistogramMetricFamily("skerry_event_age_seconds", "Device's time of the window's end to event.", labels=["pipeline"])
        for name, report in self._figures.pipelines.items():
            books = report.books
            if not books:
                continue
            received.add_metric([name], books["received"])
            scored.add_metric([name], books["scored"])
            same.add_metric([name], books["duplicates"])
            shed.add_metric([name], books.get("shed", 0))
            opened.add_metric([name], books["open"])
            off.add_metric([name], books["difference"])
            events.add_metric([name], report.events)
            windows.add_metric([name], report.windows)
            lag.add_metric([name], report.lag)
            taken.add_metric([name], report.received_bytes)
            late.add_metric([name], books["dead_letters"].get("late", 0))
            for reason, count in books["dead_letters"].items():
                dead.add_metric([name, reason], count)
            latency.add_metric([name], _buckets(report.latency), report.latency.sum_ms / 1000)
            age.add_metric([name], _buckets(report.age), report.age.sum_ms / 1000)
        return (received, scored, events, windows, late, dead, same, shed, opened, off, lag, taken, latency, age)

    def _inference(self) -> Iterable[Metric]:
        labels = ["pipeline", "model", "version"]
        seconds = SummaryMetricFamily("skerry_infer_seconds", "Time in model runs.", labels=labels)
        size = GaugeMetricFamily("skerry_batch_size", "Rows a model run, mean since start.", labels=labels)
        errors = CounterMetricFamily("skerry_model_errors", "Model runs that failed.", labels=labels)
        nan = CounterMetricFamily("skerry_model_nan", "Scores that were not a number on rows that were.", labels=labels)
        for name, report in self._figures.pipelines.items():
            for did in _by_version(report.models):
                where = [name, did.model, did.version]
                seconds.add_metric(where, count_value=did.runs, sum_value=did.seconds)
                size.add_metric(where, did.rows / did.runs if did.runs else 0)
                errors.add_metric(where, did.errors)
                nan.add_metric(where, did.nan)
        return (seconds, size, errors, nan)

    def _drift(self) -> Iterable[Metric]:
        moved = GaugeMetricFamily(
            "skerry_drift_psi", "PSI of a model's feature against its reference.", labels=["pipeline", "feature"]
        )
        outside = CounterMetricFamily("skerry_out_of_range", "Rows with a value outside the reference.", labels=["pipeline"])
        for name, report in self._figures.pipelines.items():
            if report.drift.source:
                outside.add_metric([name], report.drift.outside)
            for feature, value in report.drift.psi.items():
                moved.add_metric([name, feature], value)
        return (moved, outside)

    def _node(self) -> Iterable[Metric]:
        figures = self._figures
        yield GaugeMetricFamily("skerry_uptime_ratio", "Time up over time since the first start.", figures.uptime_ratio)
        yield GaugeMetricFamily("skerry_loop_lag_seconds", "How late the agent's event loop was, at most.", figures.loop_lag_s)
        yield CounterMetricFamily("skerry_loop_stalls", "Times that loop was held up for a second.", figures.loop_stalls)
        parts = GaugeMetricFamily("skerry_partitions", "Partitions of a pipeline that run on this node.", labels=["pipeline"])
        for name, count in figures.partitions.items():
            parts.add_metric([name], count)
        yield parts
        pending = GaugeMetricFamily("skerry_pipeline_pending", "1 while it is not admitted.", labels=["pipeline"])
        steps = GaugeMetricFamily("skerry_shed_steps", "Steps of its `shed` that it goes without now.", labels=["pipeline"])
        for name, (waits, level) in figures.schedule.items():
            pending.add_metric([name], float(waits))
            steps.add_metric([name], level)
        yield from (pending, steps)
        yield GaugeMetricFamily("skerry_ready", "1 when the node is ready.", float(figures.ready))
        yield GaugeMetricFamily("skerry_leader", "1 when the node leads its cluster, or is in none.", float(figures.leads))
        counted: list[tuple[CounterMetricFamily | GaugeMetricFamily, Mapping[str, float]]] = [
            (GaugeMetricFamily("skerry_members", "Members of the cluster.", labels=["status"]), figures.members),
            (CounterMetricFamily("skerry_restarts", "Restarts of children.", labels=["child"]), figures.restarts),
            (CounterMetricFamily("skerry_model_rollbacks", "Versions taken back.", labels=["model"]), figures.rollbacks),
            (CounterMetricFamily("skerry_auth_refused", "Log-ins refused.", labels=["reason"]), figures.refused),
            (CounterMetricFamily("skerry_api_refused", "HTTP requests refused.", labels=["reason"]), figures.api_refused),
            (
                CounterMetricFamily("skerry_device_refused", "Publishes and subscriptions refused.", labels=["kind"]),
                figures.topics_refused,
            ),
            (CounterMetricFamily("skerry_audit_lost", "Lines not in the audit log.", labels=["reason"]), figures.audit_lost),
            (GaugeMetricFamily("skerry_store_bytes", "Bytes on disk.", labels=["part"]), figures.store_bytes),
            (CounterMetricFamily("skerry_disk_given_up_bytes", "The disk was short.", labels=["what"]), figures.disk_given_up),
            (GaugeMetricFamily("skerry_memory_bytes", "Resident memory.", labels=["process"]), figures.memory),
            (CounterMetricFamily("skerry_cpu_seconds", "CPU time.", labels=["process"]), figures.cpu_seconds),
            (CounterMetricFamily("skerry_resource_breaches", "More taken than allowed.", labels=["kind"]), figures.breaches),
            (GaugeMetricFamily("skerry_quarantined", "1: ended too often, waits.", labels=["process"]), figures.quarantined),
            *(
                (GaugeMetricFamily(f"skerry_resource_{name}", told, labels=["kind"]), figures.resources.get(name, {}))
                for name, told in (("limit", "Limits."), ("allocated", "Held by leases."), ("used", "In use by all processes."))
            ),
        ]
        for family, values in counted:
            for name, value in values.items():
                family.add_metric([name], value)
            yield family

    def _uplink(self) -> Iterable[Metric]:
        waiting = GaugeMetricFamily("skerry_uplink_waiting_items", "Items not acknowledged by the centre.", labels=["priority"])
        thinned = CounterMetricFamily("skerry_uplink_thinned_items", "Items of a full queue: thinned, given up.", labels=["what"])
        for name, count in self._figures.uplink_waiting.items():
            waiting.add_metric([name], count)
        for name, count in self._figures.uplink_thinned.items():
            thinned.add_metric([name], count)
        yield from (waiting, thinned)

    def _connectors(self) -> Iterable[Metric]:
        moved = CounterMetricFamily("skerry_connector_messages", "Messages brought in or out.", labels=["connector"])
        refused = CounterMetricFamily("skerry_connector_refused", "Given up.", labels=["connector", "reason"])
        errors = CounterMetricFamily("skerry_connector_errors", "Times it failed and was tried again.", labels=["connector"])
        waiting = GaugeMetricFamily("skerry_connector_waiting", "Read, and not yet taken outside.", labels=["connector"])
        last = GaugeMetricFamily("skerry_connector_last_seconds", "Unix time of the last message.", labels=["connector"])
        for name, report in self._figures.connectors.items():
            moved.add_metric([name], report.moved)
            errors.add_metric([name], report.errors)
            waiting.add_metric([name], report.waiting)
            last.add_metric([name], report.last / 1e6)
            for reason, count in report.refused.items():
                refused.add_metric([name, reason], count)
        return (moved, refused, errors, waiting, last)

    def _telemetry(self) -> Iterable[Metric]:
        sent = CounterMetricFamily("skerry_telemetry_sent", "Taken by the OpenTelemetry collector.", labels=["kind"])
        dropped = CounterMetricFamily("skerry_telemetry_dropped", "Not taken by it, and given up.", labels=["kind"])
        for kind, (taken, lost) in self._figures.telemetry.items():
            sent.add_metric([kind], taken)
            dropped.add_metric([kind], lost)
        return (sent, dropped)

    def _promises(self) -> Iterable[Metric]:
        counts, lately, uptime = self._figures.promised, self._figures.lately, self._figures.uptime
        carried = {"in": counts.bytes_in, "sent": counts.bytes_sent}
        down = {"planned": uptime["planned_s"], "unplanned": uptime["unplanned_s"]}
        labelled: list[tuple[CounterMetricFamily, Mapping[str, float]]] = [
            (CounterMetricFamily("skerry_uplink_bytes", "Payloads taken in, and sent up the link.", labels=["stage"]), carried),
            (CounterMetricFamily("skerry_down_seconds", "Time down since the ledger begins.", labels=["kind"]), down),
        ]
        for family, values in labelled:
            for value, count in values.items():
                family.add_metric([value], count)
            yield family
        joules = CounterMetricFamily("skerry_energy_joules", "Energy of the processor packages.")
        if counts.joules is not None:
            joules.add_metric([], counts.joules)
        yield joules
        for name, told, figure in (
            ("skerry_messages_per_cpu_second", "Messages scored per CPU-second in the last minute.", lately.scored_per_cpu_s),
            ("skerry_memory_per_device_bytes", "Memory of all processes a device.", lately.memory_per_device),
            ("skerry_cpu_seconds_per_1000_messages", "CPU-seconds, in the last minute.", lately.cpu_s_per_1000),
            ("skerry_joules_per_1000_messages", "The node's share of the energy, in the last minute.", lately.joules_per_1000),
            ("skerry_wakeups_per_1000_messages", "Wake-ups of threads, in the last minute.", lately.wakeups_per_1000),
            ("skerry_link_round_trip_seconds", "To the uplink's host.", None if counts.link_ms is None else counts.link_ms / 1000),
        ):
            gauge = GaugeMetricFamily(name, told)
            if figure is not None:
                gauge.add_metric([], figure)
            yield gauge


def _by_version(models: list[ModelReport]) -> list[ModelReport]:
    """What versions did, whatever change brought them: a label set may be there once only."""
    return add_models(msgspec.structs.replace(each, epoch=0) for each in models)


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    bounds: list[tuple[str, float]] = [(str(s), float(histogram.at_most(s * 1000))) for s in PROMETHEUS_BOUNDS_S]
    return [*bounds, ("+Inf", float(histogram.total))]


def families(figures: Figures) -> list[Metric]:
    """What `/metrics` answers, before it is text."""
    return list(_Families(figures).collect())


def render(figures: Figures) -> str:
    """The text that `/metrics` answers."""
    registry = CollectorRegistry()
    registry.register(_Families(figures))
    return generate_latest(registry).decode()
