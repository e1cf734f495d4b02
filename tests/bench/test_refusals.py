"""The rows "refusals": what tells two samples apart, and what does not. Real refusals are in `test_logins`."""

import random
import statistics

from bench.refusals import auc, bound, noise, worst


def test_auc_of_what_is_known() -> None:
    assert auc([1, 2, 3], [4, 5, 6]) == 1.0
    assert auc([4, 5, 6], [1, 2, 3]) == 0.0
    assert auc([1, 2], [1, 2]) == 0.5
    assert auc([1, 1, 1], [1, 1]) == 0.5
    assert auc([1, 3], [2, 2]) == 0.5


def test_noise_stays_within_the_bound_and_a_difference_does_not() -> None:
    rng = random.Random(3)

    def sample(shift: float = 0.0) -> list[float]:
        return [rng.lognormvariate(0, 0.3) + shift for _ in range(300)]

    alike = [abs(auc(sample(), sample()) - 0.5) / bound(300, 300) for _ in range(100)]
    assert max(alike) < 1
    assert statistics.median(alike) < 0.4
    distance, value, pair = worst({"a": sample(), "b": sample(), "late": sample(0.3)})
    assert distance > 1
    assert value > 0.7
    assert pair.endswith("late")


def test_what_looks_like_a_signature_is_new_each_time() -> None:
    assert len({noise() for _ in range(5)}) == 5
    assert len(noise()) == 88
