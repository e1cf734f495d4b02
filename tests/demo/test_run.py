"""The demo as a whole, with its real node: short, headless, its books balanced, nothing left behind."""

import asyncio
import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from skerry.core.errors import ConfigError
from skerry.demo import Demo, DemoOptions
from skerry.demo.recordings import RIG_VALUES
from skerry.demo.rig import USUAL

PROMISED = {
    "messages", "events", "windows", "lost", "duplicates", "dead_letters", "messages_per_s", "latency_ms", "precision", "recall",
    "bytes_in", "bytes_up", "versions",
}  # fmt: skip
pytestmark = pytest.mark.asyncio


async def watched(demo: Demo) -> list[Any]:
    async with asyncio.timeout(60):
        return [state async for state in demo.states()]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Temporary directories of the demo are made, and looked for, below the test's own."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))


async def test_a_short_demo_loses_nothing(tmp_path: Path) -> None:
    demo = Demo(DemoOptions(seconds=5.0, seed=7))
    states = await watched(demo)
    assert [state.finished for state in states] == [False] * (len(states) - 1) + [True]
    assert len(states) >= 8
    answer = demo.summary(states[-1], {"skerry": "1"})
    assert set(answer) >= PROMISED
    assert answer["lost"] == 0
    # the computer's last message may be stored while its acknowledgement is no longer waited for
    assert 0 <= answer["messages"] - answer["acknowledged"] <= 1
    assert answer["messages"] > 100
    assert answer["versions"] == {"skerry": "1"}
    assert answer["first_event_s"] < 10
    assert answer["windows"] > 5
    assert answer["events"] > 5
    assert answer["dead_letters"] == answer["duplicates"] == 0
    assert 0 < answer["latency_ms"]["p50"] <= answer["latency_ms"]["p99"]
    assert answer["bytes_in"] > 10_000 > answer["bytes_up"] >= 0
    books = states[-1].books
    assert books["difference"] == 0
    assert books["received"] == books["scored"] + books["open"] + sum(books["dead_letters"].values())
    assert {device["device"] for device in states[-1].devices} == {"pump-1", "pump-2", "pump-3"}
    assert any(device["predicted"] for device in states[-1].devices)
    assert states[-1].paste.startswith("mosquitto_pub -h 127.0.0.1 -p ")
    assert list((tmp_path / "tmp").iterdir()) == []


async def test_one_that_is_stopped_counts_what_was_acknowledged(tmp_path: Path) -> None:
    demo, states = Demo(DemoOptions(seed=7)), list[Any]()
    async with asyncio.timeout(60):
        async for state in demo.states():
            states.append(state)
            if len(states) == 6:
                demo.stop()
    assert [state.finished for state in states] == [False] * 6 + [True]
    answer = demo.summary(states[-1], {})
    assert answer["acknowledged"] > 50
    assert answer["lost"] == 0
    assert list((tmp_path / "tmp").iterdir()) == []


async def test_one_that_is_stopped_before_its_node_is_ready_has_no_state() -> None:
    demo = Demo(DemoOptions())
    demo.stop()
    assert await watched(demo) == []


def recording(file: Path, samples: int, fault_from: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [";".join(["datetime", *RIG_VALUES, "anomaly", "changepoint"])]
    for at in range(samples):
        faulty = at >= fault_from
        time = datetime(2026, 3, 9, 10, 0, 0) + timedelta(seconds=at)  # noqa: DTZ001 - recordings have no zone
        values = [f"{10 + number + (at * 7 % 5) / 10 + 9 * faulty}" for number in range(len(RIG_VALUES))]
        lines.append(";".join([str(time), *values, f"{int(faulty)}.0", "0.0"]))
    file.write_text("\n".join(lines) + "\n")


async def test_recordings_are_replayed_to_their_end_and_scored(tmp_path: Path) -> None:
    samples = 500 + USUAL
    recording(tmp_path / "data" / "valve1" / "0.csv", samples, samples - 40)
    demo = Demo(DemoOptions(data=str(tmp_path / "data"), speed=800.0))
    states = await watched(demo)
    answer = demo.summary(states[-1], {})
    assert states[-1].finished
    assert answer["messages"] == answer["acknowledged"] == samples
    assert (answer["lost"], answer["dead_letters"]) == (0, 0)
    assert (answer["episodes"], answer["detected"]) == (1, 1)
    assert answer["precision"] > 0.5
    assert answer["recall"] > 0.5
    assert [device["device"] for device in states[-1].devices] == ["valve1-0"]
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("content", [None, "datetime;nothing\n"])
async def test_recordings_that_are_none_are_named_at_once(tmp_path: Path, content: str | None) -> None:
    folder = tmp_path / "data"
    if content is not None:
        (folder / "valve1").mkdir(parents=True)
        (folder / "valve1" / "0.csv").write_text(content)
    with pytest.raises(ConfigError, match="data"):
        await watched(Demo(DemoOptions(data=str(folder))))
    assert list((tmp_path / "tmp").iterdir()) == []


async def test_what_is_kept_can_be_run_again(tmp_path: Path) -> None:
    for _ in range(2):
        demo = Demo(DemoOptions(seconds=1.0, keep=str(tmp_path / "kept")))
        answer = demo.summary((await watched(demo))[-1], {})
        assert (answer["lost"], answer["dead_letters"]) == (0, 0)
        assert 0 <= answer["messages"] - answer["acknowledged"] <= 1
    assert (tmp_path / "kept" / "skerry.toml").is_file()


async def test_it_can_be_left_at_any_time(tmp_path: Path) -> None:
    states = Demo(DemoOptions()).states()
    first = await anext(states)
    assert not first.finished
    await states.aclose()
    assert list((tmp_path / "tmp").iterdir()) == []
