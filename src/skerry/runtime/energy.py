"""Energy that the processor packages have used, from the counters of RAPL where the kernel lets them be read."""

import re
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
_PACKAGE = re.compile(r"(?:intel|amd)-rapl:\d+")


class EnergyMeter:
    """Joules of all processor packages of this machine since this object was made.

    The kernel counts in microjoules and begins again at `max_energy_range_uj`, after some minutes to hours under load: read it
    more often than that. Since Linux 5.10 the counters are for root only.

    Args:
        root: where the kernel shows its power zones.
    """

    def __init__(self, root: Path = POWERCAP) -> None:
        self._last = {zone: count for zone in _packages(root) if (count := _count(zone / "energy_uj")) is not None}
        self._microjoules = 0

    @property
    def readable(self) -> bool:
        """Whether there is anything to be read."""
        return bool(self._last)

    def read(self) -> float:
        """Joules so far; a zone that cannot be read any more counts no further."""
        for zone, before in self._last.items():
            now = _count(zone / "energy_uj")
            if now is None:
                continue
            whole = _count(zone / "max_energy_range_uj") or 0
            self._microjoules += now - before if now >= before else max(0, now + whole - before)
            self._last[zone] = now
        return self._microjoules / 1e6


def _packages(root: Path) -> list[Path]:
    """The zones of whole packages: their parts are counted in them, and `psys` counts the packages once more."""
    try:
        found = sorted(zone for zone in root.iterdir() if _PACKAGE.fullmatch(zone.name))
    except OSError:
        return []
    return [zone for zone in found if _name(zone).startswith("package")]


def _name(zone: Path) -> str:
    try:
        return (zone / "name").read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _count(file: Path) -> int | None:
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
