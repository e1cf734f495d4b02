"""Bundles on three real nodes under load: from node to node, back everywhere when a gate fails, caught up with by who was away."""

from pathlib import Path
from typing import Any

import pytest

from skerry import Bundle
from skerry.bundle import apply_bundle, send_bundle
from skerry.core.errors import RejectedError
from skerry.trust import SigningKey
from tests.cluster.nodes import PIPELINES, Boxes, patiently
from tests.fixtures import models
from tests.system.accounts import EVERY
from tests.system.test_bundles import FAR, MODEL, TRUSTED, Workshop, shown

SECONDS = 60.0


class Plant(Boxes):
    """Three nodes that take the bundles of a workshop."""

    def __init__(self, folder: Path, workshop: Workshop) -> None:
        workshop.pipelines = PIPELINES.replace("dedup =", 'model = "m"\ndedup =')
        super().__init__(folder, 3, MODEL.format(1) + workshop.pipelines, together=False, more=TRUSTED)
        self._workshop = workshop
        for name in self.names:
            models.adding(folder / name / "m.onnx", FAR, width=4)
            self.trust(name, workshop.made)
        self._begin = self.born

    def trust(self, name: str, key: SigningKey) -> None:
        """Have a node take what this key signed, and nothing else."""
        (self[name].folder / "ops.pub").write_text(key.public_pem())

    def apply(self, name: str, bundle: Bundle) -> dict[str, Any]:
        """Apply it at one node, and wait for what becomes of it at all."""
        with self[name].client() as client:
            return apply_bundle(client, send_bundle(client, bundle.path, local=True)["id"], "1s")

    def on(self, bundle: str | None, *runs: str) -> bool:
        """Whether all nodes are wholly on a bundle, run its model, and try nothing."""
        for name in self.names:
            found = shown(self[name])
            if (found["active"], found["trial"]) != (bundle, None) or self[name].pipeline(EVERY)["model"] not in runs:
                return False
            assert [(each["active"], each["phase"]) for each in found["nodes"] if each["node"] == name] == [(bundle or "", "")]
        return True


@pytest.mark.timeout(600)
def test_a_bundle_goes_from_node_to_node_and_all_are_on_the_same_side_at_the_end(tmp_path: Path) -> None:
    workshop, folder = Workshop(tmp_path / "workshop"), tmp_path / "boxes"
    folder.mkdir()
    with Plant(folder, workshop) as plant, plant.fleet(4, 40) as fleet:
        bundle = workshop.bundle("2")
        last = [name for name in plant.names if name != plant.leader("n1")][-1]
        other = next(name for name in plant.names if name != last)
        plant.trust(last, SigningKey.new())
        with pytest.raises(RejectedError, match=rf"was rolled back: {last}: .*that key is not trusted here"):
            plant.apply(other, bundle)
        patiently(lambda: plant.on(None, "m", "m@1"), SECONDS, "all are on what was before")
        plant.trust(last, workshop.made)

        plant[last].stop()
        plant.wait_status(other, last, "Offline")
        assert plant.apply(other, bundle)["nodes"] == 2
        plant[last].begin()
        patiently(lambda: plant.on(bundle.id, "m@2"), 2 * SECONDS, "who was away has it too")
        row = next(each for each in plant[other].cli("bundle", "list")["nodes"] if each["node"] == last)
        assert (row["title"], row["failed"]) == ("plant 2", "")

        assert plant[last].cli("bundle", "rollback") == {"active": ""}
        patiently(lambda: plant.on(None, "m", "m@1"), SECONDS, "all have gone back")
        assert plant.settle(fleet).acknowledged > 100
