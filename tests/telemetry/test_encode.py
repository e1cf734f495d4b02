"""OTLP out of plain values: ids, times, parents; counters, gauges, histograms and summaries as `/metrics` has them."""

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, SummaryMetricFamily

from skerry.telemetry import Span, encode_metrics, encode_trace
from skerry.telemetry.encode import refused_of
from tests.telemetry.collector import attributes

RESOURCE = {"service.name": "skerry", "service.instance.id": "box"}
NOW = 1_800_000_000_000_000


def test_a_trace_has_a_root_and_its_steps() -> None:
    steps = [Span("log", NOW, NOW + 1500), Span("model", NOW + 1500, NOW + 2500, {"skerry.what": "the run", "n": 3, "x": 0.5})]
    body = encode_trace(RESOURCE, "site\0a\x007", Span("process a", NOW, NOW + 2500, {"skerry.key": "d"}), steps)
    (whole,) = ExportTraceServiceRequest.FromString(body).resource_spans
    assert attributes(whole.resource.attributes) == RESOURCE
    root, first, second = whole.scope_spans[0].spans
    assert (len(root.trace_id), len(root.span_id), root.parent_span_id) == (16, 8, b"")
    assert {root.trace_id} == {first.trace_id, second.trace_id}
    assert len({root.span_id, first.span_id, second.span_id}) == 3
    assert first.parent_span_id == second.parent_span_id == root.span_id
    assert (second.start_time_unix_nano, second.end_time_unix_nano) == ((NOW + 1500) * 1000, (NOW + 2500) * 1000)
    assert attributes(second.attributes) == {"skerry.what": "the run", "n": 3, "x": 0.5}


def test_the_same_message_has_the_same_ids_and_another_has_others() -> None:
    root = Span("process a", NOW, NOW + 1)
    bodies = [encode_trace({}, seed, root, []) for seed in ("a", "a", "b")]
    ids = [ExportTraceServiceRequest.FromString(body).resource_spans[0].scope_spans[0].spans[0].trace_id for body in bodies]
    assert ids[0] == ids[1] != ids[2]


def test_a_clock_that_is_ahead_gives_no_negative_length() -> None:
    body = encode_trace({}, "a", Span("process", NOW, NOW + 5), [Span("broker", NOW, NOW - 900)])
    span = ExportTraceServiceRequest.FromString(body).resource_spans[0].scope_spans[0].spans[1]
    assert span.start_time_unix_nano == span.end_time_unix_nano == NOW * 1000


def test_requests_one_after_the_other_are_one_request() -> None:
    bodies = [encode_trace(RESOURCE, seed, Span(seed, NOW, NOW), []) for seed in "abc"]
    found = ExportTraceServiceRequest.FromString(b"".join(bodies))
    assert [whole.scope_spans[0].spans[0].name for whole in found.resource_spans] == ["a", "b", "c"]


def test_each_kind_of_metric() -> None:
    counter = CounterMetricFamily("skerry_events", "Events put out.", labels=["pipeline"])
    counter.add_metric(["a"], 7)
    counter.add_metric(["b"], 2)
    gauge = GaugeMetricFamily("skerry_ready", "1 when ready.", 1.0)
    histogram = HistogramMetricFamily("skerry_latency_seconds", "Latency.", labels=["pipeline"])
    histogram.add_metric(["a"], [("0.1", 3.0), ("1", 5.0), ("+Inf", 6.0)], 4.5)
    histogram.add_metric(["b"], [("0.1", 0.0), ("1", 0.0), ("+Inf", 1.0)], 2.0)
    summary = SummaryMetricFamily("skerry_infer_seconds", "Runs.", labels=["model"])
    summary.add_metric(["m"], count_value=9, sum_value=0.25)
    empty = GaugeMetricFamily("skerry_none", "Nothing.", labels=["x"])

    body, points = encode_metrics(RESOURCE, [counter, gauge, histogram, summary, empty], NOW)
    (whole,) = ExportMetricsServiceRequest.FromString(body).resource_metrics
    found = {each.name: each for each in whole.scope_metrics[0].metrics}
    assert list(found) == ["skerry_events_total", "skerry_ready", "skerry_latency_seconds", "skerry_infer_seconds"]
    assert points == 6

    events = found["skerry_events_total"].sum
    assert events.is_monotonic
    assert events.aggregation_temporality == 2  # cumulative
    assert [(attributes(each.attributes), each.as_double) for each in events.data_points] == [
        ({"pipeline": "a"}, 7.0), ({"pipeline": "b"}, 2.0),
    ]  # fmt: skip
    assert found["skerry_ready"].gauge.data_points[0].time_unix_nano == NOW * 1000
    first, second = found["skerry_latency_seconds"].histogram.data_points
    assert (first.count, first.sum, list(first.explicit_bounds), list(first.bucket_counts)) == (6, 4.5, [0.1, 1.0], [3, 2, 1])
    assert (attributes(second.attributes), list(second.bucket_counts)) == ({"pipeline": "b"}, [0, 0, 1])
    (runs,) = found["skerry_infer_seconds"].summary.data_points
    assert (runs.count, runs.sum) == (9, pytest.approx(0.25))


def test_what_was_refused_of_a_request_that_was_taken() -> None:
    partly = ExportTraceServiceResponse(partial_success=ExportTracePartialSuccess(rejected_spans=3, error_message="too old"))
    assert refused_of(partly.SerializeToString()) == (3, "too old")
    assert refused_of(b"") == (0, "")
    assert refused_of(b"<html>welcome</html>") == (0, "")
