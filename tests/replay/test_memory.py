"""A replay of a long time takes no more memory than one of a short time; in a process of its own, which is measured."""

import subprocess
import sys

PROGRAM = """
import resource, sys
from pathlib import Path
import numpy as np
from skerry.core.clock import SECOND, ManualClock
from skerry.replay import samples
from skerry.store import Archive
from tests.replay.rig import NOW, DirectorySource, StorageConfig, SyncKeyValueStore, over, spec_of

samples.AT_ONCE = 20_000
folder, hours, clock = Path(sys.argv[1]), 5, ManualClock(NOW)
with SyncKeyValueStore(StorageConfig(folder, "64MiB", "none", "2MiB", "2MiB"), clock) as store:
    archive = Archive(store, clock=clock)
    for hour in range(hours):
        times = NOW - (hours - hour) * 3600 * SECOND + np.arange(3600) * SECOND
        for name in (f"d{at}/v/{value}" for at in range(5) for value in "xy"):
            archive.append(name, times, np.sin(times / SECOND / 60))
        archive.flush()
source, spec = DirectorySource(folder, clock), spec_of(rule={"above": 0.9})
for back in (1, 1, 5):
    answer = over(spec, source, NOW - back * 3600 * SECOND)
    print(answer["messages"], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
source.close()
"""


def test_memory_does_not_grow_with_the_span(tmp_path: object) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    (few, _), (_, short), (many, long) = (map(int, line.split()) for line in done.stdout.splitlines())
    assert many > 4 * few > 60_000
    assert long - short < 12 * 1024, f"{short} KiB for an hour, {long} KiB for five"
