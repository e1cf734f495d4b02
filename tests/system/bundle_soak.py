"""Bundles over kill -9 at random moments of being applied: each time the node is wholly on the old one or wholly on the new one."""

import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

from skerry import Bundle
from skerry.bundle import BUNDLES, Shelf
from skerry.core.errors import SkerryError
from tests.fixtures.node import RunningNode, until
from tests.system.accounts import EVERY
from tests.system.test_bundles import Workshop, shown

LONGEST_S = 6.0
"""After so long since `apply` a bundle with a probation of a second is mostly kept."""


def bundles(folder: Path, minutes: float, seed: int) -> str:
    """Apply two bundles in turn and kill the node meanwhile, for so long; what was seen. Raises `AssertionError`."""
    rng, workshop = random.Random(seed), Workshop(folder / "workshop")
    both = [workshop.bundle("2"), workshop.bundle("3")]
    seen: Counter[str] = Counter()
    site = folder / "site"
    site.mkdir()
    end = time.monotonic() + minutes * 60
    with workshop.node(site) as node:
        while time.monotonic() < end:
            before = shown(node)["active"]
            wanted = next(each for each in rng.sample(both, 2) if each.id != before)
            phase = _killed(node, wanted, rng)
            node.start()
            seen[f"{phase}: {'new' if _whole(node, before, wanted, workshop) == wanted.id else 'old'}"] += 1
    return f"{sum(seen.values())} kills: {', '.join(f'{what} {count}' for what, count in sorted(seen.items()))}"


def _killed(node: RunningNode, wanted: Bundle, rng: random.Random) -> str:
    """Begin to apply one, kill the node at a random moment; the phase that it was last seen in."""
    with node.client() as client:
        client.post("/api/v1/bundles", {"file": str(wanted.path)})
        client.post(f"/api/v1/bundles/{wanted.id}/apply", {"probation": "1s"})
    time.sleep(rng.uniform(0.0, LONGEST_S))
    trial = shown(node)["trial"]
    node.kill(rng.choice(["agent", "all"]))
    return trial["phase"] if trial else "kept"


def _whole(node: RunningNode, before: str | None, wanted: Bundle, workshop: Workshop) -> str | None:
    """Which bundle the node is on, when all of it says the same. Raises `AssertionError`."""
    found: dict[str, Any] = shown(node)
    active = found["active"]
    assert active in (before, wanted.id), found
    assert found["trial"] is None, found
    versions = {row["id"]: row["version"] for row in found["bundles"]}
    model = f"m@{versions[active]}" if active else "m@1"
    until(lambda: _model(node) == model, 60, f"the pipeline runs {model}")
    shelf = Shelf(node.data / BUNDLES)
    for each in shelf.ids():
        assert shelf.verify(each, [workshop.made.public])
    assert list(shelf.directory.glob(".draft*")) == []
    return str(active) if active else None


def _model(node: RunningNode) -> str:
    try:
        return str(node.pipeline(EVERY)["model"])
    except SkerryError:
        return ""
