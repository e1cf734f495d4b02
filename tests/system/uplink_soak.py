"""The long faults of the uplink: two nodes, a link that is cut, silent and rough, processes killed at both ends, counted."""

import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.fixtures.node import RunningNode, until
from tests.fixtures.rough_link import RoughLink
from tests.system.sites import CENTRE, SITE, TOPICS, Pump, port_of, rough_link

Say = Callable[[str], None]
BATCH = 200
CUTS_S = (1.0, 5.0, 30.0)
FAULTS = ("kill uplink", "kill nats-server", "kill agent", "kill centre", "kill centre's broker", "cut", "silence", "rough", "calm")


class Sites:
    """Both nodes and the link, and the faults that they go through."""

    def __init__(self, kind: str, site: RunningNode, centre: RunningNode, link: RoughLink, seed: int) -> None:
        self.kind, self.site, self.centre, self.link = kind, site, centre, link
        self.faults: Counter[str] = Counter()
        self.pump = Pump("d1")
        self._random = random.Random(seed)

    def round(self) -> str:
        """Messages before, within and after one to three faults; all of them are at the centre at the end, once and in order."""
        faults = []
        for _ in range(self._random.randint(1, 3)):
            self.pump.send(self.site, BATCH)
            faults.append(self.fault())
        self.pump.send(self.site, BATCH)
        self.link.delay = self.link.loss = self.link.reset = 0.0
        until(lambda: len(self.pump.arrived(self.centre)) >= self.pump.sent, 180, "all has arrived")
        found = self.pump.arrived(self.centre)
        assert found == [float(at) for at in range(self.pump.sent)], "lost, doubled or out of order"
        return ", ".join(faults)

    def fault(self) -> str:
        name = self._random.choice(FAULTS)
        self.faults[name] += 1
        if name == "kill agent":
            self.site.kill("agent")
            self.site.start()
        elif name in ("kill uplink", "kill nats-server"):
            self.site.kill(name.removeprefix("kill "))
            self.site.wait_ready(60)
        elif name == "kill centre":
            self.centre.kill("agent")
            self.centre.start()
            self.link.aim(door(self.kind, self.centre))
        elif name == "kill centre's broker":
            self.centre.kill("nats-server")
            self.centre.wait_ready(60)
        elif name in ("cut", "silence"):
            self._away(name)
        else:
            rough = name == "rough"
            self.link.delay, self.link.loss, self.link.reset = (0.15, 0.05, 0.02) if rough else (0.0, 0.0, 0.0)
        return name

    def _away(self, name: str) -> None:
        seconds = self._random.choice(CUTS_S)
        (self.link.cut if name == "cut" else self.link.silence)()
        self.pump.send(self.site, BATCH)
        time.sleep(seconds)
        (self.link.mend if name == "cut" else self.link.speak)()


def door(kind: str, centre: RunningNode) -> int:
    """The port of the centre that a kind of link goes to."""
    return port_of(str(centre.status()["broker"][kind]))


def faults(folder: Path, seed: int, minutes: float, say: Say) -> str:
    """Rounds of faults for so long, over HTTP and then over MQTT; the counts. Raises `AssertionError` at the first wrong thing."""
    rows: Counter[str] = Counter()
    for kind in ("http", "mqtt"):
        (folder / kind).mkdir(parents=True)
        rows += _over(kind, folder / kind, seed, minutes / 2, say)
    shown = {**rows, "lost": 0, "doubled at the centre": 0, "out of order": 0}
    return "\n".join(f"{name:>42} {count:>10}" for name, count in shown.items())


def _over(kind: str, folder: Path, seed: int, minutes: float, say: Say) -> Counter[str]:
    for name in ("centre", "site"):
        (folder / name).mkdir()
    end, rounds = time.monotonic() + 60 * minutes, 0
    credentials = folder / "site" / "credentials"
    credentials.touch(0o600)
    credentials.write_text('username = "rock"\npassword = "rock-password"\n')
    with RunningNode(folder / "centre", CENTRE) as centre, rough_link(door(kind, centre)) as link:
        with centre.client() as client:
            client.post("/api/v1/devices", {"id": "rock", "password": "rock-password", "topics": TOPICS})
        text = SITE % (kind, f"{kind}://127.0.0.1:{link.port}", 'credentials = "credentials"' if kind == "mqtt" else "")
        with RunningNode(folder / "site", text) as site:
            sites = Sites(kind, site, centre, link, seed)
            while time.monotonic() < end:
                began, rounds = time.monotonic(), rounds + 1
                say(f"{kind} {rounds}: {sites.round()}; {sites.pump.sent} messages; {time.monotonic() - began:.0f} s")
    return sites.faults + Counter({"faults in all": sites.faults.total(), "messages acknowledged": sites.pump.sent})
