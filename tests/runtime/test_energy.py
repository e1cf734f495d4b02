"""The energy of the processor packages, read from a tree like the kernel's."""

from pathlib import Path

import pytest

from skerry.runtime import EnergyMeter


def zone(root: Path, folder: str, name: str, energy: int, most: int = 1_000_000_000) -> Path:
    """A zone as the kernel shows it; said again, its count has moved."""
    found = root / folder
    found.mkdir(exist_ok=True)
    (found / "name").write_text(f"{name}\n")
    (found / "energy_uj").write_text(f"{energy}\n")
    (found / "max_energy_range_uj").write_text(f"{most}\n")
    return found


def test_packages_are_added_from_where_they_stood(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 5_000_000)
    zone(tmp_path, "intel-rapl:1", "package-1", 7_000_000)
    meter = EnergyMeter(tmp_path)
    assert meter.readable
    assert meter.read() == 0.0
    zone(tmp_path, "intel-rapl:0", "package-0", 6_500_000)
    zone(tmp_path, "intel-rapl:1", "package-1", 9_000_000)
    assert meter.read() == pytest.approx(3.5)
    assert meter.read() == pytest.approx(3.5)


def test_parts_and_the_whole_machine_are_not_counted_twice(tmp_path: Path) -> None:
    for folder, name in (
        ("intel-rapl", "intel-rapl"), ("intel-rapl:0", "package-0"), ("intel-rapl:0:0", "core"), ("intel-rapl:1", "psys"),
    ):  # fmt: skip
        zone(tmp_path, folder, name, 0)
    meter = EnergyMeter(tmp_path)
    for folder, name in (("intel-rapl:0", "package-0"), ("intel-rapl:0:0", "core"), ("intel-rapl:1", "psys")):
        zone(tmp_path, folder, name, 2_000_000)
    assert meter.read() == pytest.approx(2.0)


def test_a_counter_that_begins_again(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 9_000_000, most=10_000_000)
    meter = EnergyMeter(tmp_path)
    zone(tmp_path, "intel-rapl:0", "package-0", 500_000, most=10_000_000)
    assert meter.read() == pytest.approx(1.5)
    zone(tmp_path, "intel-rapl:0", "package-0", 800_000, most=10_000_000)
    assert meter.read() == pytest.approx(1.8)


def test_a_zone_that_goes_away_counts_no_further(tmp_path: Path) -> None:
    found = zone(tmp_path, "intel-rapl:0", "package-0", 0)
    meter = EnergyMeter(tmp_path)
    zone(tmp_path, "intel-rapl:0", "package-0", 1_000_000)
    assert meter.read() == pytest.approx(1.0)
    (found / "energy_uj").unlink()
    assert meter.read() == pytest.approx(1.0)


@pytest.mark.parametrize("content", ["", "much", None])
def test_what_cannot_be_read_is_not_there(tmp_path: Path, content: str | None) -> None:
    found = zone(tmp_path, "intel-rapl:0", "package-0", 0)
    if content is None:
        (found / "energy_uj").unlink()
    else:
        (found / "energy_uj").write_text(content)
    meter = EnergyMeter(tmp_path)
    assert not meter.readable
    assert meter.read() == 0.0


def test_a_machine_without_counters(tmp_path: Path) -> None:
    assert not EnergyMeter(tmp_path / "nowhere").readable
    zone(tmp_path, "thermal", "package-0", 1)
    assert not EnergyMeter(tmp_path).readable
