"""What fits and what does not: every misfit names the input, what was expected and what came."""

import ml_dtypes
import numpy as np
import pytest

from skerry.core.errors import RejectedError
from skerry.inference.engine.signature import Signature, check_feed, dtype_name, numpy_dtype

X = Signature("x", "float32", (None, 3))
WORDS = Signature("words", "string", (None, 1))


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("tensor(float)", "float32"),
        ("tensor(double)", "float64"),
        ("tensor(int8)", "int8"),
        ("tensor(string)", "string"),
        ("tensor(bfloat16)", "bfloat16"),
        ("seq(tensor(float))", "seq(tensor(float32))"),
        ("seq(map(int64,tensor(double)))", "seq(map(int64,tensor(float64)))"),
        ("optional(tensor(int64))", "optional(tensor(int64))"),
    ],
)
def test_types_have_numpys_names(theirs: str, ours: str) -> None:
    assert dtype_name(theirs) == ours
    assert Signature("x", ours, ()).tensor == ("(" not in ours)


@pytest.mark.parametrize(
    "name", ["float32", "float16", "int64", "bool", "uint8", "bfloat16", "float8e4m3fn", "float8e5m2fnuz", "int4"]
)
def test_every_dtype_has_an_array(name: str) -> None:
    rows = np.zeros((2, 3), numpy_dtype(name))
    assert check_feed([Signature("x", name, (None, 3))], {"x": rows})["x"] is rows
    with pytest.raises(RejectedError, match=f"input 'x': expected dtype {name}, got complex64"):
        check_feed([Signature("x", name, (None, 3))], {"x": np.zeros((2, 3), np.complex64)})


def test_a_bfloat16_is_not_another_half() -> None:
    with pytest.raises(RejectedError, match="expected dtype float16, got bfloat16; use astype"):
        check_feed([Signature("x", "float16", (None, 3))], {"x": np.zeros((1, 3), ml_dtypes.bfloat16)})


def test_what_is_no_tensor_has_no_dtype() -> None:
    with pytest.raises(TypeError):
        numpy_dtype("seq(tensor(float32))")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (np.zeros((2, 3)), "expected dtype float32, got float64; use astype('float32')"),
        (np.zeros((2, 3), np.int64), "expected dtype float32, got int64"),
        (np.zeros((2, 3), ">f4"), "got float32 in foreign byte order"),
        (np.zeros((2, 4), np.float32), "expected shape [N, 3], got [2, 4]"),
        (np.zeros(3, np.float32), "expected 2 dimensions [N, 3], got 1 [3]"),
        (np.zeros((1, 2, 3), np.float32), "expected 2 dimensions [N, 3], got 3 [1, 2, 3]"),
        ([[1.0, 2.0, 3.0]], "expected a numpy array of float32 [N, 3], got list"),
        (1.0, "expected a numpy array of float32 [N, 3], got float"),
        (None, "got NoneType"),
    ],
)
def test_a_misfit_is_one_sentence(value: object, told: str) -> None:
    with pytest.raises(RejectedError) as caught:
        check_feed([X], {"x": value})
    assert told in str(caught.value)
    assert str(caught.value).startswith("input 'x': ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rows", [0, 1, 1000])
def test_any_number_of_rows_fits(rows: int) -> None:
    array = np.zeros((rows, 3), np.float32)
    assert check_feed([X], {"x": array}) == {"x": array} or rows


def test_names_must_be_those_of_the_model() -> None:
    array = np.zeros((1, 3), np.float32)
    with pytest.raises(RejectedError, match=r"input 'x' is missing: expected x float32 \[N, 3\], got X"):
        check_feed([X], {"X": array})
    with pytest.raises(RejectedError, match=r"there is no input 'xs', did you mean 'x'\?; inputs: x float32 \[N, 3\]"):
        check_feed([X], {"x": array, "xs": array})
    with pytest.raises(RejectedError, match="there is no input 'x'; inputs: none"):
        check_feed([], {"x": array})


def test_the_feed_comes_in_the_models_order() -> None:
    y = Signature("y", "float32", (None, 3))
    array = np.zeros((1, 3), np.float32)
    assert list(check_feed([X, y], {"y": array, "x": array})) == ["x", "y"]


def test_an_open_rank_takes_any() -> None:
    for shape in ((), (2,), (2, 3)):
        check_feed([Signature("x", "float32", ())], {"x": np.zeros(shape, np.float32)})


def test_strings_are_text_and_nothing_else() -> None:
    for array in (np.array([["a"], ["b"]]), np.array([["a"], ["b"]], object), np.empty((0, 1), object)):
        assert check_feed([WORDS], {"words": array})["words"] is array
    for wrong, told in (
        (np.array([[b"a"]]), "expected strings, got bytes8"),
        (np.array([[b"a"]], object), "expected strings, got bytes b'a'"),
        (np.array([["a"], [5]], object), "expected strings, got int 5"),
        (np.array([[1.0]]), "expected strings, got float64"),
    ):
        with pytest.raises(RejectedError, match=f"input 'words': {told}"):
            check_feed([WORDS], {"words": wrong})


def test_a_sequence_is_the_engines_to_check() -> None:
    sequence = [np.zeros(3, np.float32)]
    assert check_feed([Signature("s", "seq(tensor(float32))", ())], {"s": sequence})["s"] is sequence


def test_shapes_are_shown_as_people_write_them() -> None:
    assert str(Signature("x", "int64", (None, 3, None))) == "int64 [N, 3, ?]"
    assert str(Signature("x", "int64", ())) == "int64 []"
