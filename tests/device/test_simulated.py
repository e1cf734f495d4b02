"""Readings that are made up or read from a file."""

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest

from skerry.core.clock import SECOND, SystemClock
from skerry.core.errors import ConfigError, RejectedError
from skerry.device import Recording, made_up, simulate
from skerry.device.recording import Reading


@pytest.mark.parametrize(("channel", "names"), [("readings", {"value"}), ("any/thing", {"value"}), ("vibration", {"x", "y", "z"})])
def test_what_is_made_up_is_plausible_and_the_same_for_one_seed(channel: str, names: set[str]) -> None:
    first, again, other = (list(itertools.islice(made_up(channel, seed), 2000)) for seed in (1, 1, 2))
    assert first == again != other
    for row, _ in first:
        assert isinstance(row, dict)
        assert set(row) == names
        assert all(isinstance(value, float) and math.isfinite(value) for value in row.values())
        assert json.loads(json.dumps(row)) == row
    if channel == "vibration":
        assert all(abs(float(row["x"])) < 1 and 9 < float(row["z"]) < 10.6 for row, _ in first if isinstance(row, dict))
    else:
        assert all(15 < float(row["value"]) < 28 for row, _ in first if isinstance(row, dict))
    assert len({str(row) for row in first}) > 100


def test_rows_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("\ufeffdevice,ts,a,b,c\none,1,1.5,,on\ntwo,2,nan,2e3,\n", encoding="utf-8")
    assert list(Recording(file, "other")) == [
        Reading({"ts": 1.0, "a": 1.5, "c": "on"}, 1.0),
        Reading({"ts": 2.0, "a": "nan", "b": 2000.0}, 0.0),
    ]
    own = Recording(file, "one")
    assert (own.count, list(own), list(own)) == (1, [Reading({"ts": 1.0, "a": 1.5, "c": "on"}, 0.0)], list(own))


def test_messages_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "picture").write_bytes(b"\xff\xd8")
    lines = [
        {"topic": "devices/a/x", "payload": {"ts": "2026-03-01T06:00:00Z", "x": 1}},
        {"topic": "devices/a/x", "payload": "21.5 C", "at": 1772344804},
        {"topic": "devices/a/x", "payload_base64": "/9g="},
        {"topic": "devices/a/x", "payload_file": "picture"},
        {"topic": "devices/a/x", "payload": [1, 2]},
        {"topic": "devices/b/x", "payload": {}},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(line) for line in lines) + "\n\n", encoding="utf-8")
    assert list(Recording(tmp_path / "a.jsonl", "a")) == [
        Reading({"ts": "2026-03-01T06:00:00Z", "x": 1}, 4.0),
        Reading(b"21.5 C", 0.0),
        Reading(b"\xff\xd8"),
        Reading(b"\xff\xd8"),
        Reading(b"[1,2]"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.csv", b"device\na\n", "a row without a value; its first line names the columns"),
        ("a.csv", b"a\n\xff\xfe\n", "is no CSV"),
        ("a.jsonl", b"no\n", "a.jsonl:1: is no message"),
        ("a.jsonl", b'{"topic": "devices/a/b"}\n', "a.jsonl:1: is no message: 'payload'"),
        ("a.jsonl", b'{"topic": "a", "payload": 1}\n', "a.jsonl:1: is no message"),
        ("a.jsonl", b'{"topic": "devices/a/b", "payload_base64": "?"}\n', "a.jsonl:1: is no message"),
        ("a.jsonl", b"[]\n", "a.jsonl:1: is no message"),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RejectedError, match=sentence):
        Recording(tmp_path / name, "a")


@pytest.mark.parametrize("name", ["nosuch.csv", "nosuch.jsonl"])
def test_a_file_that_is_not_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}: cannot be read"):
        Recording(tmp_path / name, "a")


class Collecting:
    """Takes what a device publishes."""

    reconnects = 0

    def __init__(self) -> None:
        self.taken: list[Any] = []

    async def publish(self, channel: str, payload: str | bytes) -> None:
        self.taken.append(payload if isinstance(payload, bytes) else json.loads(payload))


@pytest.mark.asyncio
@pytest.mark.parametrize(("apart", "shares"), [(60.0, (0.0, 60.0)), (0.0, (0.0, 0.0))])
async def test_the_times_of_a_recording_keep_their_distances_and_end_now(apart: float, shares: tuple[float, float]) -> None:
    clock, client = SystemClock(), Collecting()
    began = clock.now() / SECOND
    readings = [Reading({"x": 1.0, "ts": 5.0}, apart), Reading({"x": 2.0}, 0.0), Reading(b"raw", 0.0)]
    found = await simulate(client, "a", "c", readings, clock, rate=100.0, seconds=60.0, lasts=0.03)  # type: ignore[arg-type]  # the part that is used
    assert (found.sent, found.acknowledged, client.taken[2]) == (3, 3, b"raw")
    first, second = (row["ts"] for row in client.taken[:2])
    assert second - first == pytest.approx(shares[1], abs=0.05)
    assert began <= second <= clock.now() / SECOND
