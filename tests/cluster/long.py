"""Many seeds of the simulated cluster: `python -m tests.cluster.long --seeds N`. Ends at the first fault."""

import argparse
import sys
import time
from collections import Counter

from tests.cluster.simulation import Broken, nemesis


def run(seeds: range, nodes: int, partitions: int, seconds: float = 60) -> str:
    """All these seeds; the counts. Raises `Broken` with the seed."""
    faults: Counter[str] = Counter()
    began, refused, epochs = time.monotonic(), 0, 0
    for seed in seeds:
        try:
            found = nemesis(seed, nodes, partitions, seconds)
        except Broken as error:
            raise Broken(f"seed {seed}, {nodes} nodes, {partitions} partitions: {error}") from error
        faults += found.counts
        refused += found.store.refused
        epochs += len(found.store.epochs)
    return (
        f"{len(seeds)} simulated clusters of {nodes} nodes and {partitions} partitions, {seconds:g} s each: "
        f"{faults.total()} faults, {epochs} leaders, {refused} writes refused, no partition with two owners, all run at the end; "
        f"{time.monotonic() - began:.0f} s"
    )


def report() -> str:
    """What the soak prints."""
    return "\n".join((run(range(1000, 3000), 5, 20), run(range(100), 12, 60), run(range(5), 100, 1000)))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.long", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--nodes", type=int, default=5)
    parser.add_argument("--partitions", type=int, default=20)
    given = parser.parse_args()
    print(run(range(given.first, given.first + given.seeds), given.nodes, given.partitions))
    return 0


if __name__ == "__main__":
    sys.exit(main())
