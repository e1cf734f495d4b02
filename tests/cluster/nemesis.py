"""Random faults on real nodes under load, each a machine of a LAN: `python -m tests.soak nodes --faults N --nodes 3`.

Each round has devices of its own and one fault; after it all must come together by itself, every message that was acknowledged
must be in a window, each window be whole and there once, event ids unique, and no unit have had two owners at once.
"""

import random
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import msgspec

from tests.cluster.arrivals import EACH, Arrivals
from tests.cluster.fences import Found
from tests.cluster.nodes import PIPELINES, Boxes
from tests.fixtures.disk import fill, own_disk
from tests.fixtures.netns import Lan, lan
from tests.system.accounts import Account
from tests.system.fleet import Device

SMALL, SMALL_MIB = "small", 1024
"""The last node's data directory is on a disk of its own, of so many MiB."""
BROKER = 'retention = { size = "64MiB" }'
DEVICES, RATE = 6, 60.0
PATIENCE_S = 300.0
OF_ALL = ("power cut", "halves")
GOALS = {"kill worker, leader": 2, "kill worker, member": 2, "kill all, member": 5, "kill all, leader": 12}


class Nemesis:
    """Rounds of load and one fault each on a cluster that is there already.

    Args:
        longest: seconds that a fault may last.

    Attributes:
        kinds: what it may do.
        took: by kind, seconds until all was right again.
        again: by kind and victim (the leader, another member, one that had no work), seconds until each device had events of new
            messages again.
    """

    def __init__(self, boxes: Boxes, seed: int, longest: float = 12.0) -> None:
        self.boxes = boxes
        self.took = defaultdict[str, list[float]](list)
        self.again = defaultdict[str, list[float]](list)
        self.account = Account(0, 0, 0)
        self.found = Found()
        self._rng = random.Random(seed)
        self._longest = longest
        self._devices: list[Device] = []
        self._round = 0
        self._made = self._struck = 0.0
        self.kinds: dict[str, Callable[[str], None]] = {
            "kill worker": self._kill_worker, "kill nats-server": self._kill_server, "kill agent": self._kill_agent,
            "kill all": self._kill_all, "stop": self._stop, "power cut": self._power_cut, "wrong clock": self._wrong_clock,
        }  # fmt: skip
        if boxes.lan is not None:
            self.kinds |= {
                "cut": self._cut, "halves": self._halves, "one way": self._one_way, "delay and loss": self._rough,
                "full disk": self._full_disk,
            }  # fmt: skip

    def round(self, *kinds: str) -> str:
        """These faults, or one at random, under load, and the reckoning over all devices so far; a sentence on it."""
        self._round += 1
        kinds = kinds or (self._rng.choice(list(self.kinds)),)
        with self.boxes.fleet(DEVICES, RATE, f"r{self._round}d") as fleet:
            time.sleep(self._rng.uniform(1.0, 3.0))
            began = time.monotonic()
            done = [self._fault(kind, [device.name for device in fleet.devices]) for kind in kinds]
            self.account = self.boxes.settle(fleet, self._devices, PATIENCE_S)
        self._devices += fleet.devices
        self._look_at_fences()
        self.took[", ".join(kinds)].append(time.monotonic() - began)
        return f"round {self._round}: {'; '.join(done)}; {self.account.acknowledged} acknowledged, none lost"

    def _fault(self, kind: str, devices: Sequence[str]) -> str:
        """Strike, and wait until all are together and each of these devices has events again; a sentence on it."""
        boxes, rng = self.boxes, self._rng
        leader = boxes.leader(rng.choice(boxes.names))
        chosen = leader if rng.random() < 0.4 else rng.choice(boxes.names)
        name = boxes.names[-1] if kind == "full disk" else chosen
        role = ("leader" if name == leader else "member") if boxes.work_of(name) else "idle"
        others = [each for each in boxes.names if each != name]
        rng.shuffle(others)
        with Arrivals(boxes.addresses(*others, name)) as arrivals:
            self.kinds[kind](name)
            together = boxes.wait_together(seconds=PATIENCE_S)
            again = arrivals.again(devices, self._made) - self._struck
        self.again[kind if kind in OF_ALL else f"{kind}, {role}"].append(again)
        return f"{kind} {name} ({role}): events again after {again:.1f} s, together after {together:.0f} s"

    def _look_at_fences(self) -> None:
        """By all events since the round before no unit had two owners at once."""
        node = self.boxes[self._rng.choice(self.boxes.names)]
        lan = self.boxes.lan
        inside = lan.inside(node.name) if lan is not None else []
        command = [*inside, sys.executable, "-m", "tests.cluster.fences", str(node.data)]
        done = subprocess.run(command, input=msgspec.json.encode(self.found), capture_output=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr.decode()
        self.found = msgspec.json.decode(done.stdout, type=Found)
        assert self.found.wrong == [], self.found.wrong[:10]

    # faults: each is done, lasts, and is over

    def _since(self, struck: float) -> None:
        """It was struck at that moment: what is made from then on counts."""
        self._struck, self._made = struck, time.time() - (time.monotonic() - struck)

    def _last(self, *seconds: float, since: float | None = None) -> None:
        self._since(time.monotonic() if since is None else since)
        time.sleep(min(self._longest, self._rng.choice(seconds)))

    def _kill_worker(self, name: str) -> None:
        self._since(self.boxes.kill(name, "worker"))

    def _kill_server(self, name: str) -> None:
        self._since(self.boxes.kill(name, "nats-server"))

    def _kill_agent(self, name: str) -> None:
        self._kill_and_begin(name, "agent")

    def _kill_all(self, name: str) -> None:
        self._kill_and_begin(name, "all")

    def _kill_and_begin(self, name: str, role: str) -> None:
        self._last(0.0, 5.0, 12.0, since=self.boxes.kill(name, role))
        self.boxes[name].begin()

    def _stop(self, name: str) -> None:
        self.boxes.pause(name)
        self._last(1.0, 6.0, 12.0)
        self.boxes.resume(name)

    def _power_cut(self, name: str) -> None:
        self._since(self.boxes.power_cut(self._rng.choice((0.0, 2.0))))

    def _wrong_clock(self, name: str) -> None:
        self.boxes.set_clock(name, self._rng.choice(("-1h", "-3s", "3s", "1h")))
        self._last(3.0, 8.0)
        self.boxes.set_clock(name, "0s")

    def _cut(self, name: str) -> None:
        self._on_lan([name], lambda: self._lan.cut(name), 1.0, 5.0, 12.0)

    def _halves(self, name: str) -> None:
        """The devices are with either side."""
        names = list(self.boxes.names)
        self._rng.shuffle(names)
        few = names[: len(names) // 2]
        side = few if self._rng.random() < 0.7 else [each for each in names if each not in few]
        self._on_lan(side, lambda: self._lan.part(*side), 1.0, 5.0, 12.0)

    def _one_way(self, name: str) -> None:
        lost = self._rng.choice(({"lost_from": 1.0}, {"lost_to": 1.0}))
        self._on_lan([name], lambda: self._lan.roughen(name, **lost), 5.0, 12.0)

    def _rough(self, name: str) -> None:
        delay, lost = self._rng.choice((5.0, 20.0, 60.0)), self._rng.choice((0.0, 0.01, 0.03))
        self._on_lan([name], lambda: self._lan.roughen(name, delay, lost, lost), 6.0, 12.0)

    def _on_lan(self, names: Sequence[str], strike: Callable[[], None], *seconds: float) -> None:
        try:
            strike()
            self._last(*seconds)
        finally:
            for name in names:
                self._lan.heal(name)

    def _full_disk(self, name: str) -> None:
        filler = fill(self.boxes[name].folder / SMALL)
        self._last(4.0, 12.0)
        filler.unlink()

    @property
    def _lan(self) -> Lan:
        assert self.boxes.lan is not None
        return self.boxes.lan

    def table(self) -> str:
        rows: dict[str, object] = {kind: len(found) for kind, found in sorted(self.took.items())}
        rows |= {"faults in all": sum(map(len, self.again.values())), "messages acknowledged": self.account.acknowledged, "lost": 0}
        rows |= {"windows": self.account.windows, "windows torn or doubled": 0, "event ids doubled": 0}
        rows |= {"owners of units": self.found.owners, "two owners at once": 0}
        lines = [f"{name:>42} {count:>10}" for name, count in rows.items()]
        lines.append(f"{'seconds until':>42} {'p50':>10} {'p95':>6} longest")
        lines += [_times(f"all is right: {kind}", found) for kind, found in sorted(self.took.items())]
        lines += [_times(f"events again: {kind}", found, GOALS.get(kind)) for kind, found in sorted(self.again.items())]
        return "\n".join(lines)


def _times(name: str, found: list[float], goal: int | None = None) -> str:
    ordered = sorted(found)
    p95 = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    return f"{name:>42} {median(ordered):>10.1f} {p95:>6.1f} {ordered[-1]:>7.1f}" + (f"   goal {goal}" if goal else "")


@contextmanager
def machines(folder: Path, count: int, say: Callable[[str], None]) -> Iterator[Boxes]:
    """So many nodes, each a machine of a LAN; this thread is outside of them, as devices are."""
    names = tuple(f"n{at + 1}" for at in range(count))
    with lan(*names) as found, found.entered():
        say(f"delay and loss: {'netem' if found.netem else 'the wire of the test suite, this kernel has no netem'}")
        data = {names[-1]: f"{SMALL}/data"}
        boxes = Boxes(folder, count, PIPELINES + EACH, broker=BROKER, lan=found, clocks=True, data=data)
        with own_disk(folder / names[-1] / SMALL, SMALL_MIB), boxes:
            yield boxes


def report(folder: Path, faults: int, nodes: int, seed: int, say: Callable[[str], None]) -> str:
    """So many random faults; the counts. Raises `AssertionError` for the first thing that is wrong."""
    with machines(folder, nodes, say) as boxes:
        nemesis = Nemesis(boxes, seed)
        try:
            for _ in range(faults):
                say(nemesis.round())
        except AssertionError:
            say(f"{nemesis.table()}\nthe rows above are as of the round before")
            raise
        return nemesis.table()
