"""Metrics and traces as OTLP has them (github.com/open-telemetry/opentelemetry-proto): pure, from plain values to bytes.

Bytes of several trace requests one after the other are one request (protocol buffers: fields that repeat add up).
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.metrics.v1 import metrics_pb2 as otlp
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1 import trace_pb2 as traced

if TYPE_CHECKING:
    from prometheus_client.core import Metric
    from prometheus_client.samples import Sample

Value = str | int | float
_SCOPE = "skerry"


class Span(msgspec.Struct, frozen=True):
    """A step of a trace: its begin and end in microseconds of wall clock."""

    name: str
    begin: int
    end: int
    attributes: Mapping[str, Value] = {}


def encode_trace(resource: Mapping[str, Value], seed: str, root: Span, steps: Sequence[Span]) -> bytes:
    """A request with one trace: the root and its steps. Its ids are computed from `seed`: the same message has the same ones."""
    digest = hashlib.sha256(seed.encode()).digest()
    trace, top = digest[:16], digest[16:24]
    spans = [_span(root, trace, top, b"", traced.Span.SPAN_KIND_CONSUMER)]
    for at, step in enumerate(steps):
        own = hashlib.sha256(digest + at.to_bytes(4)).digest()[:8]
        spans.append(_span(step, trace, own, top, traced.Span.SPAN_KIND_INTERNAL))
    scoped = traced.ScopeSpans(scope=InstrumentationScope(name=_SCOPE), spans=spans)
    request = ExportTraceServiceRequest(resource_spans=[traced.ResourceSpans(resource=_resource(resource), scope_spans=[scoped])])
    return bytes(request.SerializeToString())


def _span(span: Span, trace: bytes, own: bytes, parent: bytes, kind: "traced.Span.SpanKind.ValueType") -> "traced.Span":
    """A step of a device whose clock is ahead ends where it begins: OTLP has no negative lengths."""
    return traced.Span(
        trace_id=trace, span_id=own, parent_span_id=parent, name=span.name, kind=kind, attributes=_attributes(span.attributes),
        start_time_unix_nano=span.begin * 1000, end_time_unix_nano=max(span.begin, span.end) * 1000,
    )  # fmt: skip


def encode_metrics(resource: Mapping[str, Value], families: Iterable["Metric"], now: int) -> tuple[bytes, int]:
    """A request with all metrics under their names on `/metrics`, and how many points it has; `now` in microseconds.

    Cumulative without a start: the counters of pipelines go on over restarts."""
    metrics = [metric for family in families for metric in _metric(family, now * 1000)]
    scoped = otlp.ScopeMetrics(scope=InstrumentationScope(name=_SCOPE), metrics=metrics)
    whole = otlp.ResourceMetrics(resource=_resource(resource), scope_metrics=[scoped])
    points = sum(len(getattr(each, each.WhichOneof("data") or "gauge").data_points) for each in metrics)
    return ExportMetricsServiceRequest(resource_metrics=[whole]).SerializeToString(), points


def _metric(family: "Metric", now: int) -> Iterator["otlp.Metric"]:
    if not family.samples:
        return
    total = otlp.AGGREGATION_TEMPORALITY_CUMULATIVE
    if family.type == "counter":
        points = [_point(each, now) for each in family.samples]
        summed = otlp.Sum(data_points=points, aggregation_temporality=total, is_monotonic=True)
        yield otlp.Metric(name=f"{family.name}_total", description=family.documentation, sum=summed)
    elif family.type == "histogram":
        histogram = otlp.Histogram(data_points=list(_histograms(family.samples, now)), aggregation_temporality=total)
        yield otlp.Metric(name=family.name, description=family.documentation, histogram=histogram)
    elif family.type == "summary":
        summary = otlp.Summary(data_points=list(_summaries(family.samples, now)))
        yield otlp.Metric(name=family.name, description=family.documentation, summary=summary)
    else:
        points = [_point(each, now) for each in family.samples]
        yield otlp.Metric(name=family.name, description=family.documentation, gauge=otlp.Gauge(data_points=points))


def _point(sample: "Sample", now: int) -> "otlp.NumberDataPoint":
    return otlp.NumberDataPoint(attributes=_attributes(sample.labels), time_unix_nano=now, as_double=sample.value)


def _summaries(samples: Iterable["Sample"], now: int) -> Iterator["otlp.SummaryDataPoint"]:
    for labels, parts in _by_labels(samples):
        count, total = (sum(each.value for each in parts if each.name.endswith(end)) for end in ("_count", "_sum"))
        yield otlp.SummaryDataPoint(attributes=_attributes(labels), time_unix_nano=now, count=int(count), sum=total)


def _histograms(samples: Iterable["Sample"], now: int) -> Iterator["otlp.HistogramDataPoint"]:
    """Prometheus counts each bucket with all below it; OTLP each alone."""
    for labels, parts in _by_labels(samples):
        buckets = [(float(each.labels["le"]), int(each.value)) for each in parts if each.name.endswith("_bucket")]
        counts = [count for _, count in buckets]
        yield otlp.HistogramDataPoint(
            attributes=_attributes(labels), time_unix_nano=now, count=counts[-1],
            sum=sum(each.value for each in parts if each.name.endswith("_sum")),
            explicit_bounds=[bound for bound, _ in buckets[:-1]],
            bucket_counts=[count - before for before, count in zip([0, *counts], counts, strict=False)],
        )  # fmt: skip


def _by_labels(samples: Iterable["Sample"]) -> Iterable[tuple[dict[str, str], list["Sample"]]]:
    found: dict[tuple[tuple[str, str], ...], list[Sample]] = {}
    for each in samples:
        found.setdefault(tuple((name, value) for name, value in each.labels.items() if name != "le"), []).append(each)
    return [(dict(labels), parts) for labels, parts in found.items()]


def refused_of(answer: bytes) -> tuple[int, str]:
    """How many of a request that was taken the collector has refused all the same, and why; the answers of all kinds are alike."""
    try:
        part = ExportTraceServiceResponse.FromString(answer).partial_success
    except DecodeError:  # not every collector answers what it should; it has said 200
        return 0, ""
    return part.rejected_spans, part.error_message[:300]


def _resource(attributes: Mapping[str, Value]) -> Resource:
    return Resource(attributes=_attributes(attributes))


def _attributes(values: Mapping[str, Value]) -> list[KeyValue]:
    return [KeyValue(key=name, value=_any(value)) for name, value in values.items()]


def _any(value: Value) -> AnyValue:
    if isinstance(value, str):
        return AnyValue(string_value=value)
    return AnyValue(int_value=value) if isinstance(value, int) else AnyValue(double_value=value)
