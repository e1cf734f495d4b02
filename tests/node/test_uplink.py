"""What the node gives its uplink to send, what holds the log, and how that is told."""

from pathlib import Path

import pytest

from skerry.config import NodeConfig, load
from skerry.core.clock import ManualClock
from skerry.core.errors import UnavailableError
from skerry.node.uplink import NodeUplink, uplink_bytes
from skerry.uplink import Report
from skerry.uplink.protocol import LaneReport

HEAD = '[node]\nname = "box"\nsite = "quay"\n'
LINK = '[uplink]\nkind = "http"\nurl = "https://centre"\n'
PIPELINE = """
[[pipelines]]
name = "{name}"
source = {{ topic = "devices/+/v", values = ["x"] }}
sinks = [{sinks}]
"""


def configured(folder: Path, text: str) -> NodeConfig:
    (folder / "skerry.toml").write_text(HEAD + text)
    return load(folder / "skerry.toml")


def uplink(folder: Path, text: str = LINK) -> NodeUplink:
    (folder / "data").mkdir(exist_ok=True)
    return NodeUplink(configured(folder, text), ManualClock())


@pytest.mark.asyncio
async def test_without_a_centre_nothing_is_sent(tmp_path: Path) -> None:
    found = uplink(tmp_path, "")
    assert (found.assignment, found.status(), found.warnings(), found.bytes_sent) == (None, None, [], 0)
    assert (found.lowest(7), found.lowest(None)) == (7, None)
    with pytest.raises(UnavailableError, match="has no uplink"):
        await found.pause_for_good(True)


def test_what_is_sent_is_what_the_configuration_says(tmp_path: Path) -> None:
    text = LINK + PIPELINE.format(name="p", sinks='"event"') + PIPELINE.format(name="q", sinks='"event", "uplink"')
    given = uplink(tmp_path, text).assignment
    assert given is not None
    assert [table["name"] for table in given.pipelines] == ["q"]
    assert (given.node, given.site, given.config.url, given.paused) == ("box", "quay", "https://centre", False)


def test_room_in_the_broker(tmp_path: Path) -> None:
    assert uplink_bytes(configured(tmp_path, "")) == 0
    assert uplink_bytes(configured(tmp_path, "[uplink]\nreceive = true\n")) == 128 << 20
    assert uplink_bytes(configured(tmp_path, LINK + 'queue = { size = "8MiB" }\n')) == 136 << 20


def test_the_log_waits_for_what_is_not_stored(tmp_path: Path) -> None:
    found = uplink(tmp_path)
    assert found.lowest(9) is None
    found.report = Report(cursor=-1)
    assert found.lowest(9) is None
    found.report = Report(cursor=5)
    assert (found.lowest(9), found.lowest(3), found.lowest(None)) == (5, 3, None)
    found.report = Report(cursor=5, holds=False)
    assert found.lowest(9) == 9


@pytest.mark.asyncio
async def test_a_pause_outlives_the_node(tmp_path: Path) -> None:
    found = uplink(tmp_path)
    await found.pause_for_good(True)
    assert found.paused
    again = uplink(tmp_path)
    assert again.assignment is not None
    assert again.assignment.paused
    await again.pause_for_good(False)
    assert not uplink(tmp_path).paused


def test_what_is_told(tmp_path: Path) -> None:
    found = uplink(tmp_path)
    status = found.status()
    assert status is not None
    assert status["sentence"] == "the uplink is starting"
    found.report = Report(where="https://centre:443", lanes={"alarm": LaneReport(2), "bulk": LaneReport(3)}, sent=2048, last=1)
    status = found.status()
    assert status is not None
    assert status["sentence"] == "https://centre:443: 2.0 KiB sent, 5 items waiting"
    assert (status["waiting"], status["connected"], found.warnings(), found.bytes_sent) == (5, True, [], 2048)
    assert found.figures() == ({"alarm": 2, "bulk": 3}, {"thinned": 0, "dropped": 0})
    found.report = Report(where="x", trouble="it answers 500", thinned=3, dropped=1, gathering="no room", sent=1)
    assert found.bytes_sent == 2048
    told = found.warnings()
    assert told[0] == "the uplink does not get through, what is to leave waits: it answers 500"
    assert "no room" in told[1]
    assert "3 items of raw data made roll-ups, 1 given up" in told[2]
    found.report = Report(where="x", trouble="it answers 500", paused=True)
    assert found.warnings() == []
    status = found.status()
    assert status is not None
    assert status["sentence"].endswith("; paused")


@pytest.mark.parametrize(
    ("kind", "url", "clear"),
    [
        ("http", "http://centre", True),
        ("mqtt", "mqtt://u:p@10.0.0.1:1883", True),
        ("nats", "nats://127.0.0.1:4222", False),
        ("http", "http://localhost:80", False),
        ("mqtt", "mqtts://centre", False),
        ("file", "/media/stick", False),
    ],
)
def test_a_link_that_can_be_read_is_told_of(tmp_path: Path, kind: str, url: str, clear: bool) -> None:
    found = uplink(tmp_path, f'[uplink]\nkind = "{kind}"\nurl = "{url}"\n')
    assert any("can be read on the way" in warning for warning in found.warnings()) is clear
