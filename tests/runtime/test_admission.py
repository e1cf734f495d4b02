"""Who runs where not all fit in: by priority, and nobody goes who need not."""

from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.runtime import Claim, ResourceUsage, admit

MIB = 1 << 20
LIMITS = ResourceUsage(memory=512 * MIB, cpu=2.0)
NODE = {"agent": ResourceUsage(memory=96 * MIB), "nats-server": ResourceUsage(memory=64 * MIB)}


def claim(name: str, memory: float, priority: int = 0, cpu: float = 0.0) -> Claim:
    return Claim(name, ResourceUsage(memory=memory * MIB, cpu=cpu), priority)


def test_the_highest_priority_is_first_and_of_one_priority_the_order_of_the_file() -> None:
    found = admit(LIMITS, NODE, [claim("a", 200), claim("b", 200), claim("c", 200, 5)])
    assert found.admitted == ("c",)
    assert found.pending == {
        "a": "needs 200 MiB, 152 MiB free; held by c (200 MiB), agent (96 MiB), nats-server (64 MiB)",
        "b": "needs 200 MiB, 152 MiB free; held by c (200 MiB), agent (96 MiB), nats-server (64 MiB)",
    }
    assert admit(LIMITS, NODE, [claim("a", 200), claim("b", 200)]).admitted == ("a",)


def test_who_waits_holds_up_nobody_who_fits() -> None:
    found = admit(LIMITS, NODE, [claim("large", 1000, 9), claim("small", 8)])
    assert found.admitted == ("small",)
    assert found.pending == {"large": "needs 1000 MiB, the limit is 512 MiB"}


def test_what_asks_for_nothing_always_runs() -> None:
    over = {"agent": ResourceUsage(memory=600 * MIB)}
    assert admit(LIMITS, over, [claim("a", 0), claim("b", 1)]).admitted == ("a",)


def test_each_kind_that_is_short_is_named() -> None:
    found = admit(LIMITS, NODE, [claim("a", 300, cpu=1.5), claim("b", 60, cpu=0.75), claim("c", 64, cpu=0.25)])
    assert found.admitted == ("a",)
    assert found.pending["b"] == (
        "needs 60 MiB, 52 MiB free; held by a (300 MiB), agent (96 MiB), nats-server (64 MiB); "
        "needs 0.75 cores, 0.5 cores free; held by a (1.5 cores)"
    )
    assert found.pending["c"] == "needs 64 MiB, 52 MiB free; held by a (300 MiB), agent (96 MiB), nats-server (64 MiB)"


def test_who_runs_goes_for_a_higher_priority_only_and_only_who_must() -> None:
    claims = [claim("a", 100), claim("b", 20), claim("c", 200, 1), claim("d", 130, 2)]
    running = ("a", "b", "c")
    assert admit(LIMITS, NODE, [*claims[:3], claim("d", 130)], running).making_room == {}, "not for one of its own priority"
    found = admit(LIMITS, NODE, claims, running)
    assert found.making_room == {"a": "d"}, "b goes first, being the last, and need not once a has gone"
    assert found.admitted == ("c", "a", "b"), "it runs until it has gone"
    assert found.pending == {"d": "needs 130 MiB, 32 MiB free; held by c (200 MiB), a (100 MiB), agent (96 MiB) and 2 others"}
    gone = admit(LIMITS, NODE, claims, ("b", "c"))
    assert gone.admitted == ("d", "c", "b")
    assert gone.making_room == {}
    assert list(gone.pending) == ["a"]


def test_nobody_goes_where_that_would_not_help() -> None:
    found = admit(LIMITS, NODE, [claim("a", 100), claim("b", 400, 1)], ("a",))
    assert found.making_room == {}
    assert found.admitted == ("a",)


_amounts = st.tuples(st.integers(0, 300), st.integers(-2, 2), st.sampled_from([0, 0.1, 0.7, 1.9]))
claims_of = st.lists(_amounts, max_size=8).map(lambda rows: [claim(f"p{at}", *row) for at, row in enumerate(rows)])


@settings(max_examples=150, deadline=None)
@given(claims_of, st.randoms(use_true_random=False))
def test_going_step_by_step_ends_and_leaves_no_room_that_a_higher_priority_could_have(claims: list[Claim], random) -> None:  # type: ignore[no-untyped-def] # hypothesis gives it
    running: tuple[str, ...] = admit(LIMITS, NODE, random.sample(claims, len(claims) // 2)).admitted
    for _ in range(2 * len(claims) + 2):
        found = admit(LIMITS, NODE, claims, running)
        assert set(found.admitted) | set(found.pending) == {each.name for each in claims}
        assert not set(found.admitted) & set(found.pending)
        assert set(running) - set(found.admitted) == set(), "nobody goes but by the hand of who asked"
        after = tuple(name for name in found.admitted if name not in found.making_room)
        if after == running and not found.making_room:
            break
        running = after
    else:
        raise AssertionError("it never settles")
    by_name = {each.name: each for each in claims}
    used = sum(by_name[name].needs.memory for name in running) + 160 * MIB
    assert used <= LIMITS.memory
    assert sum(by_name[name].needs.cpu for name in running) <= LIMITS.cpu + 1e-9
    for name in found.pending:
        waiting = by_name[name]
        kept = sum(each.needs.memory for each in claims if each.name in running and each.priority >= waiting.priority)
        cores = sum(each.needs.cpu for each in claims if each.name in running and each.priority >= waiting.priority)
        short = kept + 160 * MIB + waiting.needs.memory > LIMITS.memory or cores + waiting.needs.cpu > LIMITS.cpu + 1e-9
        assert short, f"{name} could run in place of lower priorities"
