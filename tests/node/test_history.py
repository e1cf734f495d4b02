"""What the node gives its historian to keep, what holds the log, and how that is told."""

from pathlib import Path

import pytest

from skerry.config import NodeConfig, load
from skerry.core.clock import ManualClock
from skerry.core.errors import UnavailableError
from skerry.historian import Report
from skerry.node.history import NodeHistory

HEAD = '[node]\nname = "box"\nsite = "quay"\n'
PIPELINE = """
[[pipelines]]
name = "{name}"
source = {{ topic = "devices/+/v", values = ["x"] }}
sinks = [{sinks}]
"""
HOUR = 3_600_000_000


def configured(folder: Path, text: str) -> NodeConfig:
    (folder / "skerry.toml").write_text(HEAD + text)
    return load(folder / "skerry.toml")


def history(folder: Path, text: str) -> NodeHistory:
    return NodeHistory(configured(folder, text), ManualClock())


def test_without_sinks_and_topics_nothing_is_kept(tmp_path: Path) -> None:
    found = history(tmp_path, PIPELINE.format(name="p", sinks='"event"'))
    assert found.assignment is None
    assert found.status() is None
    assert found.warnings() == []
    assert (found.lowest(7), found.lowest(None)) == (7, None)


def test_what_is_kept_is_what_the_configuration_says(tmp_path: Path) -> None:
    text = '[history]\nkeep = { raw = "2h" }\nmax_size = "64MiB"\nmax_series = 5\ntopics = ["site/#"]\n'
    text += PIPELINE.format(name="p", sinks='"event"') + PIPELINE.format(name="q", sinks='"event", { kind = "history" }')
    found = history(tmp_path, text)
    given = found.assignment
    assert given is not None
    assert [table["name"] for table in given.pipelines] == ["q"]
    assert (given.topics, given.max_size, given.max_series) == (["site/#"], "64MiB", 5)
    assert (given.keep.raw, given.keep.minutes, given.keep.hours) == (2 * HOUR, 90 * 24 * HOUR, 5 * 31_557_600_000_000)
    assert given.directory == str(tmp_path.resolve() / "data" / "history")


@pytest.mark.parametrize("length", [10, 70, 78, 84, 120])
def test_the_socket_s_path_is_never_too_long_for_one(tmp_path: Path, length: int) -> None:
    text = HEAD.replace("[node]", f'[node]\ndata_dir = "/tmp/{"x" * length}"') + PIPELINE.format(name="p", sinks='"history"')
    (tmp_path / "skerry.toml").write_text(text)
    given = NodeHistory(load(tmp_path / "skerry.toml"), ManualClock()).assignment
    assert given is not None
    assert len(given.socket) <= 105


def test_pipelines_may_come_and_go(tmp_path: Path) -> None:
    found = history(tmp_path, "")
    found.take_config(configured(tmp_path, PIPELINE.format(name="p", sinks='"history"')))
    assert found.assignment is not None
    found.take_config(configured(tmp_path, ""))
    assert found.assignment is None


def test_the_log_waits_for_the_history_until_it_has_said_how_far_it_is(tmp_path: Path) -> None:
    found = history(tmp_path, PIPELINE.format(name="p", sinks='"history"'))
    assert found.lowest(50) is None
    found.report = Report(cursor=20)
    assert (found.lowest(50), found.lowest(10), found.lowest(None)) == (20, 10, None)


@pytest.mark.parametrize(
    ("report", "words"),
    [
        (Report(cursor=1, trouble="the disk is full"), "the log waits: the disk is full"),
        (Report(cursor=1, given_up=5 << 20), "5.0 MiB of its oldest samples were given up"),
        (Report(cursor=1, passed_over={"too many series": 3}), "history.max_series"),
    ],
)
def test_what_a_person_should_look_at_is_said(tmp_path: Path, report: Report, words: str) -> None:
    found = history(tmp_path, PIPELINE.format(name="p", sinks='"history"'))
    found.report = report
    assert len(found.warnings()) == 1
    assert words in found.warnings()[0]


def test_the_status_is_a_sentence_and_its_figures(tmp_path: Path) -> None:
    found = history(tmp_path, PIPELINE.format(name="p", sinks='"history"'))
    assert found.status() == {"sentence": "the historian is starting", "series": 0}
    found.last_words = "exit code 1"
    found.restarts.end(None, own_fault=True)
    assert found.status() == {"sentence": "the historian is starting: exit code 1", "series": 0}
    assert found.warnings() == ["the historian was restarted 1 times: exit code 1"]
    found.report = Report(cursor=9, samples=4, series=2, bytes=3 << 20, limit=64 << 20)
    assert found.status() == {
        "sentence": "2 series, 3.0 MiB of 64.0 MiB", "series": 2, "samples": 4, "bytes": 3 << 20, "limit": 64 << 20, "cursor": 9,
        "given_up_bytes": 0, "passed_over": {},
    }  # fmt: skip


@pytest.mark.asyncio
async def test_questions_without_a_history_are_answered_with_a_mend(tmp_path: Path) -> None:
    found = history(tmp_path, "")
    with pytest.raises(UnavailableError, match=r"keeps no history; add \"history\" to a pipeline's sinks"):
        await found.series("", "", 10)
    with pytest.raises(UnavailableError):
        await found.page("a", 0, 1, None, "mean", 10)
