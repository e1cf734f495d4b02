"""Whether a bundle may stay: every way in which a node can get worse, and that nothing else takes it back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.bundle import Marks, Verdict, judge

S = 1_000_000
RUNNING = {"p": ("running", ""), "q": ("running", "")}
BEFORE = Marks(RUNNING, {"p": 3, "q": 0})
STATES = st.sampled_from(["running", "paused", "degraded", "elsewhere", "starting", "pending", "failed", "quarantined", "stopped"])


def now(**given: object) -> Marks:
    return Marks(**{"states": RUNNING, "dead": {"p": 3, "q": 0}, **given})  # type: ignore[arg-type]  # fields by name


def test_it_waits_until_all_run_and_then_until_its_time_is_over() -> None:
    starting = now(states={"p": ("starting", ""), "q": ("running", "")})
    assert judge(BEFORE, starting, "coming up", 59 * S, 60 * S) == Verdict("wait")
    assert judge(BEFORE, now(), "coming up", 59 * S, 60 * S) == Verdict("up")
    assert judge(BEFORE, now(states={"p": ("elsewhere", "n2 runs it"), "q": ("running", "")}), "coming up", S, 60 * S).what == "up"
    assert judge(BEFORE, now(), "on probation", 29 * S, 30 * S) == Verdict("wait")
    assert judge(BEFORE, now(), "on probation", 30 * S, 30 * S) == Verdict("keep")
    assert judge(BEFORE, starting, "on probation", 31 * S, 30 * S) == Verdict("wait")  # a worker is being started: it will tell


def test_what_does_not_come_up_in_time_goes_back_with_the_reason() -> None:
    pending = now(states={"p": ("pending", "pending: 64 MiB are missing")})
    verdict = judge(BEFORE, pending, "coming up", 60 * S, 60 * S)
    assert verdict == Verdict("back", "pipeline p did not come up within 60 s: pending: 64 MiB are missing")


@pytest.mark.parametrize("phase", ["coming up", "on probation"])
@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"states": {"p": ("failed", "failed: m@2 takes 3 columns")}}, "pipeline p: failed: m@2 takes 3 columns"),
        ({"states": {"q": ("quarantined", "")}}, "pipeline q: quarantined"),
        ({"states": {"q": ("stopped", "used 2 of 1")}}, "pipeline q: used 2 of 1"),
        ({"deaths": 2}, "2 workers were started again"),
        ({"restarts": 1}, "the process of the connectors was started again"),
        ({"faults": {"m@2": 7}}, "model m@2 failed, or answered what is no number, 7 times"),
        ({"dead": {"p": 5, "q": 0}}, "new dead letters: 2 of pipeline p"),
        ({"dead": {"p": 3, "new": 1}}, "new dead letters: 1 of pipeline new"),
    ],
)
def test_whatever_gets_worse_takes_it_back_at_once(phase: str, given: dict[str, object], why: str) -> None:
    assert judge(BEFORE, now(**given), phase, 0, 30 * S) == Verdict("back", why)  # type: ignore[arg-type]  # both are phases


def test_dead_letters_may_be_let_pass() -> None:
    before = Marks(RUNNING, {"p": 3, "q": 0}, room=5)
    assert judge(before, now(dead={"p": 6, "q": 2}), "on probation", 30 * S, 30 * S) == Verdict("keep")
    assert judge(before, now(dead={"p": 6, "q": 3}), "on probation", 30 * S, 30 * S).what == "back"


@given(st.dictionaries(st.sampled_from("pqr"), STATES), st.integers(0, 3), st.integers(0, 3), st.integers(0, 100), st.booleans())
def test_it_is_kept_only_when_all_is_well_and_its_time_is_over(
    states: dict[str, str], dead: int, deaths: int, elapsed: int, coming: bool
) -> None:
    seen = Marks({name: (state, "") for name, state in states.items()}, {"p": 3 + dead}, deaths=deaths)
    verdict = judge(BEFORE, seen, "coming up" if coming else "on probation", elapsed, 50)
    well = not dead and not deaths and all(state in ("running", "paused", "degraded", "elsewhere") for state in states.values())
    bad = bool(dead or deaths) or any(state in ("failed", "quarantined", "stopped") for state in states.values())
    assert (verdict.what == "keep") == (well and not coming and elapsed >= 50)
    assert (verdict.what == "up") == (well and coming)
    if bad:
        assert verdict.what == "back"
    assert bool(verdict.reason) == (verdict.what == "back")
