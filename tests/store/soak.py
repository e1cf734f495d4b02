"""The store's long tests, for `tests.soak`: kills aimed at what a writer does, power cuts, calls that fail; weeks of history."""

import errno
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.store.aftermath import CHECKS, HISTORY_WRITER, WRITER, acknowledged, check_cuts, check_fault, check_store, kill_a_writer
from tests.store.disk import compiled, environment
from tests.store.history_writer import DAY
from tests.store.long_history import Keep, LongHistory

Say = Callable[[str], None]
MOMENTS = ("any moment", "flush begins", "compaction begins", "backup begins", "evicted")
CALLS = {"sync": 60, "write": 400, "truncate": 3, "rename": 3}
"""What fails, and among how many first ones."""


def faults(folder: Path, seed: int, kills: int, say: Say) -> str:
    """So many kills, four times as many power cuts, a quarter as many failed calls; the counts."""
    chance = random.Random(seed)
    counts = kill(folder, chance, kills, say)
    library = compiled(folder)
    for round_ in range(-(-4 * kills // 20)):
        writer = (WRITER, HISTORY_WRITER)[round_ % 2]
        place = folder / f"cuts-{round_}"
        (place / "disk").mkdir(parents=True)
        said = kill_a_writer(
            place / "disk/kv", chance.uniform(0.2, 2), writer, environment(library, place / "disk", place / "journal")
        )
        CHECKS[writer](place / "disk/kv", said)
        found = check_cuts(place / "disk", place / "journal", writer, 20, chance, place)
        unsynced = found["unsynced changes at a cut"]
        say(f"{writer.stem}: {found['cuts']} power cuts, {unsynced} changes not synced, {found['acknowledged']} rounds")
        counts["power cuts"] += found["cuts"]
        counts["changes not synced at a cut"] += unsynced
        shutil.rmtree(place)
    for each in range(-(-kills // 4)):
        place = folder / f"fault-{each}"
        place.mkdir()
        number, times = chance.choice((errno.EIO, errno.ENOSPC)), chance.choice((1, 3, 40))
        call = chance.choice(("sync", "write", "write", "rename", "truncate"))
        fault = f"{call}:{chance.randint(1, CALLS[call])}:{number}:{times}"
        told = check_fault(library, place, fault)
        refused = told["refused"] + told["refused for want of room"]
        say(f"fault {fault}: {told['calls that failed']} calls failed, {refused} writes refused, {told['batch']} rounds")
        counts["calls that failed"] += told["calls that failed"]
        shutil.rmtree(place)
    counts["acknowledged changes lost, batches torn"] = 0
    return "\n".join(f"{name:>42} {count:>10}" for name, count in counts.items())


def kill(folder: Path, chance: random.Random, kills: int, say: Say) -> Counter[str]:
    """kill -9 in the middle of what the writer does; every tenth begins with an empty store."""
    counts: Counter[str] = Counter()
    place, said = folder / "kills", b""
    for number in range(kills):
        if number % 10 == 0:
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            said = b""
        moment = MOMENTS[number % len(MOMENTS)]
        seconds = chance.uniform(0.05, 1.5) if moment == "any moment" else chance.uniform(0, 0.02)
        more = kill_a_writer(
            place / "kv", seconds, WRITER, enough=lambda told, moment=moment: moment == "any moment" or told[moment] > 0
        )
        before = acknowledged(said)["batch"]
        said += more
        last = check_store(place / "kv", said)
        told = acknowledged(more)
        if more.rfind(b"backup holds") > more.rfind(b"backup begins"):
            check_store(place / "backup", b"batch %d\n" % told["backup holds"])
            counts["backups opened after a kill"] += 1
        counts[f"kill -9, {moment}"] += 1
        counts["batches of twelve acknowledged"] += max(0, told["batch"] - before)
        say(f"kill {number + 1}, {moment}: batch {told['batch']} acknowledged, {last} there")
    return counts


def history(folder: Path, seed: int, days: int, channels: int, say: Say) -> str:
    """Days of channels at 1 Hz, kept for 5, 12 and 20 days by level: every query is numpy's answer, and the size stays flat."""
    began = time.monotonic()
    long = LongHistory(folder, seed, channels, Keep(5 * DAY, 12 * DAY, 20 * DAY))
    try:
        for day in range(days):
            long.live(day)
            asked = {day * 7 % channels, (day * 13 + 5) % channels, 0} if day % 5 == 4 else {day * 7 % channels}
            for channel in sorted(asked):
                long.check(channel)
            say(
                f"day {day + 1}: {long.samples:,} samples, blocks {long.sizes[-1] / 1e6:.1f} MB, disk {long.disk[-1] / 1e6:.1f} "
                f"MB, {long.queries} queries right, {time.monotonic() - began:.0f} s"
            )
        if days > long.settled + 1:
            long.check_flat()
    finally:
        long.store.close()
    flat = (
        f"{min(long.sizes[long.settled :]) / 1e6:.1f} to {max(long.sizes[long.settled :]) / 1e6:.1f} MB"
        if days > long.settled + 1
        else "-"
    )
    return (
        f"history of {days} days, {channels} channels: {long.samples:,} samples, {long.queries:,} queries equal to numpy's, "
        f"from day {long.settled + 1} on {flat} of blocks"
    )
