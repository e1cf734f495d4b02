"""Reports of several workers, partition by partition, as one report a pipeline. Pure."""

from collections.abc import Iterable
from typing import Any

from skerry.core.histogram import Histogram
from skerry.worker.protocol import PipelineReport, Report

_WORST = ("failed", "starting", "paused")


def merge_reports(reports: Iterable[Report]) -> dict[str, PipelineReport]:
    """One report a pipeline: counts added, the slowest latency, the worst state, the cursor that is furthest behind."""
    found: dict[str, PipelineReport] = {}
    for report in reports:
        for name, part in report.pipelines.items():
            found[name] = _merge(found[name], part) if name in found else part
    return found


def _merge(one: PipelineReport, other: PipelineReport) -> PipelineReport:
    latency = Histogram()
    latency.merge(one.latency)
    latency.merge(other.latency)
    return PipelineReport(
        state=min(one.state, other.state, key=_badness),
        books=_add(one.books, other.books),
        cursor=min(one.cursor, other.cursor),
        durable=min(one.durable, other.durable),
        lag=max(one.lag, other.lag),
        keys=one.keys + other.keys,
        windows=one.windows + other.windows,
        events=one.events + other.events,
        received_bytes=one.received_bytes + other.received_bytes,
        unacknowledged=one.unacknowledged + other.unacknowledged,
        latency=latency,
        recent_p50_ms=_most(one.recent_p50_ms, other.recent_p50_ms),
        recent_p99_ms=_most(one.recent_p99_ms, other.recent_p99_ms),
        infer_seconds=one.infer_seconds + other.infer_seconds,
        infer_runs=one.infer_runs + other.infer_runs,
        infer_rows=one.infer_rows + other.infer_rows,
        model=one.model or other.model,
        version=one.version or other.version,
    )


def _badness(state: str) -> int:
    word = state.partition(":")[0]
    return _WORST.index(word) if word in _WORST else len(_WORST)


def _most(one: float | None, other: float | None) -> float | None:
    return max((each for each in (one, other) if each is not None), default=None)


def _add(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    total = dict(one)
    for name, value in other.items():
        before = total.get(name)
        if isinstance(value, dict):
            total[name] = _add(before if isinstance(before, dict) else {}, value)
        else:
            total[name] = (before or 0) + value
    return total
