"""kill -9 of every part of a node under load: what was acknowledged is in exactly one window, and no event comes twice."""

import random
import time
from pathlib import Path

import pytest

from tests.fixtures.node import RunningNode
from tests.system.accounts import BOTH, check, settle
from tests.system.fleet import Fleet


@pytest.mark.parametrize(("seed", "victims"), [(11, ["worker", "nats-server", "worker"]), (12, ["agent"]), (13, ["all"])])
def test_what_was_acknowledged_is_counted_once_whatever_is_killed(tmp_path: Path, seed: int, victims: list[str]) -> None:
    rng = random.Random(seed)
    with RunningNode(tmp_path, BOTH) as node, Fleet(node.mqtt, 8, 700) as fleet:
        for victim in victims:
            time.sleep(rng.uniform(1.2, 2.4))
            node.kill(victim)
            if victim in ("agent", "all"):
                time.sleep(rng.uniform(0.0, 0.5))
                node.start()
            else:
                node.wait_ready()
        time.sleep(rng.uniform(0.5, 1.0))
        settle(node, fleet)
        account = check(node, fleet.devices)
        assert account.acknowledged == fleet.sent > 1000
        assert account.windows >= 3 * len(fleet.devices)
