"""Reports of several workers, partition by partition, as one report a pipeline. Pure."""

from collections.abc import Iterable
from typing import Any

from skerry.core.histogram import Histogram
from skerry.inference import merge_drift
from skerry.worker.protocol import ModelReport, PipelineReport, Report, ShadowReport

_WORST = ("failed", "stopped", "starting", "pending", "paused")


def merge_reports(reports: Iterable[Report]) -> dict[str, PipelineReport]:
    """One report a pipeline: counts added, the slowest latency, the worst state, the cursor that is furthest behind."""
    found: dict[str, PipelineReport] = {}
    for report in reports:
        for name, part in report.pipelines.items():
            found[name] = merge_parts(found[name], part) if name in found else part
    return found


def merge_parts(one: PipelineReport, other: PipelineReport) -> PipelineReport:
    """Two partitions of one pipeline as one."""
    latency, age = Histogram(), Histogram()
    for part in (one, other):
        latency.merge(part.latency)
        age.merge(part.age)
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
        age=age,
        age_p50_ms=_most(one.age_p50_ms, other.age_p50_ms),
        age_p99_ms=_most(one.age_p99_ms, other.age_p99_ms),
        infer_seconds=one.infer_seconds + other.infer_seconds,
        infer_runs=one.infer_runs + other.infer_runs,
        infer_rows=one.infer_rows + other.infer_rows,
        model=one.model or other.model,
        version=one.version or other.version,
        models=add_models([*one.models, *other.models]),
        shadow=add_shadows(one.shadow, other.shadow),
        drift=merge_drift(one.drift, other.drift),
        memory=one.memory + other.memory,
        allowed=max(one.allowed, other.allowed),
        over=max(one.over, other.over),
        breaches=one.breaches + other.breaches,
        recent=sorted([*one.recent, *other.recent], key=lambda window: (window[1], *window)),
    )


def add_models(parts: Iterable[ModelReport]) -> list[ModelReport]:
    """What versions did, added by model, version and epoch."""
    found: dict[tuple[str, str, int], ModelReport] = {}
    for part in parts:
        key = (part.model, part.version, part.epoch)
        found[key] = _add_model(found[key], part) if key in found else part
    return list(found.values())


def _add_model(one: ModelReport, other: ModelReport) -> ModelReport:
    return ModelReport(
        one.model,
        one.version,
        one.epoch,
        runs=one.runs + other.runs,
        rows=one.rows + other.rows,
        errors=one.errors + other.errors,
        nan=one.nan + other.nan,
        seconds=one.seconds + other.seconds,
        load_seconds=max(one.load_seconds, other.load_seconds),
        memory=max(one.memory, other.memory),
        failure=one.failure or other.failure,
    )


def add_shadows(one: ShadowReport | None, other: ShadowReport | None) -> ShadowReport | None:
    """Two comparisons of the same pair of versions as one; of different pairs, the one that has more rows."""
    if one is None or other is None:
        return one or other
    if (one.model, one.version, one.against) != (other.model, other.version, other.against):
        return one if one.rows >= other.rows else other
    return ShadowReport(
        one.model,
        one.version,
        one.against,
        runs=one.runs + other.runs,
        rows=one.rows + other.rows,
        errors=one.errors + other.errors,
        nan=one.nan + other.nan,
        seconds=one.seconds + other.seconds,
        sum_difference=one.sum_difference + other.sum_difference,
        max_difference=max(one.max_difference, other.max_difference),
        labels=one.labels + other.labels,
        agreed=one.agreed + other.agreed,
        skipped=one.skipped + other.skipped,
        memory=max(one.memory, other.memory),
        failure=one.failure or other.failure,
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
