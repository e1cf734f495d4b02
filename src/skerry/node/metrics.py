"""Prometheus metrics out of what workers report; names as the documents fix them, prefix `skerry_`."""

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from skerry.core.histogram import PROMETHEUS_BOUNDS_S, Histogram
from skerry.worker import PipelineReport


class Figures:
    """What the metrics are made of at one moment."""

    def __init__(self) -> None:
        self.pipelines: dict[str, PipelineReport] = {}
        self.restarts: Mapping[str, int] = {}
        self.refused: Mapping[str, int] = {}
        self.store_bytes: Mapping[str, int] = {}
        self.memory: Mapping[str, int] = {}
        self.limits: Mapping[str, float] = {}
        self.uptime_ratio = 0.0
        self.ready = False

    @property
    def used(self) -> dict[str, float]:
        """Bytes of memory and disk that the whole node uses."""
        return {"memory": sum(self.memory.values()), "disk": sum(self.store_bytes.values())}


class _Families(Collector):
    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def collect(self) -> Iterable[Metric]:
        yield from self._messages()
        yield from self._inference()
        yield from self._node()

    def _messages(self) -> Iterable[Metric]:
        received = CounterMetricFamily("skerry_messages_received", "Messages taken from the log.", labels=["pipeline"])
        scored = CounterMetricFamily("skerry_messages_scored", "Messages in scored windows.", labels=["pipeline"])
        events = CounterMetricFamily("skerry_events", "Events put out.", labels=["pipeline"])
        windows = CounterMetricFamily("skerry_windows", "Windows scored.", labels=["pipeline"])
        late = CounterMetricFamily("skerry_late", "Messages that came after their windows.", labels=["pipeline"])
        dead = CounterMetricFamily("skerry_deadletters", "Dead letters.", labels=["pipeline", "reason"])
        same = CounterMetricFamily("skerry_duplicates", "Re-sends dropped.", labels=["pipeline"])
        opened = GaugeMetricFamily("skerry_open_messages", "Messages in open windows.", labels=["pipeline"])
        off = GaugeMetricFamily("skerry_ledger_difference", "Messages unaccounted for; 0.", labels=["pipeline"])
        lag = GaugeMetricFamily("skerry_lag_messages", "Messages in the log not yet taken.", labels=["pipeline"])
        taken = CounterMetricFamily("skerry_received_bytes", "Payload bytes taken from the log.", labels=["pipeline"])
        latency = HistogramMetricFamily("skerry_latency_seconds", "Broker arrival to event.", labels=["pipeline"])
        for name, report in self._figures.pipelines.items():
            books = report.books
            if not books:
                continue
            received.add_metric([name], books["received"])
            scored.add_metric([name], books["scored"])
            same.add_metric([name], books["duplicates"])
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
        return (received, scored, events, windows, late, dead, same, opened, off, lag, taken, latency)

    def _inference(self) -> Iterable[Metric]:
        labels = ["pipeline", "model", "version"]
        seconds = SummaryMetricFamily("skerry_infer_seconds", "Time in model runs.", labels=labels)
        size = GaugeMetricFamily("skerry_batch_size", "Rows a model run, mean since start.", labels=labels)
        for name, report in self._figures.pipelines.items():
            if report.model:
                where = [name, report.model, report.version]
                seconds.add_metric(where, count_value=report.infer_runs, sum_value=report.infer_seconds)
                size.add_metric(where, report.infer_rows / report.infer_runs if report.infer_runs else 0)
        return (seconds, size)

    def _node(self) -> Iterable[Metric]:
        figures = self._figures
        yield GaugeMetricFamily("skerry_uptime_ratio", "Time up over time since the first start.", figures.uptime_ratio)
        yield GaugeMetricFamily("skerry_ready", "1 when the node is ready.", float(figures.ready))
        counted: list[tuple[CounterMetricFamily | GaugeMetricFamily, Mapping[str, float]]] = [
            (CounterMetricFamily("skerry_restarts", "Restarts of children.", labels=["child"]), figures.restarts),
            (CounterMetricFamily("skerry_auth_refused", "Log-ins refused.", labels=["reason"]), figures.refused),
            (GaugeMetricFamily("skerry_store_bytes", "Bytes on disk.", labels=["part"]), figures.store_bytes),
            (GaugeMetricFamily("skerry_memory_bytes", "Resident memory.", labels=["process"]), figures.memory),
            (GaugeMetricFamily("skerry_resource_limit", "Limits.", labels=["kind"]), figures.limits),
            (GaugeMetricFamily("skerry_resource_used", "In use: bytes.", labels=["kind"]), figures.used),
        ]
        for family, values in counted:
            for name, value in values.items():
                family.add_metric([name], value)
            yield family


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    bounds: list[tuple[str, float]] = [(str(s), float(histogram.at_most(s * 1000))) for s in PROMETHEUS_BOUNDS_S]
    return [*bounds, ("+Inf", float(histogram.total))]


def render(figures: Figures) -> str:
    """The text that `/metrics` answers."""
    registry = CollectorRegistry()
    registry.register(_Families(figures))
    return generate_latest(registry).decode()
