"""What a node sends up is held to the lower of `uplink.rate` and `resources.network`."""

from pathlib import Path

import pytest

from skerry.config import load
from skerry.core.clock import ManualClock
from skerry.core.units import parse_rate
from skerry.node.uplink import NodeUplink


@pytest.mark.parametrize(
    ("uplink", "resources", "held"),
    [
        ("", "", 0),
        ('rate = "64KiB/s"', "", 64 << 10),
        ("", 'network = "32KiB/s"', 32 << 10),
        ('rate = "64KiB/s"', 'network = "32KiB/s"', 32 << 10),
        ('rate = "16KiB/s"', 'network = "32KiB/s"', 16 << 10),
    ],
)
def test_the_lower_rate_holds(tmp_path: Path, uplink: str, resources: str, held: int) -> None:
    file = tmp_path / "skerry.toml"
    file.write_text(
        f'[node]\nname = "n"\nsite = "s"\n[resources]\n{resources}\n[uplink]\nkind = "http"\nurl = "http://127.0.0.1:9/"\n{uplink}\n'
    )
    assignment = NodeUplink(load(file), ManualClock()).assignment
    assert assignment is not None
    assert (parse_rate(assignment.config.rate) if assignment.config.rate else 0) == held
