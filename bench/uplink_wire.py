"""The row "uplink-wire": the demo's pumps, a node and a central broker on machines of their own, and their interfaces' bytes.

Machines are network namespaces; the pumps speak as in the demo, in real time. Bytes are those that the kernel counts on the
pumps' interface and on the centre's, in both directions, with Ethernet headers and all else that comes by (ARP, keep-alives). The
longer it runs (`--minutes 10`), the more often an alarm clears and a minute ends.
"""

import asyncio
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.rows import Options, Row, Say
from bench.uplink import Wire, saved
from skerry.broker import find_binary
from skerry.core.clock import SystemClock
from skerry.demo.computer import message, sensors_topic
from skerry.demo.config import demo_config
from skerry.demo.devices import PUMPS, PumpFleet
from tests.fixtures.netns import Lan, lan
from tests.fixtures.node import RunningNode, until

DEVICES, SITE, CENTRE = "devices", "site", "centre"
PORT = 1883
LEAST_S = 130.0
AFTER_S = 20.0
"""Until the last minute's roll-up has left."""
KINDS = {
    "events and 1-minute roll-ups": "",
    'the same, batch.alarms = "30s"': 'batch = { alarms = "30s" }',
}
_SERVER = """\
server_name: centre
listen: "127.0.0.1:4222"
jetstream {{ store_dir: "{folder}" }}
mqtt {{ host: {host}, port: {port} }}
"""
_SINKS = 'severity = "critical" }\nsinks = ["event"]'


@contextmanager
def centre(net: Lan, folder: Path) -> Iterator[str]:
    """A broker that speaks MQTT, and nothing else; its URL."""
    config = folder / "centre.conf"
    host = net.address(CENTRE)
    config.write_text(_SERVER.format(folder=folder / "centre", host=host, port=PORT))
    child = subprocess.Popen([*net.inside(CENTRE), str(find_binary().path), "-c", str(config), "-l", str(folder / "centre.log")])
    try:
        yield f"mqtt://{host}:{PORT}"
    finally:
        child.terminate()
        child.wait(20)


def node_of(url: str, more: str) -> str:
    """The demo's models and pipelines; what its alarms are about goes up."""
    text = demo_config("data", "127.0.0.1:0", "127.0.0.1:0")
    pipelines = text[text.index("[[models]]") :]
    assert _SINKS in pipelines
    up = _SINKS.replace('["event"]', '["event", "uplink"]')
    return f'[uplink]\nkind = "mqtt"\nurl = "{url}"\n{more}\n{pipelines.replace(_SINKS, up, 1)}'


def carried(seed: int, more: str, seconds: float) -> tuple[float, float, int]:
    """Bytes on the pumps' interface, and on the centre's; and how many events there were."""
    with tempfile.TemporaryDirectory(prefix="skerry-bench-") as name, lan(DEVICES, SITE, CENTRE) as net:
        folder = Path(name)
        net.frames_as_sent()
        with centre(net, folder) as url, net.entered(SITE):
            address = net.address(SITE)
            with RunningNode(folder, node_of(url, more), mqtt=f"{address}:{PORT}") as node:
                with node.client() as client:
                    until(lambda: client.post("/api/v1/uplink/test")["ok"], 30, "the centre is reached")
                with net.entered(DEVICES):
                    pumps = {pump: Wire(PORT, pump, address) for pump in PUMPS}
                before = [net.carried(name) for name in (DEVICES, CENTRE)]
                _speak(pumps, seed, seconds)
                time.sleep(AFTER_S)
                until(lambda: not (node.status()["uplink"] or {}).get("waiting"), 60, "all has left")
                mine = [net.carried(name) for name in (DEVICES, CENTRE)]
                for wire in pumps.values():
                    wire.close()
                return mine[0] - before[0], mine[1] - before[1], len(node.events("pump-station"))


def _speak(pumps: dict[str, Wire], seed: int, seconds: float) -> None:
    """What the demo's pumps say, when they say it."""
    clock = SystemClock()
    start = clock.now()
    for number, each in enumerate(PumpFleet(seed, start).readings()):
        if each.ts_us > start + seconds * 1e6:
            return
        time.sleep(max(0, each.ts_us - clock.now()) / 1e6)
        body = json.dumps(message(each.ts_us, each.values)).encode()
        pumps[each.device].publish(sensors_topic(each.device), body, number % 65_535 + 1)


async def wire(options: Options, say: Say) -> list[Row]:
    rows = []
    for kind, more in KINDS.items():
        mine: list[float] = []
        theirs: list[float] = []
        for turn in range(options.rounds):
            try:
                raw, sent, events = await asyncio.to_thread(carried, turn, more, max(options.seconds, LEAST_S))
            except pytest.skip.Exception as error:
                raise SystemExit(f"skerry: {error}") from error
            mine.append(sent)
            theirs.append(raw)
            say(f"  {kind}: {events} events, {raw:,.0f} B in, {sent:,.0f} B up, {raw / sent:.0f} times less")
        goal = "≥ 300" if more else ""
        rows.append(saved("uplink-wire", f"bytes on the interface, demo: {kind}", goal, mine, theirs))
    return rows


ROWS = {"uplink-wire": wire}
