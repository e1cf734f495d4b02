"""What the demo's screen shows."""

from typing import Any

import pytest

from skerry.cli.demo import versions
from skerry.cli.demo_screen import addresses, screen, summary
from skerry.demo import DemoState
from skerry.demo.score import Scores
from tests.api.fake_view import BOOKS, event

EMPTY = Scores(0, 0, 0, 0, 0, None, None, None, None, 0, 0, 0, None, 0, 0)
SOME = Scores(60, 9, 1, 2, 48, 0.9, 0.818, 0.857, 1.0, 3, 2, 1, 0.84, 0, 0)


def state(**given: Any) -> DemoState:
    known: dict[str, Any] = {
        "seconds": 12.0,
        "sentence": "all pumps run well",
        "alarms": [],
        "devices": [{"device": "pump-1", "predicted": None, "score": None, "true": "normal"}],
        "computer": {"cpu": 31.4, "memory": 40.0, "disk": 0.25, "network": 0.0},
        "loaded": False,
        "scores": EMPTY,
        "books": BOOKS,
        "acknowledged": 1210,
        "messages_per_s": 70.2,
        "latency_ms": {"p50": 2.14, "p99": None},
        "bytes_in": 1_200_000,
        "bytes_up": 0,
        "addresses": {"mqtt": "127.0.0.1:1", "http": "127.0.0.1:2"},
        "paste": "mosquitto_pub -P secret",
    }
    return DemoState(**{**known, **given})


def text(of: DemoState) -> list[str]:
    return [line.text for line in screen(of)]


def test_calm() -> None:
    lines = text(state())
    assert lines[1] == "all pumps run well"
    assert "pump-1                  normal            -                        -" in lines
    assert "this computer: cpu 31 %, memory 40 %, disk 0.2 MiB/s, network 0.0 MiB/s" in lines
    assert "alarms now: none" in lines
    assert "precision -, recall -, median delay - over 0 windows" in lines
    assert "70 messages/s, publish to event p50 2.1 ms, p99 -" in lines
    assert "1.1 MiB came in, 0 B of alarms would go up the link" in lines
    assert "why a zero can be believed: the devices counted 1,210 acknowledgements" in lines


def test_an_alarm() -> None:
    alarm = {**event(1, key="pump-2"), "label": "imbalance"}
    devices = [{"device": "pump-2", "predicted": "imbalance", "score": 0.987, "true": "leak"}]
    shown = screen(state(alarms=[alarm, event(2)], devices=devices, scores=SOME, bytes_up=12_000, sentence="pump-2: imbalance"))
    lines = [line.text for line in shown]
    assert shown[1] == ("pump-2: imbalance", "bold red")
    assert "alarms now: pump-2 imbalance, pump-1 score 0.50" in lines
    assert ("pump-2                  leak              imbalance             0.99", "yellow") in shown
    assert "precision 90.0 %, recall 81.8 %, median delay 0.8 s over 60 windows" in lines
    assert "faults so far 3: 2 found, 1 missed; 0 false alarms" in lines
    assert "1.1 MiB came in, 11.7 KiB of alarms would go up the link, 100 times less" in lines


def test_books_that_do_not_add_up_are_red() -> None:
    assert not [line for line in screen(state()) if line.style == "bold red"]
    red = [line.text for line in screen(state(books={**BOOKS, "difference": 1})) if line.style == "bold red"]
    assert red[0].startswith("the books: received 1,204")


def test_it_fits_into_80_columns_and_cannot_drive_the_terminal() -> None:
    devices = [{"device": "d" * 99, "predicted": "p" * 99, "true": "t\x1b[2J" * 9, "score": 1}]
    lines = text(state(devices=devices, sentence="word " * 60 + "\x1b[2J", scores=SOME))
    assert max(map(len, lines)) <= 80
    assert not any("\x1b" in line for line in lines)


def test_recordings_have_no_computer_and_no_key_for_it() -> None:
    lines = text(state(computer={}))
    assert not any("computer" in line for line in lines)
    assert lines[-1] == "q or Ctrl-C: stop"


def test_addresses() -> None:
    shown = [line.text for line in addresses(state())]
    assert shown[0] == "MQTT broker  127.0.0.1:1"
    assert "http://127.0.0.1:2/api/v1/events" in shown[1]
    assert shown[-1] == "  mosquitto_pub -P secret"
    assert len(addresses(state(addresses={"mqtt": "127.0.0.1:1"}))) == 3


@pytest.mark.parametrize("precision", [None, 1.0])
def test_summary(precision: float | None) -> None:
    answer = {
        "messages": 1204,
        "seconds": 8.04,
        "windows": 57,
        "events": 26,
        "acknowledged": 1204,
        "lost": 0,
        "precision": precision,
        "versions": versions(),
    }
    lines = summary(answer)
    assert lines[0] == "1,204 messages in 8.0 s, 57 windows scored, 26 events"
    assert lines[1] == "acknowledged to the devices 1,204, lost 0, duplicates -, dead letters -"
    assert lines[3] == f"faults: precision {'-' if precision is None else '100.0 %'}, recall -, median delay -"
    assert {"python", "skerry", "onnxruntime", "kernel"} <= set(versions())
