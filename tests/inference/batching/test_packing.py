"""Feeds packed into requests: none lost, none doubled, in order, never over the bound; the answers come back to their feeds."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from skerry.core.errors import InsufficientResources, RejectedError
from skerry.inference.batching.batcher import Ticket
from skerry.inference.batching.packing import cut_rows, join_answers, pack, raise_first
from skerry.inference.batching.runs import Runner
from skerry.inference.batching.sync import SyncInference
from skerry.inference.engine.opening import open_session

few = settings(max_examples=30, deadline=None)

Feed = dict[str, np.ndarray]
FEEDS = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 3)), max_size=25)  # rows and columns of each


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """y = 2 x of any width, twice: the second output is a negative."""
    value = helper.make_tensor_value_info
    shape = ["N", "wide"]
    nodes = [helper.make_node("Add", ["x", "x"], ["y"]), helper.make_node("Neg", ["x"], ["z"])]
    outputs = [value(name, TensorProto.FLOAT, shape) for name in ("y", "z")]
    graph = helper.make_graph(nodes, "g", [value("x", TensorProto.FLOAT, shape)], outputs)
    made = tmp_path_factory.mktemp("packing") / "m.onnx"
    made.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())
    return made


@pytest.fixture(scope="module")
def runner(path: Path) -> Runner:
    return Runner(open_session(path), "rows", "")


@pytest.fixture(scope="module")
def model(path: Path) -> Iterator[SyncInference]:
    with SyncInference.load(path) as loaded:
        assert loaded.batching.kind == "rows"
        yield loaded


def numbered(shapes: Sequence[tuple[int, int]]) -> list[Feed]:
    """Feeds whose numbers are all different, so that a row that went astray is seen."""
    feeds, at = [], 0
    for rows, columns in shapes:
        size = rows * columns
        feeds.append({"x": np.arange(at, at + size, dtype=np.float32).reshape(rows, columns)})
        at += size
    return feeds


@few
@given(FEEDS, st.integers(1, 12))
def test_every_feed_is_in_one_request_and_none_is_over_the_bound(runner: Runner, shapes: list[tuple[int, int]], most: int) -> None:
    runner.max_batch = most
    feeds = numbered(shapes)
    tickets, places = pack(runner, feeds, None)
    assert sorted(at for place in places for at in place) == list(range(len(feeds)))
    for ticket, place in zip(tickets, places, strict=True):
        assert place == sorted(place)
        assert [part[1]["x"] is feeds[at]["x"] for part, at in zip(ticket.parts, place, strict=True)] == [True] * len(place)
        assert ticket.rows == sum(part[0] for part in ticket.parts)
        assert len(place) == 1 or ticket.rows <= most
        assert len({shapes[at][1] for at in place}) == 1, "rows of one width only"
    lone = [place for ticket, place in zip(tickets, places, strict=True) if ticket.group is None]
    assert sorted(lone) == [[at] for at, (rows, _) in enumerate(shapes) if rows == 0]


@few
@given(FEEDS, st.integers(1, 12))
def test_no_two_neighbours_of_one_width_could_have_been_one(runner: Runner, shapes: list[tuple[int, int]], most: int) -> None:
    runner.max_batch = most
    tickets, _ = pack(runner, numbered(shapes), None)
    last: dict[Any, Ticket] = {}
    for ticket in tickets:
        if ticket.group is None:
            continue
        if ticket.group in last:
            assert last[ticket.group].rows + ticket.parts[0][0] > most
        last[ticket.group] = ticket


@settings(max_examples=40, deadline=None)
@given(FEEDS, st.integers(1, 12))
def test_each_answer_is_that_of_its_feed(model: SyncInference, shapes: list[tuple[int, int]], most: int) -> None:
    feeds = numbered(shapes)
    model._runner.max_batch = most
    answers = model.batch_infer(feeds)
    assert len(answers) == len(feeds)
    for feed, answer in zip(feeds, answers, strict=True):
        assert np.array_equal(answer["y"], feed["x"] * 2)
        assert np.array_equal(answer["z"], -feed["x"])


@few
@given(st.integers(0, 20), st.lists(st.integers(0, 20), max_size=5))
def test_cut_and_joined_it_is_the_same_again(rows: int, cuts: list[int]) -> None:
    feed = {"x": np.arange(rows * 2).reshape(rows, 2), "w": np.arange(rows)}
    bounds = sorted({0, rows, *(min(cut, rows) for cut in cuts)})
    if len(bounds) == 1:
        bounds = [0, 0]
    parts = [cut_rows(feed, first, end) for first, end in pairwise(bounds)]
    assert sum(count for count, _ in parts) == rows
    assert all(part["x"].base is feed["x"] or part["x"].base is feed["x"].base for _, part in parts), "nothing is copied"
    whole = join_answers([dict(part) for _, part in parts])
    assert all(np.array_equal(whole[name], feed[name]) for name in feed)


@pytest.mark.parametrize("at", [0, 3, 6])
def test_the_feed_that_does_not_fit_is_named(runner: Runner, at: int) -> None:
    runner.max_batch = 4
    feeds = numbered([(1, 2)] * 7)
    feeds[at] = {"x": feeds[at]["x"].astype(np.float64)}
    with pytest.raises(RejectedError, match="expected dtype float32, got float64; use astype") as caught:
        pack(runner, feeds, None)
    assert caught.value.where == f"feed {at}"


def test_an_output_that_is_not_there_is_refused_before_anything_is_packed(runner: Runner) -> None:
    with pytest.raises(RejectedError, match="there is no output 'level'; outputs: y, z"):
        pack(runner, [{"x": np.zeros(5)}], ["level"])
    tickets, _ = pack(runner, numbered([(1, 2)]), ["z"])
    assert tickets[0].wanted == ("z",)
    assert pack(runner, [], None) == ([], [])


def test_those_who_want_other_outputs_share_no_run(runner: Runner) -> None:
    (one,), _ = pack(runner, numbered([(1, 2)]), ["z"])
    (other,), _ = pack(runner, numbered([(1, 2)]), None)
    assert one.group != other.group


def test_the_first_error_is_raised_and_says_which_feed_it_was() -> None:
    good: dict[str, Any] = {"y": np.zeros(1)}
    raise_first([good, good])
    raise_first([])
    first, second = RejectedError("too wide", where="input 'x'", mend="cut it"), RejectedError("too late")
    with pytest.raises(RejectedError) as caught:
        raise_first([good, first, second])
    assert str(caught.value) == "feed 1, input 'x': too wide; cut it"
    with pytest.raises(RejectedError, match=r"^feed 2: too late$"):
        raise_first([good, good, second])
    short = InsufficientResources("no memory")
    with pytest.raises(InsufficientResources) as other:
        raise_first([good, short, second])
    assert other.value is short
