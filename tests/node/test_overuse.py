"""Who is ended when a node is over its memory: the one furthest over what it holds, and nobody where that would not help."""

from hypothesis import given
from hypothesis import strategies as st

from skerry.node.overuse import LEAST_OVER, Taker, over_user

MIB = 1024 * 1024


def taker(name: str, used: int, holds: int) -> Taker:
    return Taker(name, used * MIB, holds * MIB)


def test_the_one_furthest_over_its_lease_goes_and_not_the_largest() -> None:
    takers = [taker("large", 600, 580), taker("leaky", 300, 100), taker("small", 120, 100)]
    found = over_user(takers, 1100 * MIB, 1024 * MIB)
    assert found is not None
    assert found.name == "leaky"


def test_within_the_limit_nobody_goes_however_far_over_its_lease() -> None:
    assert over_user([taker("leaky", 900, 100)], 1024 * MIB, 1024 * MIB) is None


def test_nobody_goes_where_that_does_not_mend_it() -> None:
    assert over_user([taker("one", 130, 100), taker("other", 140, 100)], 300 * MIB, 256 * MIB) is None, "as large in a moment again"
    assert over_user([taker("one", 300, 200)], 1000 * MIB, 500 * MIB) is None, "too small a limit for what is configured"
    assert over_user([], 2, 1) is None


@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 2000)), max_size=6), st.integers(0, 4000), st.integers(1, 4000))
def test_whoever_goes_brings_the_node_back(sizes: list[tuple[int, int]], rest: int, limit: int) -> None:
    takers = [taker(str(at), used, holds) for at, (used, holds) in enumerate(sizes)]
    total = rest * MIB + sum(each.used for each in takers)
    found = over_user(takers, total, limit * MIB)
    if found is not None:
        assert total > limit * MIB
        assert total - found.used + found.holds <= limit * MIB
        assert found.over >= LEAST_OVER
        assert all(each.over <= found.over for each in takers)
