"""The uptime ledger: its ratio over restarts, deaths, clocks that are set, and files that are damaged or cannot be written."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.core.clock import SECOND, ManualClock
from skerry.node.uptime import UptimeLedger

HOUR = 3600 * SECOND
START = 1_700_000_000 * SECOND


def lived(ledger: UptimeLedger, clock: ManualClock, microseconds: int) -> None:
    for _ in range(10):
        clock.advance(microseconds // 10)
        ledger.beat()


def test_a_node_that_was_never_down(tmp_path: Path) -> None:
    clock = ManualClock(START)
    ledger = UptimeLedger(tmp_path / "up.json", clock)
    assert (ledger.ratio, ledger.starts) == (1.0, 1)
    lived(ledger, clock, HOUR)
    assert ledger.ratio == 1.0


def test_the_time_between_two_lives_is_down(tmp_path: Path) -> None:
    clock = ManualClock(START)
    lived(UptimeLedger(tmp_path / "up.json", clock), clock, 3 * HOUR)
    clock.advance(HOUR)
    ledger = UptimeLedger(tmp_path / "up.json", clock)
    assert ledger.starts == 2
    assert ledger.ratio == pytest.approx(0.75)
    lived(ledger, clock, 4 * HOUR)
    assert ledger.ratio == pytest.approx(7 / 8)


def test_what_was_lived_after_the_last_beat_is_down(tmp_path: Path) -> None:
    """A kill -9: at most one beat is lost, never gained."""
    clock = ManualClock(START)
    lived(UptimeLedger(tmp_path / "up.json", clock), clock, HOUR)
    clock.advance(5 * SECOND)
    ledger = UptimeLedger(tmp_path / "up.json", clock)
    assert 1 - 2 * 5 / 3600 < ledger.ratio < 1.0


@pytest.mark.parametrize("jump", [-HOUR, HOUR, -1000 * HOUR, 1000 * HOUR])
def test_a_clock_that_is_set_while_the_node_runs_is_no_time(tmp_path: Path, jump: int) -> None:
    clock = ManualClock(START)
    ledger = UptimeLedger(tmp_path / "up.json", clock)
    lived(ledger, clock, HOUR)
    clock.set(clock.now() + jump)
    lived(ledger, clock, HOUR)
    assert ledger.ratio == pytest.approx(1.0)
    clock.advance(2 * HOUR)
    assert UptimeLedger(tmp_path / "up.json", clock).ratio == pytest.approx(0.5)


def test_a_clock_that_was_set_back_while_the_node_was_down_takes_nothing(tmp_path: Path) -> None:
    clock = ManualClock(START)
    lived(UptimeLedger(tmp_path / "up.json", clock), clock, HOUR)
    clock.set(START - 10 * HOUR)
    ledger = UptimeLedger(tmp_path / "up.json", clock)
    assert ledger.ratio == pytest.approx(1.0)
    lived(ledger, clock, HOUR)
    assert ledger.ratio == pytest.approx(1.0)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"first": 1}', b"\xff\xfe", b'{"first": "a", "last": 2}'])
def test_a_damaged_file_begins_again(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "up.json").write_bytes(content)
    clock = ManualClock(START)
    ledger = UptimeLedger(tmp_path / "up.json", clock)
    lived(ledger, clock, HOUR)
    assert (ledger.starts, ledger.ratio) == (1, 1.0)


def test_a_file_that_cannot_be_written_ends_no_node(tmp_path: Path) -> None:
    """A full disk stops the ledger's file, not the node; it goes on by itself."""
    clock = ManualClock(START)
    folder = tmp_path / "later"
    ledger = UptimeLedger(folder / "up.json", clock)
    lived(ledger, clock, HOUR)
    assert ledger.ratio == 1.0
    folder.mkdir()
    lived(ledger, clock, HOUR)
    clock.advance(2 * HOUR)
    assert UptimeLedger(folder / "up.json", clock).ratio == pytest.approx(0.5)


steps = st.lists(
    st.tuples(st.sampled_from(["up", "down", "set"]), st.integers(-HOUR, HOUR)),
    max_size=20,
)


@settings(max_examples=50, deadline=None)
@given(steps)
def test_the_ratio_is_up_over_the_whole(tmp_path_factory: pytest.TempPathFactory, story: list[tuple[str, int]]) -> None:
    """Clocks are set only while it runs here: a set clock and a stop cannot be told apart while it is down."""
    path = tmp_path_factory.mktemp("up") / "up.json"
    clock = ManualClock(START)
    ledger = UptimeLedger(path, clock)
    up = down = 0
    for kind, amount in story:
        if kind == "up":
            clock.advance(abs(amount))
            ledger.beat()
            up += abs(amount)
        elif kind == "set":
            clock.set(clock.now() + amount)
            ledger.beat()
        else:
            clock.advance(abs(amount))
            down += abs(amount)
            ledger = UptimeLedger(path, clock)
        assert 0.0 <= ledger.ratio <= 1.0
        wanted = up / (up + down) if up + down else 1.0
        assert ledger.ratio == pytest.approx(wanted, abs=1e-4)
