"""A node under a steady load for a long time: what each of its processes takes must not grow."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import psutil

from bench.crowd import Counts, Crowd
from bench.model import write_mlp
from bench.systems import FEATURES, ROOT, VALUES
from tests.fixtures.node import ROLES, RunningNode

RATE, DEVICES = 5000.0, 500
FLAT = 0.03
LOOK_S = 5.0
WARM_UP = 0.2
"""The part of the time that does not count: caches and pools fill."""
PIPELINE = """
[[models]]
name = "mlp"
file = "mlp.onnx"
[[pipelines]]
name = "steady"
source = {{ topic = "devices/+/vibration", time = "ts", values = {values} }}
window = {{ kind = "count", size = 32 }}
features = {features}
model = "mlp@active"
"""


class Look(msgspec.Struct, frozen=True):
    """What a process takes at one moment: resident bytes, open files, threads."""

    memory: int
    files: int
    threads: int


class Trend(msgspec.Struct, frozen=True):
    """Medians of the first and of the last quarter of the time that counts."""

    first: Look
    last: Look

    @property
    def growth(self) -> float:
        return self.last.memory / self.first.memory - 1

    @property
    def flat(self) -> bool:
        return self.growth <= FLAT and self.last.files <= self.first.files and self.last.threads <= self.first.threads


def trend(looks: Sequence[Look]) -> Trend:
    """How a process did, of all looks at it in order."""
    count = looks[int(WARM_UP * len(looks)) :]
    quarter = max(1, len(count) // 4)
    return Trend(_median(count[:quarter]), _median(count[-quarter:]))


def _median(looks: Sequence[Look]) -> Look:
    return Look(*(int(statistics.median(getattr(look, name) for look in looks)) for name in Look.__struct_fields__))


def line(role: str, found: Trend) -> str:
    first, last = found.first, found.last
    judged = "flat" if found.flat else "NOT FLAT"
    return (
        f"{role:>12}: {first.memory / 2**20:7.1f} MiB → {last.memory / 2**20:7.1f} MiB ({found.growth:+.1%}), "
        f"files {first.files} → {last.files}, threads {first.threads} → {last.threads}: {judged}"
    )


def steady(folder: Path, minutes: float, rate: float = RATE) -> tuple[str, bool]:
    """Run it; what came out, and whether all processes stayed flat and nothing was lost."""
    write_mlp(folder / "mlp.onnx", len(FEATURES) * len(VALUES))
    text = PIPELINE.format(values=json.dumps(VALUES), features=json.dumps(FEATURES))
    with RunningNode(folder, text) as node:
        given = Crowd(node.mqtt[1], DEVICES, DEVICES / rate)
        command = [sys.executable, "-m", "bench.crowd", msgspec.json.encode(given).decode()]
        load = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
        try:
            assert load.stdin is not None
            assert load.stdout is not None
            assert load.stdout.readline() == b"ready\n"
            looks = _watch(node, minutes * 60)
            load.stdin.write(b"\n")
            load.stdin.flush()
            counts = msgspec.json.decode(load.stdout.readline(), type=Counts)
        finally:
            load.kill()
            load.wait(10)
        books = node.pipeline("steady")["ledger"]
    trends = {role: trend(each) for role, each in looks.items()}
    a_second = counts.sent / minutes / 60
    sent = f"steady: {counts.sent:,} messages in {minutes:g} minutes, {a_second:,.0f}/s; {counts.lost} connections lost"
    rest = f"difference in the books {books['difference']}, dead letters {sum(books['dead_letters'].values())}"
    good = all(each.flat for each in trends.values()) and not books["difference"] and not counts.lost
    return "\n".join([f"{sent}; {rest}", *(line(role, each) for role, each in trends.items())]), good


def _watch(node: RunningNode, seconds: float) -> dict[str, list[Look]]:
    """Look at the processes until the time is over. One that is started anew fails the run."""
    processes = {role: found[0] for role in ROLES if (found := node.processes(role))}
    looks: dict[str, list[Look]] = {role: [] for role in processes}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(min(LOOK_S, seconds / 20))
        for role, process in processes.items():
            try:
                looks[role].append(Look(process.memory_info().rss, process.num_fds(), process.num_threads()))
            except psutil.NoSuchProcess as error:
                raise AssertionError(f"the {role} ended") from error
    return looks
