"""The long fault test: `python -m tests.soak --minutes N`.

Rounds of load, each by new devices, with processes killed or stopped at random moments; after each round every message that was
acknowledged is looked for in the windows. Ends with the counts as one table; exit 1 at the first thing that is wrong.
"""

import argparse
import contextlib
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.fixtures.node import RunningNode
from tests.system.accounts import BOTH, EVERY, ONCE, Account, check, settle
from tests.system.fleet import Device, Fleet
from tests.system.rubbish import EACH, beside_rubbish

KILLS = ("worker", "nats-server", "agent", "all")
STOPS = ("worker", "agent")
DEVICES, RATE = 8, 700.0


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


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="skerry-soak-"))
    say(f"seed {given.seed}, {given.minutes:g} minutes, {DEVICES} devices a round, {RATE:g} messages/s, data in {folder}")
    soak = Soak(folder, given.seed)
    try:
        soak.run(given.minutes)
    except AssertionError as error:
        say(f"{soak.table()}\nVIOLATION (the rows above are as of the round before): {error}\nkept: {folder}")
        return 1
    except KeyboardInterrupt:
        say("interrupted")
    finally:
        soak.node.close()
    say(soak.table())
    (folder / "rubbish").mkdir()
    say(soak.rubbish(folder / "rubbish"))
    with contextlib.suppress(OSError):
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
