"""Which worker of a node runs which unit, and which units none of them can be running any more. Pure."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from skerry.pipeline import parse_unit
from skerry.worker.protocol import Report


class Share:
    """The units of one worker, as the agent knows them.

    Attributes:
        units: those that it is to run; None: the partition of its own number of all pipelines.
        turn: counts the changes, so that a report of before one is not taken for an answer to it.
        lease: until when it may work, by the monotonic clock.
    """

    def __init__(self, units: list[str] | None = None) -> None:
        self.units = units
        self.turn = 0
        self.lease: float | None = None
        self._perhaps: set[str] = set()

    def give(self, units: list[str]) -> None:
        """Run these from now on."""
        self._perhaps |= {*(self.units or ()), *units}
        self.units = units
        self.turn += 1

    def held(self, report: Report | None) -> set[str]:
        """The units that it is to run, or may not have stopped yet; `report`: its last, None while the process is not there."""
        given = set(self.units or ())
        if report is None:
            self._perhaps = given
        elif report.turn >= self.turn:
            self._perhaps = given | set(report.units)
        return set(self._perhaps)


def partitions_of(reports: Iterable[Report]) -> dict[str, int]:
    """How many partitions of each pipeline the workers of these reports have."""
    return Counter(parse_unit(unit)[0] for report in reports for unit in report.units)


def deal(units: Collection[str], before: Mapping[str, int], workers: int) -> dict[str, int]:
    """Which worker runs which unit: it stays where it is, else where the fewest of its pipeline are, and the fewest at all."""
    dealt = {unit: before[unit] for unit in units if unit in before}
    for unit in sorted(set(units) - set(dealt)):
        pipeline = parse_unit(unit)[0]
        mine = [(sum(parse_unit(u)[0] == pipeline for u, w in dealt.items() if w == at), at) for at in range(workers)]
        dealt[unit] = min((same, sum(w == at for w in dealt.values()), at) for same, at in mine)[2]
    return dealt
