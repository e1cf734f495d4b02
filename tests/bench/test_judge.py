"""What the bench calls lost, torn and late; figures are only as good as this."""

from collections import Counter
from itertools import pairwise

import pytest

from bench.load import WINDOW, Load, Outcome, schedule, tails
from bench.machine import Machine
from bench.report import line, markdown, number, report
from bench.rows import median_row
from bench.run import judge, stamp, windows_for
from bench.sink import Seen

BEGAN = 1_700_000_000_000


def rfc3339(milliseconds: int) -> str:
    assert 0 <= milliseconds - BEGAN < 60_000
    seconds, rest = divmod(milliseconds - BEGAN + 20_000, 1000)
    return f"2023-11-14T22:13:{seconds:02d}.{rest:03d}Z" if seconds < 60 else f"2023-11-14T22:14:{seconds - 60:02d}.{rest:03d}Z"


def sent(windows: int, step: int = 10) -> Outcome:
    stamps = [BEGAN + step * number for number in range(windows * WINDOW)]
    closing = [each / 1000 for each in stamps[WINDOW - 1 :: WINDOW]]
    return Outcome(len(stamps), len(stamps), 1.0, 0.0, 0, 0, False, {"m000": closing}, {"m000": closing}, {"m000": stamps})


def event(outcome: Outcome, first: int, late_ms: float = 5.0, count: int = WINDOW) -> Seen:
    stamps = outcome.stamps["m000"]
    last = stamps[first + count - 1]
    return Seen((last + late_ms) / 1000, "m000", rfc3339(stamps[first]), rfc3339(last), count, f"id-{first}")


LOAD = Load(1, 1000.0, 4, 1)


def test_times_are_read_as_they_are_written() -> None:
    assert stamp(rfc3339(BEGAN)) == BEGAN
    assert stamp(rfc3339(BEGAN + 45_678)) == BEGAN + 45_678


def test_all_windows_there_is_nothing_lost_and_the_latency_is_that_of_the_closing_message() -> None:
    outcome = sent(4)
    found = judge(LOAD, outcome, [event(outcome, at * WINDOW, late_ms=5.0 + at) for at in range(4)])
    assert (found.missing, found.torn, found.doubled) == (0, 0, 0)
    assert found.sent_ms == pytest.approx([5, 6, 7, 8], abs=0.01)
    assert found.p50 == pytest.approx(6.5, abs=0.01)


def test_a_window_that_did_not_come_is_missing() -> None:
    outcome = sent(4)
    found = judge(LOAD, outcome, [event(outcome, at * WINDOW) for at in (0, 1, 3)])
    assert (found.missing, found.torn) == (1, 0)


def test_windows_that_begin_elsewhere_are_whole_but_one_too_few() -> None:
    outcome = sent(4)
    found = judge(LOAD, outcome, [event(outcome, 0), event(outcome, 40), event(outcome, 72)])
    assert (found.missing, found.torn) == (1, 0)
    assert len(found.sent_ms) == 1


def test_a_window_over_a_gap_is_torn_and_missing() -> None:
    outcome = sent(4)
    torn = event(outcome, 0)
    torn.end = rfc3339(outcome.stamps["m000"][WINDOW])
    short = event(outcome, 2 * WINDOW, count=20)
    found = judge(LOAD, outcome, [torn, event(outcome, WINDOW), short, event(outcome, 3 * WINDOW)])
    assert (found.missing, found.torn) == (2, 2)


def test_the_same_event_twice_is_doubled_and_counts_once() -> None:
    outcome = sent(4)
    found = judge(LOAD, outcome, [event(outcome, 0)] * 3)
    assert (found.missing, found.doubled, len(found.sent_ms)) == (3, 2, 1)


def test_messages_of_one_millisecond_are_no_reason_to_call_a_window_torn() -> None:
    outcome = sent(4, step=0)
    found = judge(LOAD, outcome, [event(outcome, at * WINDOW) for at in range(4)])
    assert (found.missing, found.torn) == (0, 0)


def test_every_device_sends_whole_windows_and_no_two_close_at_once() -> None:
    order = schedule(8, 3)
    assert set(Counter(order).values()) == {3 * WINDOW}
    number: Counter[int] = Counter()
    closing = []
    for at, device in enumerate(order):
        number[device] += 1
        if number[device] % WINDOW == 0:
            closing.append(at)
    inner = closing[8:-8]
    assert min(after - before for before, after in pairwise(inner)) > 8


def test_payloads_have_one_length() -> None:
    assert len({len(tail) for tail in tails()}) == 1


@pytest.mark.parametrize(("rate", "seconds", "windows"), [(1000.0, 8.0, 5), (1.0, 1.0, 1), (16_000.0, 8.0, 80)])
def test_a_load_is_whole_windows(rate: float, seconds: float, windows: int) -> None:
    assert windows_for(rate, seconds) == windows


def test_a_row_is_the_median_of_its_rounds_and_the_ratio_of_the_medians() -> None:
    row = median_row("r", "f", "ms", "≤ 2", [1.0, 9.0, 2.0], [4.0, 4.0, 40.0])
    assert (row.skerry, row.peer, row.ratio) == (2.0, 4.0, 0.5)
    assert median_row("r", "f", "", "0", [0.0], [0.0]).ratio is None
    assert line(row) == "r           f: 2 ms, peer 4 ms, ratio 0.50   (goal ≤ 2)"


def test_the_table_names_machine_and_command() -> None:
    machine = Machine("a cpu", 2, "Linux 6", 0.5, {"python": "3.12"})
    text = markdown(report(machine, [median_row("r", "f", "/s", "", [30_000.0])], ["r", "--rounds", "1"]), "main")
    assert "`python -m bench r --rounds 1`" in text
    assert "a cpu, 2 cores, Linux 6" in text
    assert "| r | f | 30,000/s | – | – |  | 30,000 |" in text


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [(None, "ms", "–"), (0.0, "", "0"), (1.234, "ms", "1.23 ms"), (12.34, "µs", "12.3 µs"), (28_123.4, "/s", "28,123/s")],
)
def test_numbers_are_shown_with_what_they_are_worth(value: float | None, unit: str, shown: str) -> None:
    assert number(value, unit) == shown
