"""The scratch output: windows of then and now side by side, bounds that are counted, and nothing left on the disk."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.replay import scratch as scratch_module
from skerry.replay.scratch import NOW, THEN, Scratch, Told, difference

FULL = {"score": 0.5, "label": None, "state": "firing", "count": 3}


@pytest.mark.parametrize(
    ("then", "now", "words"),
    [
        (FULL, FULL, "same"),
        (FULL, None, "only then"),
        (None, FULL, "only now"),
        (FULL, {**FULL, "state": "cleared", "score": 9.0}, "state"),
        (FULL, {**FULL, "score": 0.5000001}, "same"),
        (FULL, {**FULL, "score": 0.6}, "score"),
        (FULL, {**FULL, "score": None}, "score"),
        (FULL, {**FULL, "label": "1"}, "label"),
        (FULL, {**FULL, "count": 4}, "count"),
        ({**FULL, "state": None, "count": None}, FULL, "same"),
        ({**FULL, "state": None, "count": None}, {**FULL, "score": 0.6}, "score"),
    ],
)
def test_what_differs_first(then: dict[str, object] | None, now: dict[str, object] | None, words: str) -> None:
    assert difference(then, now) == words


event = st.tuples(st.sampled_from("ab"), st.integers(0, 5))


@given(st.lists(event, max_size=30), st.lists(event, max_size=30))
def test_events_are_matched_by_key_and_window(then: list[tuple[str, int]], now: list[tuple[str, int]]) -> None:
    with Scratch() as scratch:
        for side, events in ((THEN, then), (NOW, now)):
            for key, end in events:
                scratch.add(side, Told(key, end - 1, end * 1000, 0.25, "x", "info", 1))
        found = scratch.diff()
    before, after = Counter(then), Counter(now)
    totals = found["totals"]
    assert totals["same"] == (before & after).total()
    assert totals["only_then"] == (before - after).total() == sum(row["difference"] == "only then" for row in found["rows"])
    assert totals["only_now"] == (after - before).total() == sum(row["difference"] == "only now" for row in found["rows"])
    assert [row["end"] for row in found["rows"]] == sorted(row["end"] for row in found["rows"])


def test_what_is_over_the_bounds_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch_module, "MOST_EVENTS", 10)
    monkeypatch.setattr(scratch_module, "MOST_SHOWN", 4)
    with Scratch() as scratch:
        for at in range(13):
            scratch.add(NOW, Told("a", at, at, 1.0), b'{"n": %d}' % at)
        assert scratch.events() == [{"n": at} for at in range(4)]
        assert (scratch.count(NOW), scratch.left_out) == (13, [0, 3])
        diff = scratch.diff()
    assert (len(diff["rows"]), diff["left_out"], diff["totals"]["only_now"], diff["totals"]["now"]) == (4, 6, 10, 13)


PROGRAM = """
import os, sys
from skerry.replay.scratch import NOW, Scratch, Told
with Scratch() as scratch:
    for at in range(8_000):
        scratch.add(NOW, Told("a", at, at, 1.0), os.urandom(7000))
    print(os.listdir(os.environ["SQLITE_TMPDIR"]))
    for name in os.listdir("/proc/self/fd"):
        try:
            print(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:
            continue
"""


def run_in(folder: Path) -> subprocess.CompletedProcess[str]:
    """A process of its own: SQLite asks once where temporary files are."""
    environment = {**os.environ, "SQLITE_TMPDIR": str(folder)}
    return subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_it_has_no_name_on_the_disk(tmp_path: Path) -> None:
    done = run_in(tmp_path)
    assert done.returncode == 0, done.stderr
    names, *held = done.stdout.splitlines()
    assert names == "[]"
    assert [target for target in held if target.startswith(str(tmp_path)) and target.endswith("(deleted)")]


def test_a_full_disk_is_said(small_disk: Path) -> None:
    done = run_in(small_disk)
    assert "UnavailableError: no room for the scratch output: database or disk is full" in done.stderr
    assert list(small_disk.iterdir()) == []
