"""Made-up inputs fit what they are made for; outputs are compared as people mean it."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from onnx import helper, numpy_helper

from skerry.inference.engine.opening import open_session
from skerry.inference.engine.samples import OPEN_SIZES, agree, first_rows, join, rows_of, sample_feed
from skerry.inference.engine.signature import Signature, check_feed, numpy_dtype
from skerry.inference.graph.prepare import prepare
from tests.inference.conftest import FLOAT, MakeModel

few = settings(max_examples=30, deadline=None)

DTYPES = [
    *("float16", "float32", "float64", "complex64", "int8", "uint8", "int32", "int64", "uint64", "bool", "string"),
    *("bfloat16", "float8e4m3fn", "float8e5m2", "int4", "uint4"),
]
SHAPES = st.lists(st.one_of(st.none(), st.integers(1, 4)), max_size=4).map(tuple)
SIGNATURES = st.lists(st.builds(Signature, st.text(min_size=1, max_size=3), st.sampled_from(DTYPES), SHAPES), max_size=4).map(
    lambda found: list({each.name: each for each in found}.values())
)
FLOATS = st.floats(-1e3, 1e3, width=32)


@few
@given(SIGNATURES, st.integers(0, 5), st.sampled_from(OPEN_SIZES[:3]), st.integers(0, 9))
def test_a_made_up_feed_fits_and_is_the_same_again(inputs: list[Signature], rows: int, size: int, seed: int) -> None:
    feed = sample_feed(inputs, rows, size, seed)
    assert list(check_feed(inputs, feed)) == [each.name for each in inputs]
    for each in inputs:
        wanted = tuple((rows if at == 0 else size) if known is None else known for at, known in enumerate(each.shape))
        assert feed[each.name].shape == wanted
        assert feed[each.name].dtype == numpy_dtype(each.dtype)
    again = sample_feed(inputs, rows, size, seed)
    assert all(agree(feed[name], again[name]) for name in feed)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16", "string"])
def test_rows_differ_from_each_other(dtype: str) -> None:
    """Else rows that are mixed up would look as if they were right."""
    rows = sample_feed([Signature("x", dtype, (None, 8))], 3)["x"].tolist()
    assert rows[0] != rows[1] != rows[2] != rows[0]
    other = sample_feed([Signature("x", dtype, (None, 8))], 3, seed=1)["x"].tolist()
    assert rows != other


@pytest.mark.parametrize("dtype", ["int8", "int64", "uint8", "bool"])
def test_whole_numbers_are_indices_of_anything(dtype: str) -> None:
    found = sample_feed([Signature("x", dtype, (None, 100))], 2)["x"]
    assert set(found.astype(int).ravel().tolist()) == {0, 1}


@pytest.mark.parametrize("dtype", ["seq(tensor(float32))", "map(int64,tensor(float32))", "optional(tensor(float32))"])
def test_of_what_is_no_tensor_nothing_is_made_up(dtype: str) -> None:
    with pytest.raises(TypeError):
        sample_feed([Signature("x", dtype, (None,))], 1)


@few
@given(arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(0, 3)), elements=FLOATS), st.integers(0, 12))
def test_rows_are_repeated_in_their_order(array: np.ndarray, rows: int) -> None:
    found = first_rows({"x": array}, rows)["x"]
    assert found.shape == (rows, array.shape[1])
    assert found.dtype == array.dtype
    assert all(np.array_equal(found[at], array[at % len(array)]) for at in range(rows))


@few
@given(st.lists(arrays(np.float32, st.tuples(st.integers(0, 4), st.just(2)), elements=FLOATS), min_size=1, max_size=5))
def test_joined_is_what_the_parts_are_one_after_the_other(parts: list[np.ndarray]) -> None:
    whole = join(parts)
    assert rows_of(whole) == sum(rows_of(part) for part in parts)
    at = 0
    for part in parts:
        assert np.array_equal(whole[at : at + len(part)], part)
        at += len(part)
    lists = [part.tolist() for part in parts]
    assert join(lists) == whole.tolist()


def test_what_has_no_rows_says_so() -> None:
    assert [rows_of(value) for value in (np.zeros((3, 2)), [1, 2], np.float32(1), np.array(1.0), {"a": 1}, None)] == [
        3, 2, -1, -1, -1, -1,
    ]  # fmt: skip


KINDS = st.sampled_from([np.float16, np.float32, np.float64, np.int64, np.bool_, np.complex64])
ANYTHING = KINDS.flatmap(lambda kind: arrays(kind, array_shapes(min_dims=0, max_dims=3, max_side=3)))


@few
@given(ANYTHING)
def test_everything_agrees_with_itself(array: np.ndarray) -> None:
    assert agree(array, array.copy())
    assert agree([array, {"a": array}], [array.copy(), {"a": array.copy()}])


@few
@given(ANYTHING, ANYTHING)
def test_agreeing_is_mutual_in_shape_and_dtype(one: np.ndarray, other: np.ndarray) -> None:
    if one.shape != other.shape or one.dtype != other.dtype:
        assert not agree(one, other)
        assert not agree(other, one)


@few
@given(arrays(np.float32, (4,), elements=st.floats(-1e6, 1e6, width=32)), st.integers(0, 3), st.floats(0.02, 1e6))
def test_what_is_more_than_rounding_is_not_equal(array: np.ndarray, at: int, by: float) -> None:
    other = array.astype(np.float64)
    other[at] += (abs(other[at]) + 1) * by
    assert not agree(array.astype(np.float64), other)
    rounded = array.astype(np.float64) * (1 + 1e-7)
    assert agree(array.astype(np.float64), rounded)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([np.zeros(2)], [np.zeros(2), np.zeros(2)]),
        ({"a": 1.0}, {"b": 1.0}),
        ([{1: 0.25, 2: 0.75}], [{1: 0.75, 2: 0.25}]),
        (np.array([np.nan]), np.array([0.0])),
        (np.array([np.inf]), np.array([-np.inf])),
        (np.array(["a", "b"], object), np.array(["a", "c"], object)),
        (np.array([True]), np.array([False])),
        (np.array([2**53 + 1]), np.array([2**53])),
    ],
)
def test_what_differs_does_not_agree(one: Any, other: Any) -> None:
    assert agree(one, one)
    assert agree(other, other)
    assert not agree(one, other)


def test_exotic_floats_are_compared_as_numbers() -> None:
    bfloat = numpy_dtype("bfloat16")
    one = np.array([1.0, np.nan, np.inf]).astype(bfloat)
    assert agree(one, one.copy())
    assert not agree(one, np.array([1.5, np.nan, np.inf]).astype(bfloat))
    assert not agree(one, one.astype(np.float32))


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 4), st.lists(st.integers(1, 3), min_size=1, max_size=2))
def test_made_up_rows_run_in_a_model_that_was_freed(batch: int, inner: list[int]) -> None:
    """The whole chain: a fixed batch is freed, and rows of any number run and agree with those that run alone."""
    value = helper.make_tensor_value_info
    shape = [batch, *inner]
    graph = helper.make_graph([helper.make_node("Tanh", ["x"], ["y"])], "g", [value("x", FLOAT, shape)], [value("y", FLOAT, shape)])
    with TemporaryDirectory() as folder:
        path = Path(folder) / "m.onnx"
        path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())
        prepared = prepare(path, Path(folder))
        assert prepared.batch == "freed"
        session = open_session(prepared.path)
        feed = sample_feed(session.inputs, batch + 2)
        alone = [session.run({"x": feed["x"][at : at + 1]})["y"] for at in range(batch + 2)]
        assert agree(session.run(feed)["y"], join(alone))
        session.close()


def test_a_model_of_one_open_width_takes_one_of_the_sizes(make_model: MakeModel) -> None:
    for wide in OPEN_SIZES:
        weights = numpy_helper.from_array(np.ones((wide, 1), np.float32), "w")
        node = helper.make_node("MatMul", ["x", "w"], ["y"])
        path = make_model([node], [("y", FLOAT, ["N", 1])], shape=("N", "wide"), constants=[weights])
        session = open_session(path)
        assert session.run(sample_feed(session.inputs, 2, wide))["y"].shape == (2, 1)
        session.close()
