"""Bundles in a cluster over kill -9 of any node while they are applied: all nodes end on the same side, and nothing is lost."""

import random
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from skerry import Bundle
from skerry.bundle import send_bundle
from skerry.core.errors import SkerryError
from tests.cluster.nodes import patiently
from tests.cluster.test_bundles import Plant
from tests.system.test_bundles import Workshop, shown

LONGEST_S = 12.0
"""After so long since `apply` a bundle with a probation of a second is mostly kept by all three."""
SECONDS = 180.0


def bundles(folder: Path, minutes: float, seed: int) -> str:
    """Apply two bundles in turn and kill a node meanwhile, for so long; what was seen. Raises `AssertionError`."""
    rng, workshop = random.Random(seed), Workshop(folder / "workshop")
    (folder / "boxes").mkdir()
    plant, seen = Plant(folder / "boxes", workshop), Counter[str]()
    both, before, end = [workshop.bundle("2"), workshop.bundle("3")], "", time.monotonic() + minutes * 60
    with plant, plant.fleet(4, 40) as fleet:
        while time.monotonic() < end:
            wanted = next(each for each in rng.sample(both, 2) if each.id != before)
            at, victim = rng.choice(plant.names), rng.choice(plant.names)
            role = "leader" if plant.leader(at) == victim else "asked" if at == victim else "another"
            _begin(plant, at, wanted)
            time.sleep(rng.uniform(0.0, LONGEST_S))
            plant.kill(victim, rng.choice(["agent", "all"]))
            time.sleep(rng.uniform(0.0, 6.0))
            plant[victim].begin()
            before = _side(plant, before, wanted)
            seen[f"{role}: {'new' if before == wanted.id else 'old'}"] += 1
            print(f"{role} killed, asked at {at}: {'new' if before == wanted.id else 'old'}", flush=True)
        account = plant.settle(fleet)
    return (
        f"{sum(seen.values())} kills: {', '.join(f'{what} {count}' for what, count in sorted(seen.items()))}; "
        f"{account.acknowledged} messages, 0 lost"
    )


def _begin(plant: Plant, at: str, wanted: Bundle) -> None:
    with plant[at].client() as client:
        given = send_bundle(client, wanted.path, local=True)["id"]
        patiently(lambda: client.post(f"/api/v1/bundles/{given}/apply", {"probation": "1s"}), SECONDS, "it is begun")


def _side(plant: Plant, before: str, wanted: Bundle) -> str:
    """The bundle that all nodes are on once they have settled. Raises `AssertionError`."""
    plant.wait_together(seconds=SECONDS)
    sides = {before: ("m", "m@1") if not before else None, wanted.id: None}
    versions = {row["id"]: f"m@{row['version']}" for name in plant.names for row in shown(plant[name])["bundles"]}
    found: list[str] = []

    def settled() -> bool:
        for side, runs in sides.items():
            with suppress(SkerryError):
                if plant.on(side or None, *(runs or (versions[side],))):
                    found.append(side)
        return bool(found)

    patiently(settled, SECONDS, "all are on the same side")
    return found[-1]
