"""The long fault tests: `python -m tests.soak [node] [store] [history] [uplink …] [--minutes N] …`; all by default.

`node`: rounds of load, each by new devices, with processes killed or stopped at random moments; after each round every message that
was acknowledged is looked for in the windows. `store`: a writer is killed, its power is cut, its calls fail; what it had
acknowledged is looked for. `history`: days of a hundred channels, each query beside numpy's. `steady`: a load under which no
process may grow. `uplink`: two nodes with a bad link between them; what has arrived is compared with what was sent. `link`: the
same on two machines (network namespaces), with all that a wire, a portal and a bad centre do, and what that costs the node itself.
`scenarios`: those of `skerry demo`. `bundles`: a node is killed while a bundle is applied to it; then any of three. `tutorial`:
docs/tutorial.md in a fresh Debian (as root, with debootstrap).
`cluster`: the simulation, and three machines' servers and members. `nodes`: three whole nodes, or more, each a machine of a
LAN, under load and random faults.
Ends with the counts; exit 1 at the first thing that is wrong.
"""

import argparse
import asyncio
import contextlib
import os
import random
import resource
import shutil
import signal
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from scripts import try_tutorial
from skerry.cli import main as cli
from tests.cluster import bundle_kills, machines, nemesis
from tests.cluster import long as simulations
from tests.fixtures.node import RunningNode
from tests.inference.networks import report
from tests.mqtt import soak as clients
from tests.store import soak as stores
from tests.system import bundle_soak, link_soak, scenario_soak, uplink_soak
from tests.system import steady as unchanging
from tests.system.accounts import BOTH, EVERY, ONCE, Account, check, settle
from tests.system.fleet import Device, Fleet
from tests.system.logins import flooded
from tests.system.rubbish import EACH, beside_rubbish

KILLS = ("worker", "nats-server", "agent", "all")
STOPS = ("worker", "agent")
DEVICES, RATE = 8, 700.0
GROWTH = (
    "tests/broker/test_growth.py", "tests/system/test_growth.py", "tests/node/cluster/test_replicas.py",
    "tests/system/test_witness.py",
)  # fmt: skip
ATTEMPTS, SILENT = 50_000, 5_000


class Soak:
    """One node under load and faults until the time is over."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.node = RunningNode(folder, BOTH, stall="3s")
        self.faults: Counter[str] = Counter()
        self.devices: list[Device] = []
        self.account = Account(0, 0, 0)
        self._random = random.Random(seed)
        self._round = 0

    def run(self, minutes: float) -> None:
        end = time.monotonic() + minutes * 60
        with self.node:
            while time.monotonic() < end:
                self.round()

    def round(self) -> None:
        """New devices, one to three faults, and the reckoning over all devices so far."""
        self._round += 1
        began, faults = time.monotonic(), []
        with Fleet(self.node.mqtt, DEVICES, RATE, f"r{self._round}d") as fleet:
            for _ in range(self._random.randint(1, 3)):
                time.sleep(self._random.uniform(0.3, 2.5))
                faults.append(self.fault())
            time.sleep(self._random.uniform(0.2, 1.0))
            settle(self.node, fleet, self.devices, 60)
        self.devices += fleet.devices
        self.account = check(self.node, self.devices)
        row = self.node.pipeline(EVERY)["latency_ms"]
        say(
            f"round {self._round}: {', '.join(faults)}; {self.account.acknowledged} acknowledged, all in {self.account.windows}"
            f" windows; {self.account.resent} re-sends; p50 {row['p50']:.1f} ms, p99 {row['p99']:.1f} ms; "
            f"{time.monotonic() - began:.0f} s"
        )

    def fault(self) -> str:
        """Kill or stop something, and see that the node is ready afterwards; what it was."""
        rng = self._random
        if rng.random() < 0.25:
            victim, seconds = rng.choice(STOPS), rng.choice((0.5, 2.0, 8.0))
            name = f"stop {victim} {seconds:g} s"
            self.faults[f"stop {victim}"] += 1
            self.node.kill(victim, signal.SIGSTOP)
            time.sleep(seconds)
            self.node.kill(victim, signal.SIGCONT)
            self.node.wait_ready(60)
            return name
        victim = rng.choice(KILLS)
        self.faults[f"kill {victim}"] += 1
        self.node.kill(victim)
        if victim in ("agent", "all"):
            time.sleep(rng.choice((0.0, 0.2, 3.0)))
            self.node.start(ready=False)
            # the next fault may find it half started
            if rng.random() < 0.7:
                self.node.wait_ready(60)
        elif rng.random() < 0.7:
            self.node.wait_ready(60)
        return f"kill {victim}"

    def rubbish(self, folder: Path) -> str:
        """What a device that sends rubbish costs another one, on a node of its own."""
        with RunningNode(folder, EACH) as node:
            found = beside_rubbish(node, rounds=5, count=300)
        quiet, loud = statistics.median(found.quiet_ms), statistics.median(found.loud_ms)
        return (
            f"publish to event at a subscriber, p99 of {found.good} messages, median of 5 rounds: {quiet:.1f} ms alone, "
            f"{loud:.1f} ms beside {found.bad_per_s:.0f} bad messages/s: {loud / quiet:.1f} times"
        )

    def floods(self, folder: Path) -> str:
        """What floods at the door cost those who are trusted, on a node of its own."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4 * SILENT)), hard))
        assert cli(["init", str(folder / "site"), "--tls", "-q"]) == 0
        tls = folder / "site" / "data" / "tls"
        lines = f'mqtts = "127.0.0.1:0"\ntls = {{ cert = "{tls}/server.pem", key = "{tls}/server.key" }}'
        with RunningNode(folder, broker=lines) as node:
            context = ssl.create_default_context(cafile=str(tls / "ca.pem"))
            return "\n".join(asyncio.run(flooded(node, ATTEMPTS, SILENT, context)))

    def table(self) -> str:
        rows = {**self.faults, "faults in all": self.faults.total()}
        rows |= {
            "messages acknowledged": self.account.acknowledged,
            "lost": 0,
            "windows": self.account.windows,
            "windows torn or doubled": 0,
            "event ids doubled": 0,
            "re-sends stored twice, dropped by dedup": self.account.resent,
        }
        for name in (ONCE, EVERY):
            rows[f"difference in the books of {name}"] = 0
        return "\n".join(f"{name:>42} {count:>10}" for name, count in rows.items())


def say(text: str) -> None:
    print(text, flush=True)


def node(folder: Path, given: argparse.Namespace) -> bool:
    """The part "node"; whether all was right."""
    say(f"{given.minutes:g} minutes, {DEVICES} devices a round, {RATE:g} messages/s")
    soak = Soak(folder, given.seed)
    try:
        soak.run(given.minutes)
    except AssertionError as error:
        say(f"{soak.table()}\nVIOLATION (the rows above are as of the round before): {error}")
        return False
    except KeyboardInterrupt:
        say("interrupted")
    finally:
        soak.node.close()
    say(soak.table())
    for name, work in (("rubbish", soak.rubbish), ("floods", soak.floods), ("networks", report)):
        (folder / name).mkdir()
        say(work(folder / name))
    return True


def store(folder: Path, given: argparse.Namespace) -> bool:
    """The part "store"; whether all was right."""
    return _told(lambda: stores.faults(folder, given.seed, given.kills, say))


def history(folder: Path, given: argparse.Namespace) -> bool:
    """The part "history"; whether all was right."""
    return _told(lambda: stores.history(folder, given.seed, given.days, given.channels, say))


def cluster(folder: Path, given: argparse.Namespace) -> bool:
    """The part "cluster"; whether all was right."""
    machines_hold = _passes(*GROWTH) and _told(lambda: machines.report(folder, 100, given.seed))
    return machines_hold and _told(simulations.report)


def nodes(folder: Path, given: argparse.Namespace) -> bool:
    """The part "nodes"; whether all was right."""
    return _told(lambda: nemesis.report(folder, given.faults, given.nodes, given.seed, say))


def uplink(folder: Path, given: argparse.Namespace) -> bool:
    """The part "uplink"; whether all was right."""
    return _told(lambda: uplink_soak.faults(folder, given.seed, given.minutes, say))


def link(folder: Path, given: argparse.Namespace) -> bool:
    """The part "link"; whether all was right."""
    return _told(lambda: link_soak.links(folder, given.seed, say))


def mqtt(folder: Path, given: argparse.Namespace) -> bool:
    """The part "mqtt"; whether all was right."""
    return _told(lambda: clients.kills(folder, given.seed, max(1, given.kills // 3), say))


def _passes(*files: str) -> bool:
    """Whether the tests of these files pass, with those that the suite leaves to the soak."""
    argv = [sys.executable, "-m", "pytest", "-q", *files]
    return not subprocess.run(argv, env={**os.environ, "SKERRY_SOAK": "1"}, check=False).returncode


def _told(work: Callable[[], str]) -> bool:
    try:
        say(work())
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what the test was made to find
        traceback.print_exc()
        say(f"VIOLATION: {error!r}")
        return False
    return True


def scenarios(folder: Path, given: argparse.Namespace) -> bool:
    """The part "scenarios"; whether all was right."""
    return _told(lambda: scenario_soak.scenarios(given.minutes))


def tutorial(folder: Path, given: argparse.Namespace) -> bool:
    """The part "tutorial"; whether all was right."""
    return _told(lambda: try_tutorial.follow(folder, say))


def bundles(folder: Path, given: argparse.Namespace) -> bool:
    """The part "bundles"; whether all was right."""
    alone, cluster = folder / "alone", folder / "cluster"
    alone.mkdir()
    cluster.mkdir()
    one = _told(lambda: bundle_soak.bundles(alone, given.minutes / 2, given.seed))
    return _told(lambda: bundle_kills.bundles(cluster, given.minutes / 2, given.seed)) and one


def steady(folder: Path, given: argparse.Namespace) -> bool:
    """The part "steady"; whether all was right."""
    say(f"{given.minutes:g} minutes, {unchanging.RATE:,.0f} messages/s")
    told, flat = unchanging.steady(folder, given.minutes)
    say(told)
    return flat


PARTS = {
    "node": node, "store": store, "history": history, "cluster": cluster, "nodes": nodes, "steady": steady, "uplink": uplink,
    "link": link, "mqtt": mqtt, "scenarios": scenarios, "bundles": bundles, "tutorial": tutorial,
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all by default")
    parser.add_argument("--minutes", type=float, default=10.0, help="of the parts node, bundles and steady, each")
    parser.add_argument("--kills", type=int, default=60, help="of store (and four times the power cuts); of mqtt a third")
    parser.add_argument("--days", type=int, default=30, help="of the part history")
    parser.add_argument("--channels", type=int, default=100, help="of the part history")
    parser.add_argument("--faults", type=int, default=100, help="of the part nodes")
    parser.add_argument("--nodes", type=int, default=3, help="of the part nodes")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    given = parser.parse_args()
    if unknown := [part for part in given.parts if part not in PARTS]:
        parser.error(f"there is no part {unknown[0]!r}: {', '.join(PARTS)}")
    folder = Path(tempfile.mkdtemp(prefix="skerry-soak-"))
    for part in given.parts or PARTS:
        say(f"{part}: seed {given.seed}, data in {folder / part}")
        (folder / part).mkdir()
        if not PARTS[part](folder / part, given):
            say(f"kept: {folder}")
            return 1
    with contextlib.suppress(OSError):
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
