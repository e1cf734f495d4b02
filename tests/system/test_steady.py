"""The judgement of the long run under a steady load: what is flat, and what is not."""

import dataclasses

import pytest

from tests.system.steady import Look, line, trend

MIB = 1 << 20


@dataclasses.dataclass
class Case:
    growth: float = 0.0
    files: int = 0
    threads: int = 0


def looks(case: Case, count: int = 200) -> list[Look]:
    """A process that fills its caches first, jitters, and takes more at the end."""
    found = []
    for at in range(count):
        grown = case.growth * max(0.0, at / count - 0.2) / 0.7
        memory = min(1.0, 0.5 + at / 50) * (100 + at % 3 / 10) * MIB * (1 + grown)
        found.append(Look(int(memory), 20 + at % 2 + (case.files if at > 150 else 0), 8 + (case.threads if at > 150 else 0)))
    return found


@pytest.mark.parametrize(
    ("case", "flat"),
    [
        (Case(), True),
        (Case(growth=0.01), True),
        (Case(growth=-0.2), True),
        (Case(growth=0.06), False),
        (Case(files=1), False),
        (Case(threads=1), False),
    ],
)
def test_three_per_cent_a_file_or_a_thread_more_is_not_flat(case: Case, flat: bool) -> None:
    found = trend(looks(case))
    assert found.flat is flat
    assert line("agent", found).endswith(": flat" if flat else ": NOT FLAT")


def test_filling_up_at_the_beginning_does_not_count() -> None:
    found = trend(looks(Case()))
    assert found.first.memory == pytest.approx(100 * MIB, rel=0.01)
    assert abs(found.growth) < 0.005


def test_a_short_run_is_judged_too() -> None:
    assert trend([Look(MIB, 1, 1)]).flat
