"""`/metrics`: it parses, its names are those that are promised, and its numbers are those of the reports."""

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from skerry.core.histogram import Histogram
from skerry.node.metrics import Figures, render
from skerry.node.promises import Counts, Worked
from skerry.worker import ModelReport, PipelineReport

BOOKS = {
    "received": 100, "scored": 80, "open": 5, "waiting": 0, "duplicates": 6, "dead_letters": {"late": 7, "nan": 2},
    "difference": 0, "windows": 9, "late_samples": 3, "given_up": 0,
}  # fmt: skip

ORDER = ("pipeline", "model", "version", "reason", "part", "kind", "process", "child", "stage", "le", "status")


def figures() -> Figures:
    latency = Histogram()
    for value in (0.5, 1.5, 30.0, 90_000.0):
        latency.add(value)
    age = Histogram()
    age.add(1500.0)
    found = Figures()
    found.pipelines = {
        "p": PipelineReport(
            state="running", books=BOOKS, lag=11, windows=9, events=8, received_bytes=4242, latency=latency, age=age,
            infer_seconds=1.25, infer_runs=4, infer_rows=10, model="m", version="2",
            models=[
                ModelReport("m", "1", 0, 2, 6, 1, 3, 0.5), ModelReport("m", "2", 1, 1, 4, 0, 0, 0.25),
                ModelReport("m", "2", 2, 3, 6, 0, 0, 1.0),
            ],
        ),
        "plain": PipelineReport(state="running", books={**BOOKS, "received": 1, "dead_letters": {}}),
        "starting": PipelineReport(state="starting"),
    }  # fmt: skip
    found.rollbacks = {"m": 1}
    found.partitions = {"p": 2}
    found.restarts = {"worker-0": 2, "nats-server": 1}
    found.refused = {"bad-password": 3}
    found.api_refused = {"no-token": 5}
    found.topics_refused = {"publish": 7, "subscribe": 0}
    found.audit_lost = {"limit": 9, "not-written": 0}
    found.store_bytes = {"broker": 4096}
    found.memory = {"agent": 1_000_000, "worker-0": 2_000_000}
    found.resources = {
        "limit": {"memory": 2**30, "cpu": 2.0},
        "allocated": {"memory": 2_000_000, "cpu": 0.5},
        "used": {"memory": 3_000_000, "disk": 4096},
    }
    found.cpu_seconds = {"agent": 1.5, "worker-0": 20.25}
    found.quarantined = {"agent": 0, "worker-0": 1}
    found.promised = Counts(bytes_in=5000, bytes_sent=40, joules=12.5)
    found.lately = Worked(2000.0, 4096.0, 0.5, 3.25)
    found.uptime = {"planned_s": 60.0, "unplanned_s": 1.5}
    found.uptime_ratio = 0.75
    found.loop_lag_s, found.loop_stalls = 0.125, 2
    found.ready = True
    found.leads, found.members = False, {"Online": 2, "Offline": 1}
    return found


@pytest.fixture(name="found")
def parsed() -> dict[tuple[str, tuple[str, ...]], float]:
    """Samples by name and label values, in the order of `ORDER`."""
    families = text_string_to_metric_families(render(figures()))
    return {
        (s.name, tuple(s.labels[name] for name in ORDER if name in s.labels)): s.value
        for family in families
        for s in family.samples
    }


Found = dict[tuple[str, tuple[str, ...]], float]


def test_the_promised_names(found: Found) -> None:
    wanted: dict[tuple[str, tuple[str, ...]], Any] = {
        ("skerry_messages_received_total", ("p",)): 100,
        ("skerry_messages_scored_total", ("p",)): 80,
        ("skerry_events_total", ("p",)): 8,
        ("skerry_late_total", ("p",)): 7,
        ("skerry_deadletters_total", ("p", "late")): 7,
        ("skerry_deadletters_total", ("p", "nan")): 2,
        ("skerry_lag_messages", ("p",)): 11,
        ("skerry_batch_size", ("p", "m", "2")): 2.5,
        ("skerry_infer_seconds_sum", ("p", "m", "2")): 1.25,
        ("skerry_infer_seconds_count", ("p", "m", "2")): 4,
        ("skerry_infer_seconds_count", ("p", "m", "1")): 2,
        ("skerry_model_errors_total", ("p", "m", "1")): 1,
        ("skerry_model_nan_total", ("p", "m", "1")): 3,
        ("skerry_model_errors_total", ("p", "m", "2")): 0,
        ("skerry_model_rollbacks_total", ("m",)): 1,
        ("skerry_store_bytes", ("broker",)): 4096,
        ("skerry_resource_limit", ("memory",)): 2**30,
        ("skerry_resource_allocated", ("memory",)): 2_000_000,
        ("skerry_resource_allocated", ("cpu",)): 0.5,
        ("skerry_resource_used", ("memory",)): 3_000_000,
        ("skerry_resource_used", ("disk",)): 4096,
        ("skerry_uptime_ratio", ()): 0.75,
        ("skerry_loop_lag_seconds", ()): 0.125,
        ("skerry_loop_stalls_total", ()): 2,
        ("skerry_auth_refused_total", ("bad-password",)): 3,
        ("skerry_api_refused_total", ("no-token",)): 5,
        ("skerry_device_refused_total", ("publish",)): 7,
        ("skerry_audit_lost_total", ("limit",)): 9,
        ("skerry_restarts_total", ("worker-0",)): 2,
        ("skerry_restarts_total", ("nats-server",)): 1,
        ("skerry_ready", ()): 1,
        ("skerry_partitions", ("p",)): 2,
        ("skerry_leader", ()): 0,
        ("skerry_members", ("Online",)): 2,
        ("skerry_members", ("Offline",)): 1,
        ("skerry_event_age_seconds_count", ("p",)): 1,
        ("skerry_event_age_seconds_sum", ("p",)): 1.5,
        ("skerry_cpu_seconds_total", ("worker-0",)): 20.25,
        ("skerry_quarantined", ("worker-0",)): 1,
        ("skerry_uplink_bytes_total", ("in",)): 5000,
        ("skerry_uplink_bytes_total", ("sent",)): 40,
        ("skerry_down_seconds_total", ("planned",)): 60,
        ("skerry_down_seconds_total", ("unplanned",)): 1.5,
        ("skerry_energy_joules_total", ()): 12.5,
        ("skerry_messages_per_cpu_second", ()): 2000,
        ("skerry_memory_per_device_bytes", ()): 4096,
        ("skerry_cpu_seconds_per_1000_messages", ()): 0.5,
        ("skerry_joules_per_1000_messages", ()): 3.25,
    }
    assert {key: found.get(key) for key in wanted} == wanted


def test_latency_is_a_histogram_in_seconds(found: Found) -> None:
    name = "skerry_latency_seconds_bucket"
    buckets = [(float(key[1][1]), value) for key, value in found.items() if key[0] == name and key[1][0] == "p"]
    assert buckets == sorted(buckets)
    assert [value for _, value in buckets] == sorted(value for _, value in buckets)
    assert dict(buckets)[0.001] == 1
    assert dict(buckets)[0.05] == 3
    assert dict(buckets)[60.0] == 3
    assert buckets[-1] == (float("inf"), 4)
    assert found["skerry_latency_seconds_count", ("p",)] == 4
    assert found["skerry_latency_seconds_sum", ("p",)] == pytest.approx(90.032)


def test_the_books_can_be_closed_from_the_metrics_alone(found: Found) -> None:
    letters = sum(value for (name, labels), value in found.items() if name == "skerry_deadletters_total" and labels[0] == "p")
    whole = found["skerry_messages_scored_total", ("p",)] + found["skerry_open_messages", ("p",)]
    whole += found["skerry_duplicates_total", ("p",)] + letters
    assert whole == found["skerry_messages_received_total", ("p",)]
    assert found["skerry_ledger_difference", ("p",)] == 0


def test_a_pipeline_without_model_or_figures(found: Found) -> None:
    names = {name for (name, labels) in found if "plain" in labels}
    assert "skerry_messages_received_total" in names
    assert not {"skerry_infer_seconds_sum", "skerry_batch_size", "skerry_deadletters_total"} & names
    assert not [name for (name, labels) in found if "starting" in labels]


def test_every_name_has_the_prefix_and_help() -> None:
    text = render(figures())
    families = list(text_string_to_metric_families(text))
    assert all(family.name.startswith("skerry_") and family.documentation for family in families)
    assert len({family.name for family in families}) == len(families)
    assert "skerry_infer_seconds summary" in text


def test_labels_of_any_text_are_escaped() -> None:
    odd = figures()
    odd.refused = {'a"b\\c\nd': 1}
    found = {
        tuple(sample.labels.values()): sample.value
        for family in text_string_to_metric_families(render(odd))
        for sample in family.samples
        if sample.name == "skerry_auth_refused_total"
    }
    assert found == {('a"b\\c\nd',): 1.0}


def test_nothing_known_yet() -> None:
    found = {s.name: s.value for family in text_string_to_metric_families(render(Figures())) for s in family.samples}
    assert found["skerry_ready"] == 0
    assert not [name for name in found if "1000_messages" in name or "joules" in name or "per_device" in name]
