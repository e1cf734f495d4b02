"""The long faults of the link itself: a node and its centre on machines of their own, what happens between them, counted."""

import random
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from tests.fixtures.netns import Lan, lan
from tests.fixtures.node import RunningNode, until
from tests.system.fleet import Device
from tests.system.rubbish import EACH, Watch, pace
from tests.system.sites import CENTRE, SITE, TOPICS, Pump, port_of

Say = Callable[[str], None]
Fault = Callable[[], AbstractContextManager[None]]
SITE_NAME, CENTRE_NAME = "site", "shore"
PORT = 8443
DELAY_MS, LOST, SWAPPED, KBIT = 300, 0.05, 0.02, 256
BEFORE, WITHIN, AFTER = 50, 100, 50
RATE, MEASURED = 100.0, 600
TURNS = 40
SHORT_S, LONG_S = 6.0, 35.0
"""A centre that is slow has not taken anything after 30 s."""
DAYS = 7
ARRIVE_S = 240.0


class Gate:
    """The process `tests.fixtures.gate` at the centre's door."""

    def __init__(self, net: Lan, port: int) -> None:
        command = [*net.inside(CENTRE_NAME), sys.executable, "-m", "tests.fixtures.gate", str(PORT), "127.0.0.1", str(port)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "open\n"

    def behave(self, how: str) -> tuple[int, int]:
        """From now on; connections and bytes so far."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{how}\n")
        self._process.stdin.flush()
        connections, size = self._process.stdout.readline().split()
        return int(connections), int(size)

    def close(self) -> None:
        self._process.communicate(timeout=10)


class Ends:
    """A node, its centre, and what lies between them; this thread is on the node's machine."""

    def __init__(self, net: Lan, kind: str, site: RunningNode, centre: RunningNode, gate: Gate) -> None:
        self.net, self.kind, self.site, self.centre, self.gate = net, kind, site, centre, gate
        self.pump = Pump("d1")
        self.days = 0

    @property
    def clock(self) -> Path:
        """What the node's clock is ahead."""
        return self.site.folder / "clock"

    def arrived(self) -> None:
        """Wait until all that was acknowledged is at the centre, once and in order."""
        until(lambda: len(self.pump.arrived(self.centre)) >= self.pump.sent, ARRIVE_S, "all has arrived")
        until(lambda: (self.site.status()["uplink"] or {}).get("waiting") == 0, ARRIVE_S, "all is acknowledged")
        found = self.pump.arrived(self.centre)
        assert found == [float(at) for at in range(self.pump.sent)], "lost, doubled or out of order"
        assert self.site.pipeline("p")["ledger"]["difference"] == 0

    @contextmanager
    def rough(self, turns: int = 0) -> Iterator[None]:
        """Until all has arrived over it."""
        self.net.roughen(SITE_NAME, DELAY_MS, LOST, LOST, SWAPPED)
        yield
        for _ in range(turns):
            self.pump.send(self.site, BEFORE)
            time.sleep(0.3)  # another envelope, or some
        self.arrived()
        self.net.heal(SITE_NAME)

    @contextmanager
    def slow(self) -> Iterator[None]:
        """Until all has arrived."""
        self.net.slow(SITE_NAME, KBIT)
        yield
        self.arrived()
        self.net.slow(SITE_NAME, 0)

    @contextmanager
    def cut(self, seconds: float = 0.0) -> Iterator[None]:
        """The node's own link goes down."""
        self.net.cut(SITE_NAME)
        began = time.monotonic()
        yield
        time.sleep(max(0.0, began + seconds - time.monotonic()))
        self.net.heal(SITE_NAME)

    @contextmanager
    def week(self) -> Iterator[None]:
        """The link is down while the node's clock goes on for a week."""
        with self.cut():
            yield
            for _ in range(DAYS):
                self.days += 1
                self.clock.write_text(f"{self.days}d")
                time.sleep(1.0)
                self.pump.send(self.site, BEFORE)

    @contextmanager
    def silence(self, seconds: float = SHORT_S, dies: bool = False) -> Iterator[None]:
        """The centre's link goes down and the node does not see it; perhaps the centre has forgotten the connection afterwards."""
        self.net.part(CENTRE_NAME)
        began = time.monotonic()
        yield
        if dies:
            self.centre.kill("agent")
            self.gate.behave("pass")
            self.centre.start()
            self.gate.behave(f"aim {door(self.kind, self.centre)}")
        time.sleep(max(0.0, began + seconds - time.monotonic()))
        self.net.heal(CENTRE_NAME)

    @contextmanager
    def behaving(self, how: str, seconds: float = SHORT_S) -> Iterator[None]:
        """A portal, or a centre that does not do what it should."""
        self.gate.behave(how)
        began = time.monotonic()
        yield
        time.sleep(max(0.0, began + seconds - time.monotonic()))
        self.gate.behave("pass")

    def faults(self) -> dict[str, Fault]:
        """By name what may happen to the link."""
        odd = ["portal", "garbage", "random", "refuse", *(["redirect", "429", "500"] if self.kind == "http" else [])]
        return {
            "300 ms each way, 5 % lost, 2 % out of order": partial(self.rough, TURNS),
            f"{KBIT} kbit/s": self.slow,
            "cut for 1 s": partial(self.cut, 1.0),
            "cut for 30 s": partial(self.cut, 30.0),
            f"cut for {DAYS} days of the node's clock": self.week,
            "half open for 6 s": self.silence,
            "half open for 35 s": partial(self.silence, LONG_S),
            "half open, and the centre begins anew": partial(self.silence, SHORT_S, dies=True),
            **{f"the centre's door: {how}": partial(self.behaving, how) for how in odd},
            **{f"the centre's door: {how}": partial(self.behaving, how, LONG_S) for how in ("slow", "drip")},
        }


class Pace:
    """What the node's own pipeline takes, from publish to event at a subscriber on the same machine: 99th percentiles in ms."""

    def __init__(self, node: RunningNode) -> None:
        self._watch = Watch(node.mqtt)
        self._device = Device("good", node.mqtt)
        until(self._watch.client.is_connected, 20, "the watch is connected")
        self.quiet: list[float] = []
        self.beside: list[float] = []

    def measure(self, into: list[float]) -> None:
        first, end = pace(self._device, MEASURED, RATE)
        until(lambda: len(self._watch.latencies_ms(self._device, first, end)) == end - first, 60, "all events have come")
        into.append(float(np.percentile(self._watch.latencies_ms(self._device, first, end), 99)))

    def close(self) -> None:
        self._device.close()
        self._watch.client.disconnect()
        self._watch.client.loop_stop()

    def told(self) -> str:
        quiet, beside = statistics.median(self.quiet), statistics.median(self.beside)
        return (
            f"publish to event at a subscriber, p99 of {MEASURED} messages, median of {len(self.quiet)}: {quiet:.1f} ms with a "
            f"good link, {beside:.1f} ms beside a fault of it: {beside / quiet:.2f} times"
        )


def door(kind: str, centre: RunningNode) -> int:
    """The port of the centre that a kind of link goes to."""
    return port_of(str(centre.status()["broker"][kind]))


@contextmanager
def ends(folder: Path, kind: str) -> Iterator[Ends]:
    """Both nodes on machines of their own."""
    for name in ("centre", "site"):
        (folder / name).mkdir(parents=True)
    credentials = folder / "site" / "credentials"
    credentials.touch(0o600)
    credentials.write_text('username = "rock"\npassword = "rock-password"\n')
    (folder / "site" / "clock").write_text("0s")
    with lan(SITE_NAME, CENTRE_NAME) as net, net.entered(SITE_NAME):
        hosts = {"SKERRY_API__HOSTS": f'["{net.address(CENTRE_NAME)}"]'}
        with RunningNode(folder / "centre", CENTRE, prefix=net.inside(CENTRE_NAME), env=hosts) as centre:
            with centre.client() as client:
                client.post("/api/v1/devices", {"id": "rock", "password": "rock-password", "topics": TOPICS})
            gate = Gate(net, door(kind, centre))
            try:
                more = 'credentials = "credentials"' if kind == "mqtt" else ""
                text = SITE % (kind, f"{kind}://{net.address(CENTRE_NAME)}:{PORT}", more) + EACH
                env = {"SKERRY_CLOCK_FILE": str(folder / "site" / "clock")}
                with RunningNode(folder / "site", text, env=env) as site:
                    yield Ends(net, kind, site, centre, gate)
            finally:
                gate.close()


def links(folder: Path, seed: int, say: Say) -> str:
    """Each fault once, over HTTP and then over MQTT; the counts. Raises `AssertionError` at the first wrong thing."""
    rows: Counter[str] = Counter()
    for kind in ("http", "mqtt"):
        with ends(folder / kind, kind) as both:
            made = "netem" if both.net.netem else "a wire in user space (this kernel has no netem)"
            say(f"delay, loss and order by {made}, the rate by tbf")
            rows += _over(both, seed, say)
    shown = {**rows, "lost": 0, "doubled at the centre": 0, "out of order": 0}
    return "\n".join(f"{name:>42} {count:>10}" for name, count in shown.items())


def _over(both: Ends, seed: int, say: Say) -> Counter[str]:
    faults = list(both.faults().items())
    random.Random(seed).shuffle(faults)
    local = Pace(both.site)
    try:
        for name, fault in faults:
            began = time.monotonic()
            both.pump.send(both.site, BEFORE)
            local.measure(local.quiet)
            with fault():
                both.pump.send(both.site, WITHIN)
                local.measure(local.beside)
            both.pump.send(both.site, AFTER)
            both.arrived()
            say(f"{both.kind}: {name}: {both.pump.sent} messages, all there once and in order; {time.monotonic() - began:.0f} s")
        say(f"{both.kind}: {local.told()}")
    finally:
        local.close()
    connections, size = both.gate.behave("pass")
    return Counter(
        {
            "faults": len(faults), "messages acknowledged": both.pump.sent, "connections to the centre": connections,
            "bytes through the centre's door": size, "bytes on the node's interface": both.net.carried(SITE_NAME),
        }
    )  # fmt: skip
