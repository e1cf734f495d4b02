"""The node's connectors: what holds the log for them, what is off, and what a person is told."""

from pathlib import Path

import pytest

from skerry.config import load
from skerry.connector import ConnectorReport
from skerry.connector.protocol import Report
from skerry.core.clock import SystemClock
from skerry.core.errors import UnavailableError
from skerry.node.connectors import NodeConnectors
from skerry.node.link import Link

OUT = '[[connectors]]\nname = "up"\nkind = "mqtt"\ndirection = "out"\nurl = "mqtt://b"\n'
PUSH = '[[connectors]]\nname = "push"\nkind = "http"\ndirection = "in"\ntopic = "devices/{.d}/x"\n'


class NoLink(Link):
    """A node's connection that is not there."""

    def __init__(self) -> None:
        self.client = None


def configured(folder: Path, text: str) -> NodeConnectors:
    (folder / "skerry.toml").write_text(text)
    return NodeConnectors(load(folder / "skerry.toml"), SystemClock(), None, NoLink)


def test_only_those_that_read_the_log_hold_it(tmp_path: Path) -> None:
    events = configured(tmp_path, OUT)
    assert (events.lowest(7), events.lowest(None)) == (7, None)
    log = configured(tmp_path, OUT + 'topics = [{ from = "devices/#", to = "plant/{rest}" }]\n')
    assert log.lowest(7) is None, "not known yet: nothing may be trimmed"
    for cursor, lowest in ((-1, None), (3, 3), (9, 7)):
        log.report = Report({"up": ConnectorReport(cursor=cursor)})
        assert log.lowest(7) == lowest


def test_what_is_off_and_what_is_posted_needs_no_process(tmp_path: Path) -> None:
    found = configured(tmp_path, OUT + "enabled = false\n" + PUSH)
    assert found.assignment is None
    assert [(row["name"], row["state"]) for row in found.rows()] == [("up", "off"), ("push", "running")]
    assert found.warnings() == []
    (tmp_path / "skerry.toml").write_text(OUT)
    found.take_config(load(tmp_path / "skerry.toml"))
    assert found.assignment is not None
    assert [(row["name"], row["state"]) for row in found.rows()] == [("up", "starting")]


def test_a_person_is_told_of_trouble_and_of_what_is_given_up(tmp_path: Path) -> None:
    found = configured(tmp_path, OUT)
    refused = {"no longer kept": 4, "came from there": 2}
    found.report = Report({"up": ConnectorReport(trouble="mqtt://b:1883: no answer", refused=refused)})
    assert found.warnings() == ["connector up waits: mqtt://b:1883: no answer", "connector up has given up 4 no longer kept"]
    assert found.rows()[0]["state"] == "waiting"


@pytest.mark.asyncio
async def test_while_the_log_is_not_there_nothing_is_taken(tmp_path: Path) -> None:
    found = configured(tmp_path, PUSH)
    with pytest.raises(UnavailableError, match="the log is not there"):
        await found.ingest("push", b'{"d":"a"}', {}, "loopback")
    assert found.figures()["push"].moved == 0
