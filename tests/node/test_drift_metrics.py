"""Drift from what the workers report to `/metrics`: one number a feature, one counter a pipeline, whatever the feature's name."""

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from skerry.inference import DriftReport, DriftState, Meter, reference_of
from skerry.node.metrics import Figures, render
from skerry.pipeline import drift_report, parse_pipeline
from skerry.worker import PipelineReport
from skerry.worker.merge import merge_reports
from skerry.worker.protocol import Report


def drifted(seed: int, outside: int) -> DriftReport:
    """A report as a partition makes it: 100 rows of two features, so many of them far out of range."""
    rows = np.random.default_rng(seed).normal(0, 1, (100, 2))
    names = ["x_mean", 'y"\n\\']
    reference = reference_of(rows, names)
    moved = rows.copy()
    moved[:outside, 0] += 100
    meter = Meter(reference, names)
    meter.add(moved)
    state = DriftState("m@1", names, "learned", reference, total=meter.counts.tolist(), judged=100, outside=meter.outside)
    state.outside_of, state.psi = meter.outside_of.tolist(), meter.psi().tolist()
    spec = parse_pipeline({"name": "p", "source": {"topic": "devices/+/v", "values": ["x", "y"]}}, "p")
    return drift_report(state, spec)


def samples(pipelines: dict[str, PipelineReport]) -> dict[tuple[str, ...], float]:
    figures = Figures()
    figures.pipelines = pipelines
    return {
        (sample.name, sample.labels["pipeline"], sample.labels.get("feature", "")): sample.value
        for family in text_string_to_metric_families(render(figures))
        for sample in family.samples
        if "drift" in sample.name or "out_of_range" in sample.name
    }


def test_psi_by_feature_and_the_rows_out_of_range() -> None:
    report = drifted(1, 40)
    found = samples({"p": PipelineReport(state="running", drift=report), "unwatched": PipelineReport(state="running")})
    assert found == {
        ("skerry_drift_psi", "p", "x_mean"): report.psi["x_mean"],
        ("skerry_drift_psi", "p", 'y"\n\\'): 0.0,
        ("skerry_out_of_range_total", "p", ""): 40.0,
    }
    assert report.psi["x_mean"] > 0.5


def test_workers_are_merged_before() -> None:
    parts = [Report(True, {"p": PipelineReport(state="running", drift=drifted(seed, far))}) for seed, far in ((1, 40), (2, 10))]
    merged = merge_reports(parts)
    found = samples(merged)
    assert found["skerry_out_of_range_total", "p", ""] == 50
    assert found["skerry_drift_psi", "p", "x_mean"] == max(part.pipelines["p"].drift.psi["x_mean"] for part in parts)
    assert merged["p"].drift.rows == 200


def test_a_model_that_is_being_learned_has_a_counter_at_0_and_no_psi() -> None:
    found = samples({"p": PipelineReport(state="running", drift=DriftReport("learning", 20))})
    assert found == {("skerry_out_of_range_total", "p", ""): 0.0}
