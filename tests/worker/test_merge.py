"""Reports of several workers as one: nothing is forgotten, nothing counted twice, the worst is said."""

import random
from itertools import permutations
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.core.histogram import Histogram
from skerry.inference import DriftReport
from skerry.worker import ModelReport, PipelineReport, Report, ShadowReport, add_models, add_shadows, merge_reports


def books(received: int, **dead: int) -> dict[str, Any]:
    return {"received": received, "scored": received - sum(dead.values()), "dead_letters": dead, "difference": 0}


def did(version: str, seed: int, epoch: int = 0) -> ModelReport:
    return ModelReport("m", version, epoch, seed, 2 * seed, 3 * seed, 4 * seed, 5.0 * seed, 6.0 * seed)


def beside(version: str, seed: int, against: str = "2") -> ShadowReport:
    counts: dict[str, Any] = dict.fromkeys(ShadowReport.__struct_fields__[3:-1], seed)
    return ShadowReport("m", version, against, **counts)


def full(seed: int) -> PipelineReport:
    """A report with something in every field."""
    draw = random.Random(seed)
    latency, age = Histogram(), Histogram()
    for _ in range(20):
        latency.add(draw.uniform(0.1, 100))
        age.add(draw.uniform(100, 5000))
    values: dict[str, Any] = {}
    for field in msgspec.structs.fields(PipelineReport):
        if field.type is int:
            values[field.name] = draw.randint(1, 1000)
    return PipelineReport(
        **values, state="running", books=books(100 + seed, late=seed, nan=2), latency=latency,
        recent_p50_ms=draw.uniform(0, 5), recent_p99_ms=draw.uniform(5, 9), age=age, age_p50_ms=draw.uniform(0, 5),
        age_p99_ms=draw.uniform(5, 9), infer_seconds=1.5, model="m", version="2",
        drift=DriftReport("learned", 500, seed, seed),
        models=[did("2", seed)], shadow=beside("3", seed), recent=[("d", seed, 0.5)],
    )  # fmt: skip


def merged(*parts: PipelineReport) -> PipelineReport:
    return merge_reports([Report(ready=True, pipelines={"p": part}) for part in parts])["p"]


def test_no_field_is_forgotten() -> None:
    one, two = full(1), full(2)
    both, plain = merged(one, two), PipelineReport(state="")
    for field in msgspec.structs.fields(PipelineReport):
        assert getattr(both, field.name) != getattr(plain, field.name), field.name


def test_counts_are_added_and_cursors_are_the_lowest() -> None:
    one, two, three = full(1), full(2), full(3)
    found = merged(one, two, three)
    for name in ("keys", "windows", "events", "received_bytes", "unacknowledged", "infer_runs", "infer_rows"):
        assert getattr(found, name) == sum(getattr(part, name) for part in (one, two, three)), name
    assert found.durable == min(part.durable for part in (one, two, three))
    assert found.cursor == min(part.cursor for part in (one, two, three))
    assert found.books == {
        "received": 306, "scored": 306 - 6 - 6, "dead_letters": {"late": 6, "nan": 6}, "difference": 0,
    }  # fmt: skip
    assert (found.latency.total, found.age.total) == (60, 60)
    assert found.age_p50_ms == max(part.age_p50_ms or 0 for part in (one, two, three))
    assert found.recent_p99_ms == max(part.recent_p99_ms or 0 for part in (one, two, three))


def test_reports_are_not_changed_by_merging() -> None:
    parts = [full(1), full(2), full(3)]
    before = msgspec.json.encode(parts)
    assert merged(*parts) == merged(*parts)
    assert msgspec.json.encode(parts) == before


def test_the_order_does_not_matter() -> None:
    parts = [full(4), full(5), PipelineReport(state="starting"), msgspec.structs.replace(full(6), state="paused")]
    found = [merged(*order) for order in permutations(parts)]
    for each in found:
        assert each.latency.counts == found[0].latency.counts
        assert each.latency.sum_ms - found[0].latency.sum_ms < 1e-6
        assert each.age.counts == found[0].age.counts
        each.latency, each.age = found[0].latency, found[0].age
        assert each == found[0]


def test_the_worst_state_is_said() -> None:
    worst = ["failed: no model", "starting", "paused", "running"]
    for at, state in enumerate(worst):
        for other in worst[at:]:
            for pair in ((state, other), (other, state)):
                assert merged(*[PipelineReport(state=each) for each in pair]).state == state


def test_a_worker_without_figures_takes_nothing_from_the_others() -> None:
    alone = full(1)
    found = merged(alone, PipelineReport(state="running", recent_p50_ms=None))
    assert (found.recent_p50_ms, found.recent_p99_ms) == (alone.recent_p50_ms, alone.recent_p99_ms)
    zero = merged(PipelineReport(state="running", recent_p50_ms=0.0), PipelineReport(state="running"))
    assert zero.recent_p50_ms == 0.0


def test_pipelines_are_kept_apart() -> None:
    both, other = Report(ready=True, pipelines={"a": full(1), "b": full(2)}), Report(ready=True, pipelines={"b": full(3)})
    found = merge_reports([both, Report(ready=False), other])
    assert found["a"] == full(1)
    assert found["b"].events == full(2).events + full(3).events
    assert merge_reports([]) == {}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(["late", "nan", "poison"]), st.integers(0, 99)), min_size=1, max_size=4))
def test_books_add_up_whatever_reasons_there_are(letters: list[dict[str, int]]) -> None:
    found = merged(*[PipelineReport(state="running", books=books(1000, **dead)) for dead in letters])
    assert found.books["received"] == found.books["scored"] + sum(found.books["dead_letters"].values())


def test_what_versions_did_is_added_by_model_version_and_epoch() -> None:
    found = add_models([did("2", 1), did("2", 2), did("2", 5, epoch=1), did("1", 7)])
    assert [(each.version, each.epoch, each.runs) for each in found] == [("2", 0, 3), ("2", 1, 5), ("1", 0, 7)]
    assert found[0] == ModelReport("m", "2", 0, 3, 6, 9, 12, 15.0, 12.0)
    assert add_models([did("2", 1), ModelReport("m", "2", failure="no")])[0].failure == "no"


def test_shadows_of_one_pair_are_added_and_of_two_pairs_the_fuller_one_is_shown() -> None:
    assert add_shadows(None, None) is None
    assert add_shadows(None, beside("3", 4)) == beside("3", 4)
    both = add_shadows(beside("3", 4), beside("3", 5))
    assert both is not None
    for name in ShadowReport.__struct_fields__[3:-1]:
        assert getattr(both, name) == (5 if name in ("max_difference", "memory") else 9), name
    assert add_shadows(beside("3", 4), beside("4", 5)) == beside("4", 5)
    assert add_shadows(beside("3", 4, against="1"), beside("3", 2)) == beside("3", 4, against="1")
