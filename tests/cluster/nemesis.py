"""Random faults on three real nodes under load: `python -m tests.soak nodes --faults N`.

Each round has devices of its own and one fault; after it all must come together by itself, every message that was acknowledged
must be in a window, each window be whole and there once, event ids unique.
"""

import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median

from tests.cluster.nodes import Boxes
from tests.system.accounts import Account
from tests.system.fleet import Device

KILLS = ("agent", "nats-server", "worker", "all")
KINDS = (*(f"kill {role}" for role in KILLS), "stop", "power cut")
DEVICES, RATE = 6, 120.0
TOGETHER_S = 300.0


class Nemesis:
    """Rounds of load and one fault each on a cluster that is there already."""

    def __init__(self, boxes: Boxes, seed: int) -> None:
        self.boxes = boxes
        self.faults: Counter[str] = Counter()
        self.took = defaultdict[str, list[float]](list)
        self.account = Account(0, 0, 0)
        self._rng = random.Random(seed)
        self._devices: list[Device] = []
        self._round = 0

    def round(self, kind: str = "", name: str = "") -> str:
        """One fault under load, and the reckoning over all devices so far; a sentence on it."""
        self._round += 1
        kind = kind or self._rng.choice(KINDS)
        name = name or self._rng.choice(self.boxes.names)
        with self.boxes.fleet(DEVICES, RATE, f"r{self._round}d") as fleet:
            time.sleep(self._rng.uniform(0.5, 2.0))
            began = time.monotonic()
            self.fault(kind, name)
            took = self.boxes.wait_together(seconds=TOGETHER_S)
            self.account = self.boxes.settle(fleet, self._devices, TOGETHER_S)
        self._devices += fleet.devices
        self.faults[kind] += 1
        self.took[kind].append(time.monotonic() - began)
        done = f"round {self._round}: {kind} {name}: together after {took:.0f} s"
        return f"{done}; {self.account.acknowledged} acknowledged, none lost"

    def fault(self, kind: str, name: str) -> None:
        """Do it; where a node was ended it is started again after a while."""
        boxes, rng = self.boxes, self._rng
        if kind == "power cut":
            boxes.power_cut(rng.choice((0.0, 2.0)))
        elif kind == "stop":
            boxes.pause(name)
            time.sleep(rng.choice((1.0, 6.0, 12.0)))
            boxes.resume(name)
        else:
            role = kind.removeprefix("kill ")
            boxes.kill(name, role)
            if role in ("agent", "all"):
                time.sleep(rng.choice((0.0, 5.0, 12.0)))
                boxes[name].begin()

    def table(self) -> str:
        rows = {**self.faults, "faults in all": self.faults.total(), "messages acknowledged": self.account.acknowledged, "lost": 0}
        rows |= {"windows": self.account.windows, "windows torn or doubled": 0, "event ids doubled": 0}
        lines = [f"{name:>42} {count:>10}" for name, count in rows.items()]
        lines += [
            f"{f'seconds until all was right, {kind}':>42} {median(found):>10.0f} median, {max(found):.0f} longest"
            for kind, found in self.took.items()
        ]
        return "\n".join(lines)


def report(folder: Path, faults: int, seed: int, say: Callable[[str], None]) -> str:
    """So many random faults; the counts. Raises `AssertionError` for the first thing that is wrong."""
    with Boxes(folder) as boxes:
        nemesis = Nemesis(boxes, seed)
        try:
            for _ in range(faults):
                say(nemesis.round())
        except AssertionError:
            say(f"{nemesis.table()}\nthe rows above are as of the round before")
            raise
        return nemesis.table()
