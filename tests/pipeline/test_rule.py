"""Rules: scenarios as tables, and what holds whatever the scores are."""

import math

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.core.errors import ConfigError
from skerry.core.settings import build
from skerry.pipeline.rule import Alarm, Rule, RuleSpec, digest
from tests.fixtures.frames import events, frame, log_of, run, sample, spec_of

S = 1_000_000


def rule(**table: object) -> RuleSpec:
    return build(RuleSpec, table, "rule")


def judged(spec: RuleSpec, scores: list[float], alarm: Alarm | None = None, begin: int = 0) -> str:
    """One letter a window of a second: F fires, C clears, - neither."""
    judge, state = Rule(spec), alarm or Alarm()
    found = [judge.judge(state, score, (begin + at) * S, (begin + at + 1) * S, "p", "k") for at, score in enumerate(scores)]
    return "".join({None: "-", "firing": "F", "cleared": "C"}[one] for one in found)


@pytest.mark.parametrize(
    ("table", "scores", "expected"),
    [
        ({"above": 0.8}, [0.8, 0.9, 0.9, 0.8, 0.8], "-F-C-"),
        ({"above": 0.8, "clear_below": 0.5}, [0.9, 0.7, 0.5, 0.49, 0.9], "F--CF"),
        ({"above": 0.8, "for": 3}, [0.9, 0.9, 0.1, 0.9, 0.9, 0.9, 0.1], "-----FC"),
        ({"above": 0.8, "clear_below": 0.5, "clear_for": 2}, [0.9, 0.1, 0.6, 0.1, 0.1, 0.9], "F---CF"),
        ({"above": 0.8, "for": "3s"}, [0.9, 0.9, 0.9, 0.9], "--F-"),
        ({"above": 0.8, "for": "2500ms"}, [0.9, 0.9, 0.1, 0.9, 0.9, 0.9], "-----F"),
        ({"above": 0.8, "for": "500ms"}, [0.9, 0.1], "FC"),
        ({"above": 0.8, "clear_for": "2s"}, [0.9, 0.1, 0.1, 0.1], "F-C-"),
        ({"below": -1}, [-1, -1.1, -1, -2], "-FCF"),
        ({"below": 0.2, "clear_above": 0.5}, [0.1, 0.3, 0.5, 0.51], "F--C"),
        ({"above": 0.0}, [0.0, math.inf, -math.inf], "-FC"),
    ],
)
def test_scenarios(table: dict[str, object], scores: list[float], expected: str) -> None:
    assert judged(rule(**table), scores) == expected


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.floats(0, 1), max_size=40),
    st.sampled_from([1, 2, 5, "2s", "4s"]),
    st.sampled_from([1, 3, "3s"]),
    st.sampled_from([None, 0.2, 0.5]),
    st.sampled_from(["0s", "3s", "1h"]),
)
def test_firing_and_cleared_alternate_under_one_id(
    scores: list[float], for_: int | str, clear_for: int | str, clear: float | None, flap: str
) -> None:
    judge = Rule(rule(above=0.5, clear_for=clear_for, flap=flap, **({"for": for_}), **({"clear_below": clear} if clear else {})))
    alarm, fired, states = Alarm(), "", []
    for at, score in enumerate(scores):
        change = judge.judge(alarm, score, at * S, (at + 1) * S, "p", "k")
        assert alarm.firing == (change == "firing" if change else bool(states) and states[-1] == "firing")
        if change is None:
            continue
        states.append(change)
        assert len(alarm.alarm_id) == 24
        if change == "firing":
            fired = alarm.alarm_id
            patience = for_ if isinstance(for_, int) else int(for_[:-1])
            assert all(value > 0.5 for value in scores[at + 1 - patience : at + 1])
        else:
            assert alarm.alarm_id == fired
    assert states == ["firing", "cleared"] * (len(states) // 2) + ["firing"] * (len(states) % 2)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), max_size=20), st.integers(0, 20))
def test_a_stored_alarm_goes_on_as_it_was(scores: list[float], cut: int) -> None:
    spec = rule(above=0.5, clear_below=0.4, clear_for=2, **{"for": 2})
    live, first = Alarm(), Alarm()
    whole = judged(spec, scores, live)
    head = judged(spec, scores[:cut], first)
    stored = msgspec.msgpack.decode(msgspec.msgpack.encode(first), type=Alarm)
    assert head + judged(spec, scores[cut:], stored, begin=min(cut, len(scores))) == whole
    assert stored == live


def test_flapping_is_one_alarm_that_counts() -> None:
    judge, alarm = Rule(rule(above=0.5, flap="5s")), Alarm()

    def window(second: int, score: float) -> tuple[str | None, str, int]:
        change = judge.judge(alarm, score, second * S, (second + 1) * S, "p", "k")
        return change, alarm.alarm_id, alarm.flaps

    first = window(0, 1)[1]
    assert window(1, 0) == ("cleared", first, 0)
    assert window(6, 1) == ("firing", first, 1)
    assert window(7, 0) == ("cleared", first, 1)
    assert window(12, 1) == ("firing", first, 2)
    assert window(13, 0)[0] == "cleared"
    change, other, flaps = window(19, 1)
    assert (change, flaps) == ("firing", 0)
    assert other != first


def test_an_alarms_id_tells_pipeline_key_and_time_apart() -> None:
    found = set()
    for pipeline, key, begin in (("p", "k", 0), ("q", "k", 0), ("p", "l", 0), ("p", "k", 1), ("pk", "", 0)):
        alarm = Alarm()
        Rule(rule(above=0)).judge(alarm, 1.0, begin, begin + S, pipeline, key)
        found.add(alarm.alarm_id)
    assert len(found) == 5
    assert digest("ab", "c") != digest("a", "bc")


@pytest.mark.parametrize(
    ("table", "where"),
    [
        ({}, "above"),
        ({"above": 1, "below": 0}, "above"),
        ({"above": 1.0, "clear_below": 1.1}, "clear_below"),
        ({"below": 1.0, "clear_above": 0.9}, "clear_above"),
        ({"above": 1, "for": 0}, "for"),
        ({"above": 1, "clear_for": -1}, "clear_for"),
        ({"above": 1, "for": "soon"}, "for"),
        ({"above": 1, "flap": "2"}, "flap"),
        ({"above": 1, "severity": ""}, "severity"),
        ({"above": math.nan}, "above"),
        ({"below": math.inf}, "below"),
        ({"above": "high"}, "above"),
        ({"above": 1, "clear": 0}, ""),
    ],
)
def test_what_is_no_rule_is_refused_with_its_key(table: dict[str, object], where: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(RuleSpec, table, "pipelines[0].rule")
    assert caught.value.where == ".".join(filter(None, ("pipelines[0].rule", where)))


def test_only_changes_become_events() -> None:
    spec = spec_of(rule={"field": "x_max", "above": 0.5, "for": 2, "severity": "critical"}, features=["max"])
    runner = run(spec, log_of([sample(at, value) for at, value in enumerate([1, 1, 1, 0, 0, 2])]))
    found = events(runner.outputs)
    assert [(event["state"], event["severity"], event["start"][17:]) for event in found] == [
        ("firing", "critical", "01.000Z"),
        ("cleared", "critical", "03.000Z"),
    ]
    assert found[0]["alarm_id"] == found[1]["alarm_id"]
    assert found[0]["id"] != found[1]["id"]
    assert runner.state.ledger.windows == 6


def test_a_rule_per_key_keeps_its_own_state() -> None:
    frames = [frame(number, sample(1, 1.0), f"devices/{device}/v") for number, device in enumerate("aabb", 1)]
    found = events(run(spec_of(rule={"above": 0.5}), frames).outputs)
    assert [(event["key"], event["state"]) for event in found] == [("a", "firing"), ("b", "firing")]
    assert found[0]["alarm_id"] != found[1]["alarm_id"]
