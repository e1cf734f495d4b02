"""A tree of tasks: children end with their parents, failures are kept, and the end leaves nobody."""

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.core.clock import ManualClock, SystemClock
from skerry.core.errors import OverloadedError, UnavailableError
from skerry.runtime.tasks import Failure, Tasks
from tests.fixtures.nats import until


async def for_ever() -> None:
    await asyncio.Event().wait()


async def answer(value: int) -> int:
    await asyncio.sleep(0)
    return value


@pytest.fixture
def tasks() -> Tasks:
    return Tasks(100, SystemClock())


@pytest.mark.asyncio
async def test_a_task_answers_and_is_named_while_it_lives() -> None:
    clock = ManualClock()
    tasks = Tasks(10, clock)
    first = tasks.spawn(for_ever(), "reader")
    clock.advance(2_500_000)
    assert tasks.names() == {"reader": 2.5}
    assert await tasks.spawn(answer(7), "one") == 7
    assert len(tasks) == 1
    assert await tasks.close(1) == []
    assert first.cancelled()
    assert tasks.names() == {}


@pytest.mark.asyncio
async def test_a_parent_is_done_when_its_children_are(tasks: Tasks) -> None:
    ends: list[str] = []
    go = asyncio.Event()

    async def child() -> None:
        await go.wait()
        ends.append("child")

    async def parent() -> str:
        tasks.spawn(child(), "child")
        return "said"

    running = tasks.spawn(parent(), "parent")
    await asyncio.sleep(0.01)
    assert not running.done()
    assert set(tasks.names()) == {"parent", "parent/child"}
    go.set()
    assert await running == "said"
    assert ends == ["child"]


@pytest.mark.asyncio
@pytest.mark.parametrize("how", ["cancelled", "fails"])
async def test_a_parent_that_does_not_return_takes_its_children_with_it(tasks: Tasks, how: str) -> None:
    ends: list[str] = []

    async def leaf(name: str) -> None:
        try:
            await for_ever()
        finally:
            await asyncio.sleep(0.01)  # an end may take time, and is waited for
            ends.append(name)

    async def middle() -> None:
        tasks.spawn(leaf("inner"), "leaf")
        await for_ever()

    async def parent() -> None:
        tasks.spawn(leaf("outer"), "leaf")
        tasks.spawn(middle(), "middle")
        await asyncio.sleep(0.01)
        if how == "fails":
            raise ValueError("no more")
        await for_ever()

    running = tasks.spawn(parent(), "parent")
    await asyncio.sleep(0.005)
    assert set(tasks.names()) == {"parent", "parent/leaf", "parent/middle", "parent/middle/leaf"}
    if how == "cancelled":
        running.cancel()
    with pytest.raises((ValueError, asyncio.CancelledError)):
        await running
    assert sorted(ends) == ["inner", "outer"]
    assert tasks.names() == {}


@pytest.mark.asyncio
async def test_a_failure_is_kept_and_logged_and_its_siblings_go_on(
    tasks: Tasks, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    async def fail() -> None:
        raise ValueError("the sensor is gone")

    async def parent() -> int:
        child = tasks.spawn(fail(), "fail")
        sibling = tasks.spawn(answer(3), "sibling")
        with pytest.raises(ValueError, match="the sensor is gone"):
            await child
        return await sibling

    assert await tasks.spawn(parent(), "parent") == 3
    assert list(tasks.failures) == [Failure("parent/fail", "ValueError", "the sensor is gone")]
    assert tasks.failed == 1
    # where it goes depends on whether the log was configured before
    assert "task parent/fail failed: the sensor is gone" in capsys.readouterr().out + caplog.text


@pytest.mark.asyncio
async def test_failures_that_are_kept_are_bounded(tasks: Tasks) -> None:
    async def fail(number: int) -> None:
        raise ValueError(str(number))

    await asyncio.gather(*[tasks.spawn(fail(number), "f") for number in range(80)], return_exceptions=True)
    assert tasks.failed == 80
    assert [failure.message for failure in tasks.failures] == [str(number) for number in range(16, 80)]


@pytest.mark.asyncio
async def test_what_is_supervised_is_started_again(tasks: Tasks) -> None:
    lives: list[int] = []

    async def life() -> None:
        lives.append(len(lives))
        if len(lives) < 3:
            raise ValueError("again")
        await for_ever()

    running = tasks.supervise(life, "service")
    await until(lambda: len(lives) == 3)
    assert not running.done()
    assert await tasks.close(1) == []
    assert lives == [0, 1, 2]


@pytest.mark.asyncio
async def test_tasks_are_bounded_and_none_starts_after_the_end() -> None:
    tasks = Tasks(2, SystemClock())
    kept = [tasks.spawn(for_ever(), name) for name in "ab"]
    with pytest.raises(OverloadedError, match="c: 2 tasks run already; wait for some to end"):
        tasks.spawn(answer(1), "c")
    await tasks.close(1)
    assert all(task.cancelled() for task in kept)
    with pytest.raises(UnavailableError, match="d: the runtime is shut down"):
        tasks.spawn(answer(1), "d")


@pytest.mark.asyncio
async def test_the_end_names_who_does_not_end_in_time(tasks: Tasks) -> None:
    let_go = asyncio.Event()

    async def stubborn() -> None:
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue

    async def parent() -> None:
        tasks.spawn(stubborn(), "stubborn")
        await for_ever()

    tasks.spawn(parent(), "parent")
    tasks.spawn(for_ever(), "tame")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert await tasks.close(0.05) == ["parent", "parent/stubborn"]
    let_go.set()
    await until(lambda: len(tasks) == 0)


@pytest.mark.asyncio
async def test_a_task_that_is_cancelled_before_it_begins_leaves_nothing(tasks: Tasks) -> None:
    running = tasks.spawn(answer(1), "never")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert running.cancelled()
    assert len(tasks) == 0


TREES: st.SearchStrategy[list[Any]] = st.recursive(st.just([]), lambda children: st.lists(children, max_size=3), max_leaves=12)


@settings(max_examples=25, deadline=None)
@given(TREES, st.integers(0, 3))
def test_whatever_grew_ends_with_its_root(tree: list[Any], turns: int) -> None:
    async def grow() -> None:
        tasks = Tasks(1000, SystemClock())
        begun, ended = [0], [0]

        async def node(children: list[Any]) -> None:
            begun[0] += 1
            try:
                for at, child in enumerate(children):
                    tasks.spawn(node(child), str(at))
                await for_ever()
            finally:
                ended[0] += 1

        root = tasks.spawn(node(tree), "root")
        for _ in range(turns):
            await asyncio.sleep(0)
        root.cancel()
        await asyncio.gather(root, return_exceptions=True)
        assert begun == ended
        assert len(tasks) == 0
        assert tasks._children == {None: set()}

    asyncio.run(grow())
