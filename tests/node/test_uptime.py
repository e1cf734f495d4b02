"""The uptime ledger: its ratio over restarts, deaths, clocks that are set, and files that are damaged or cannot be written."""

import asyncio
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.core.clock import SECOND, ManualClock, SystemClock
from skerry.core.service import cancel_and_wait
from skerry.node import uptime
from skerry.node.uptime import KILLED, MOST_GAPS, POWERED_OFF, STOOD_STILL, STOPPED, UptimeLedger
from tests.fixtures.nats import until

HOUR = 3600 * SECOND
START = 1_700_000_000 * SECOND
AGES = float("inf")  # beats of these stories are minutes apart


def ledger_of(path: Path, clock: ManualClock) -> UptimeLedger:
    """A ledger whose node is ready at once, and which takes long beats for what they are."""
    ledger = UptimeLedger(path, clock, still_s=AGES)
    ledger.note(True)
    ledger.keep()
    return ledger


def lived(ledger: UptimeLedger, clock: ManualClock, microseconds: int) -> None:
    for _ in range(10):
        clock.advance(microseconds // 10)
        ledger.note(True)
    ledger.keep()


def test_a_node_that_was_never_down(tmp_path: Path) -> None:
    clock = ManualClock(START)
    ledger = ledger_of(tmp_path / "up.json", clock)
    assert (ledger.ratio, ledger.starts) == (1.0, 1)
    lived(ledger, clock, HOUR)
    assert ledger.ratio == 1.0


def test_the_time_between_two_lives_is_down(tmp_path: Path) -> None:
    clock = ManualClock(START)
    lived(ledger_of(tmp_path / "up.json", clock), clock, 3 * HOUR)
    clock.advance(HOUR)
    ledger = ledger_of(tmp_path / "up.json", clock)
    assert ledger.starts == 2
    assert ledger.ratio == pytest.approx(0.75)
    lived(ledger, clock, 4 * HOUR)
    assert ledger.ratio == pytest.approx(7 / 8)


def test_what_was_lived_after_the_last_beat_is_down(tmp_path: Path) -> None:
    """A kill -9: at most one beat is lost, never gained."""
    clock = ManualClock(START)
    lived(ledger_of(tmp_path / "up.json", clock), clock, HOUR)
    clock.advance(5 * SECOND)
    ledger = ledger_of(tmp_path / "up.json", clock)
    assert 1 - 2 * 5 / 3600 < ledger.ratio < 1.0


@pytest.mark.parametrize("jump", [-HOUR, HOUR, -1000 * HOUR, 1000 * HOUR])
def test_a_clock_that_is_set_while_the_node_runs_is_no_time(tmp_path: Path, jump: int) -> None:
    clock = ManualClock(START)
    ledger = ledger_of(tmp_path / "up.json", clock)
    lived(ledger, clock, HOUR)
    clock.set(clock.now() + jump)
    lived(ledger, clock, HOUR)
    assert ledger.ratio == pytest.approx(1.0)
    clock.advance(2 * HOUR)
    assert ledger_of(tmp_path / "up.json", clock).ratio == pytest.approx(0.5)


def test_a_clock_that_was_set_back_while_the_node_was_down_takes_nothing(tmp_path: Path) -> None:
    clock = ManualClock(START)
    lived(ledger_of(tmp_path / "up.json", clock), clock, HOUR)
    clock.set(START - 10 * HOUR)
    ledger = ledger_of(tmp_path / "up.json", clock)
    assert ledger.ratio == pytest.approx(1.0)
    lived(ledger, clock, HOUR)
    assert ledger.ratio == pytest.approx(1.0)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"first": 1}', b"\xff\xfe", b'{"first": "a", "last": 2}'])
def test_a_damaged_file_begins_again(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "up.json").write_bytes(content)
    clock = ManualClock(START)
    ledger = ledger_of(tmp_path / "up.json", clock)
    lived(ledger, clock, HOUR)
    assert (ledger.starts, ledger.ratio) == (1, 1.0)


def test_a_file_that_cannot_be_written_ends_no_node(tmp_path: Path) -> None:
    """A full disk stops the ledger's file, not the node; it goes on by itself."""
    clock = ManualClock(START)
    folder = tmp_path / "later"
    ledger = ledger_of(folder / "up.json", clock)
    lived(ledger, clock, HOUR)
    assert ledger.ratio == 1.0
    folder.mkdir()
    lived(ledger, clock, HOUR)
    clock.advance(2 * HOUR)
    assert ledger_of(folder / "up.json", clock).ratio == pytest.approx(0.5)


steps = st.lists(
    st.tuples(st.sampled_from(["up", "down", "set"]), st.integers(-HOUR, HOUR)),
    max_size=20,
)


@settings(max_examples=25, deadline=None)
@given(steps)
def test_the_ratio_is_up_over_the_whole(tmp_path_factory: pytest.TempPathFactory, story: list[tuple[str, int]]) -> None:
    """Clocks are set only while it runs here: a set clock and a stop cannot be told apart while it is down."""
    path = tmp_path_factory.mktemp("up") / "up.json"
    clock = ManualClock(START)
    ledger = ledger_of(path, clock)
    up = down = 0
    for kind, amount in story:
        if kind == "up":
            clock.advance(abs(amount))
            ledger.note(True)
            ledger.keep()
            up += abs(amount)
        elif kind == "set":
            clock.set(clock.now() + amount)
            ledger.note(True)
            ledger.keep()
        else:
            clock.advance(abs(amount))
            down += abs(amount)
            ledger = ledger_of(path, clock)
        assert 0.0 <= ledger.ratio <= 1.0
        wanted = up / (up + down) if up + down else 1.0
        assert ledger.ratio == pytest.approx(wanted, abs=1e-4)


def reasons(ledger: UptimeLedger, over: int = 0) -> list[tuple[str, bool, float]]:
    return [(gap["reason"], gap["planned"], gap["seconds"]) for gap in ledger.report(over)["gaps"]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "up.json"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


def test_a_node_that_was_never_ready_has_no_history(path: Path, clock: ManualClock) -> None:
    ledger = UptimeLedger(path, clock)
    clock.advance(HOUR)
    ledger.note(False, "the disk is full")
    assert (ledger.ratio, reasons(ledger), ledger.report()["up_s"]) == (1.0, [], 0.0)
    ledger = UptimeLedger(path, clock)
    assert (ledger.starts, reasons(ledger)) == (2, [])


def test_a_stop_in_order_is_planned_and_lasts_until_it_is_ready_again(path: Path, clock: ManualClock) -> None:
    ledger = ledger_of(path, clock)
    lived(ledger, clock, HOUR)
    ledger.stop()
    clock.advance(60 * SECOND)
    ledger = UptimeLedger(path, clock, still_s=AGES)
    clock.advance(2 * SECOND)
    ledger.note(False, "the broker is starting")
    assert ledger.report()["gaps"][-1]["over"] is False
    clock.advance(SECOND)
    ledger.note(True)
    assert reasons(ledger) == [(STOPPED, True, 63.0)]
    found = ledger.report()
    assert (found["planned_s"], found["unplanned_s"], found["up_s"]) == (63.0, 0.0, 3600.0)
    assert found["gaps"][0]["begin"] == "2023-11-14T23:13:20.000Z"
    assert found["gaps"][0]["end"] == "2023-11-14T23:14:23.000Z"
    assert found["gaps"][0]["over"] is True


def test_a_node_that_failed_says_of_what(path: Path, clock: ManualClock) -> None:
    ledger = ledger_of(path, clock)
    lived(ledger, clock, HOUR)
    ledger.stop("skerry.sock: cannot be had")
    clock.advance(SECOND)
    assert reasons(ledger_of(path, clock)) == [("skerry.sock: cannot be had", False, 1.0)]


def test_a_kill_is_told_from_a_power_cut_by_the_boot(path: Path, clock: ManualClock, tmp_path: Path) -> None:
    boot = tmp_path / "boot_id"
    for name, passed in (("one\n", 5), ("one\n", 6), ("two\n", 7)):
        boot.write_text(name)
        ledger = UptimeLedger(path, clock, still_s=AGES, boot=boot)
        lived(ledger, clock, HOUR)
        clock.advance(passed * SECOND)
    ledger = UptimeLedger(path, clock, still_s=AGES, boot=tmp_path / "none")
    ledger.note(True)
    found = [(reason, planned) for reason, planned, _ in reasons(ledger)]
    assert found == [(KILLED, False), (POWERED_OFF, False), (KILLED, False)]


def test_a_node_that_is_not_ready_has_a_gap_with_its_reason(path: Path, clock: ManualClock) -> None:
    ledger = ledger_of(path, clock)
    for ready, reason in ((True, ""), (False, "the broker is started again"), (False, "something else"), (True, ""), (True, "")):
        clock.advance(10 * SECOND)
        ledger.note(ready, reason)
    assert reasons(ledger) == [("the broker is started again", False, 20.0)]
    assert ledger.ratio == pytest.approx(30 / 50)
    assert ledger.report()["ratio"] == pytest.approx(30 / 50)


def test_a_node_that_is_killed_while_it_is_not_ready_has_two_gaps(path: Path, clock: ManualClock) -> None:
    ledger = ledger_of(path, clock)
    lived(ledger, clock, HOUR)
    for seconds in (0, 5):
        clock.advance(seconds * SECOND)
        ledger.note(False, "the disk is full")
    ledger.keep()
    clock.advance(SECOND)
    assert reasons(ledger_of(path, clock)) == [("the disk is full", False, 5.0), (KILLED, False, 1.0)]


def test_a_node_that_stood_still_was_not_up(path: Path, clock: ManualClock) -> None:
    ledger = UptimeLedger(path, clock)
    ledger.note(True)
    clock.advance(29 * SECOND)
    ledger.note(True)
    clock.advance(31 * SECOND)
    ledger.note(True)
    assert reasons(ledger) == [(STOOD_STILL, False, 31.0)]
    assert ledger.ratio == pytest.approx(29 / 60)


def test_the_last_so_long_has_only_what_lies_in_it(path: Path, clock: ManualClock) -> None:
    ledger = ledger_of(path, clock)
    for _ in range(3):
        lived(ledger, clock, HOUR)
        ledger.note(False, "down")
        clock.advance(HOUR)
        ledger.note(True)
    found = ledger.report(90 * 60 * SECOND)
    assert (found["up_s"], found["unplanned_s"], found["ratio"]) == (1800.0, 3600.0, pytest.approx(1 / 3, abs=1e-6))
    found = ledger.report(30 * 60 * SECOND)
    assert (found["up_s"], found["unplanned_s"], len(found["gaps"])) == (0.0, 1800.0, 1)
    assert ledger.report(1000 * HOUR) == ledger.report()
    assert ledger.report()["up_s"] == 3 * 3600


def test_gaps_are_bounded_and_the_rest_is_complete(path: Path, clock: ManualClock) -> None:
    ledger = ledger_of(path, clock)
    for _ in range(MOST_GAPS + 5):
        for ready in (False, True):
            clock.advance(SECOND)
            ledger.note(ready, "down")
    found = ledger.report()
    assert len(found["gaps"]) == MOST_GAPS
    assert found["ratio"] == pytest.approx(0.5, abs=1e-3)
    assert path.stat().st_size < 200_000


def test_a_step_of_the_clock_moves_the_gaps(path: Path, clock: ManualClock) -> None:
    ledger = ledger_of(path, clock)
    ledger.note(False, "down")
    clock.advance(10 * SECOND)
    ledger.note(True)
    before = ledger.report()["gaps"][0]["begin"]
    clock.set(clock.now() + 24 * HOUR)
    clock.advance(10 * SECOND)
    ledger.note(True)
    found = ledger.report()
    assert before == "2023-11-14T22:13:20.000Z"
    assert found["gaps"][0]["begin"] == "2023-11-15T22:13:20.000Z"
    assert (found["up_s"], found["unplanned_s"]) == (10.0, 10.0)


def test_the_file_of_a_version_that_kept_no_gaps(path: Path, clock: ManualClock) -> None:
    path.write_text(f'{{"first": {START - 4 * HOUR}, "last": {START - HOUR}, "up": {3 * HOUR}, "starts": 7}}')
    ledger = UptimeLedger(path, clock)
    assert (ledger.starts, ledger.ratio) == (8, pytest.approx(0.75))
    assert reasons(ledger) == [(KILLED, False, 3600.0)]


def kept(path: Path) -> bool:
    """Whether the file says that the node is up."""
    found = json.loads(path.read_bytes())
    return bool(found["first"]) and found["gap"] is None


@pytest.mark.asyncio
async def test_it_is_kept_while_the_node_runs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every change is on the disk at once: whoever reads the file after a kill -9 knows of it."""
    monkeypatch.setattr(uptime, "LOOK_S", 0.01)
    now = [(False, "the broker is starting")]
    ledger = UptimeLedger(path, SystemClock())
    keeping = asyncio.create_task(ledger.run(lambda: now[0]))
    for ready in (True, False, True):
        now[0] = ready, "the broker is starting"
        await until(lambda ready=ready: kept(path) == ready)
    await cancel_and_wait(keeping)
    after = UptimeLedger(path, SystemClock())
    assert [gap["reason"] for gap in after.report()["gaps"]] == ["the broker is starting", KILLED]


def test_a_change_is_no_gap_unless_it_takes_too_long_and_then_a_planned_one(tmp_path: Path) -> None:
    clock = ManualClock(START)
    ledger = ledger_of(tmp_path / "up.json", clock)
    lived(ledger, clock, HOUR)
    assert not ledger.changing
    ledger.expect("the configuration was read again")
    for _ in range(40):
        clock.advance(SECOND)
        ledger.note(bool(ledger.changing), "the workers are starting")
    ledger.note(True)
    assert [(gap["planned"], gap["seconds"]) for gap in ledger.report()["gaps"]] == [(True, 15.0)]


def test_a_pause_that_somebody_wanted_is_planned_and_the_next_one_is_not(tmp_path: Path) -> None:
    clock = ManualClock(START)
    ledger = ledger_of(tmp_path / "up.json", clock)
    lived(ledger, clock, HOUR)
    ledger.expect("the configuration was read again")
    for ready in (False, False, True):
        clock.advance(SECOND)
        ledger.note(ready, "the workers are starting")
    lived(ledger, clock, 60 * SECOND)
    clock.advance(SECOND)
    ledger.note(False, "a worker ended")
    clock.advance(SECOND)
    ledger.note(True)
    told = ledger.report()
    assert [(gap["planned"], gap["reason"]) for gap in told["gaps"]] == [
        (True, "the configuration was read again"), (False, "a worker ended")
    ]  # fmt: skip
