"""The codec on requests that are right, and on those that lie."""

import contextlib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from skerry.core.errors import RejectedError
from skerry.serving.codec import DTYPES, decode_infer, encode_infer

NUMBERS = [name for name in DTYPES if name != "BYTES"]


def body(*inputs: dict[str, Any], tail: bytes = b"", **more: Any) -> tuple[bytes, str | None]:
    head = json.dumps({"inputs": list(inputs), **more}).encode()
    return head + tail, str(len(head)) if tail else None


def tensor(data: Any = None, *, shape: list[int], datatype: str = "FP32", name: str = "x", **parameters: Any) -> dict[str, Any]:
    row = {"name": name, "shape": shape, "datatype": datatype, "parameters": parameters}
    return row if data is None else {**row, "data": data}


def test_json_flat_and_nested() -> None:
    for data in ([1, 2.5, 3, 4], [[1, 2.5], [3, 4]]):
        found = decode_infer(*body(tensor(data, shape=[2, 2]), id="a"))
        assert found.id == "a"
        assert found.feed["x"].dtype == np.float32
        assert found.feed["x"].tolist() == [[1, 2.5], [3, 4]]


@given(st.sampled_from(NUMBERS), st.data())
def test_binary_round_trip(datatype: str, data: st.DataObject) -> None:
    shape = data.draw(arrays.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4))
    array = data.draw(arrays.arrays(DTYPES[datatype], shape))
    row = tensor(shape=list(shape), datatype=datatype, binary_data_size=array.nbytes)
    head = json.dumps({"inputs": [row], "parameters": {"binary_data_output": True}}).encode()
    found = decode_infer(head + array.tobytes(), str(len(head)))
    assert found.feed["x"].dtype == array.dtype
    assert found.feed["x"].tobytes() == array.tobytes()
    encoded, size = encode_infer("m", "1", found, {"y": found.feed["x"]})
    assert size is not None
    answer = json.loads(encoded[:size])["outputs"][0]
    assert (answer["datatype"], answer["shape"]) == (datatype, list(shape))
    assert encoded[size:] == array.tobytes()


@given(st.lists(st.text(max_size=8), max_size=5))
def test_text_round_trip(words: list[str]) -> None:
    packed = b"".join(len(word.encode()).to_bytes(4, "little") + word.encode() for word in words)
    row = tensor(shape=[len(words)], datatype="BYTES", binary_data_size=len(packed))
    head = json.dumps({"inputs": [row], "outputs": [{"name": "y", "parameters": {"binary_data": True}}]}).encode()
    found = decode_infer(head + packed, str(len(head)))
    assert found.feed["x"].tolist() == words
    encoded, size = encode_infer("m", "1", found, {"y": found.feed["x"]})
    assert size is not None
    assert encoded[size:] == packed


def test_nan_is_null_in_json_and_kept_in_binary() -> None:
    values = np.array([np.nan, np.inf, 1], np.float32)
    plain = decode_infer(*body(tensor([1], shape=[1])))
    assert json.loads(encode_infer("m", "1", plain, {"y": values})[0])["outputs"][0]["data"] == [None, None, 1]
    binary = decode_infer(*body(tensor([1], shape=[1]), parameters={"binary_data_output": True}))
    encoded, size = encode_infer("m", "1", binary, {"y": values})
    assert encoded[size:] == values.tobytes()


LIES: dict[str, tuple[tuple[bytes, str | None], str]] = {
    "empty": ((b"", None), "no inference request"),
    "not JSON": ((b"{", None), "no inference request"),
    "not an object": ((b"[1]", None), "no inference request"),
    "no inputs": ((b"{}", None), "no inference request"),
    "NaN is no JSON": ((b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[NaN]}]}', None), "no inference request"),
    "header too large": ((b"{}", "99"), "expected 0 to 2"),
    "header negative": ((b"{}", "-1"), "expected 0 to 2"),
    "header no number": ((b"{}", "x"), "expected 0 to 2"),
    "header enormous": ((b"{}", "9" * 5000), "expected 0 to 2"),
    "few elements": (body(tensor([1], shape=[2])), "1 elements, expected 2"),
    "many elements": (body(tensor([1, 2, 3], shape=[2])), "3 elements, expected 2"),
    "uneven": (body(tensor([[1, 2], [3]], shape=[3])), "nested unevenly"),
    "half nested": (body(tensor([[1], 2], shape=[2])), "nested unevenly"),
    "data no list": (body(tensor(1, shape=[1])), "expected a list"),
    "text for numbers": (body(tensor(["a"], shape=[1])), "is str, expected FP32"),
    "null for a number": (body(tensor([None], shape=[1])), "is NoneType, expected FP32"),
    "float for integer": (body(tensor([1.5], shape=[1], datatype="INT32")), "is float, expected INT32"),
    "bool for integer": (body(tensor([True], shape=[1], datatype="INT32")), "is bool, expected INT32"),
    "number for bool": (body(tensor([1], shape=[1], datatype="BOOL")), "is int, expected BOOL"),
    "out of range": (body(tensor([300], shape=[1], datatype="UINT8")), "out of the range of UINT8"),
    "below range": (body(tensor([-1], shape=[1], datatype="UINT64")), "out of the range of UINT64"),
    "too large a float": (body(tensor([10**400], shape=[1], datatype="FP64")), "out of the range of FP64"),
    "datatype": (body(tensor([1], shape=[1], datatype="FP128")), "'FP128' is not supported"),
    "negative shape": (body(tensor([1], shape=[-1])), "is not a shape"),
    "twice": (body(tensor([1], shape=[1]), tensor([1], shape=[1])), "is there twice"),
    "no data": (body(tensor(shape=[1])), "neither data nor"),
    "both": (body(tensor([1], shape=[1], binary_data_size=4), tail=b"1234"), "both data and"),
    "size over the body": (body(tensor(shape=[2], binary_data_size=8), tail=b"1234"), "4 bytes of binary data are left"),
    "size negative": (body(tensor(shape=[1], binary_data_size=-4), tail=b"1234"), "binary_data_size is -4"),
    "size a bool": (body(tensor(shape=[1], binary_data_size=True), tail=b"1"), "binary_data_size is True"),
    "size not the shape's": (body(tensor(shape=[2], binary_data_size=4), tail=b"1234"), "4 bytes, expected 8"),
    "shape of petabytes": (body(tensor(shape=[2**40, 2**19], binary_data_size=4), tail=b"1234"), "4 bytes, expected"),
    "shape of nothing, too large": (body(tensor([], shape=[0, 2**62, 2**62])), "is not a shape"),
    "one of 2**63 times nothing": (body(tensor([], shape=[2**63, 0], datatype="FP64")), "is not a shape"),
    "words of nothing": (body(tensor(shape=[0, 2**60], datatype="BYTES", binary_data_size=0)), "is not a shape"),
    "left over": (body(tensor([1], shape=[1]), tail=b"1234"), "belong to no input"),
    "BOOL of 2": (body(tensor(shape=[1], datatype="BOOL", binary_data_size=1), tail=b"\2"), "0 or 1"),
    "BYTES cut": (body(tensor(shape=[1], datatype="BYTES", binary_data_size=5), tail=b"\2\0\0\0a"), "lengths of its BYTES"),
    "BYTES few": (body(tensor(shape=[2], datatype="BYTES", binary_data_size=5), tail=b"\1\0\0\0a"), "1 elements, expected 2"),
    "BYTES many": (body(tensor(shape=[1], datatype="BYTES", binary_data_size=8), tail=b"\0" * 8), "lengths of its BYTES"),
    "BYTES no text": (
        body(tensor(shape=[2], datatype="BYTES", binary_data_size=11), tail=b"\1\0\0\0a\2\0\0\0a\xff"),
        "input 'x': element 1 is not UTF-8 (byte 1 is 0xff), and string tensors hold text; send other bytes as UINT8",
    ),
    "JSON no text": ((b'{"inputs":[{"name":"x","shape":[1],"datatype":"BYTES","data":["\xff"]}]}', None), "can't decode byte 0xff"),
    "half a character": (
        (b'{"inputs":[{"name":"x","shape":[1],"datatype":"BYTES","data":["\\ud800 "]}]}', None),
        "surrogate",
    ),
    "nested for ever": ((b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":' + b"[" * 200_000, None), "recursion"),
    "classification": (body(tensor([1], shape=[1]), outputs=[{"name": "y", "parameters": {"classification": 2}}]), "not supported"),
    "flag": (body(tensor([1], shape=[1]), parameters={"binary_data_output": 1}), "expected true or false"),
}


@pytest.mark.parametrize("lie", LIES)
def test_lies_are_refused_in_one_sentence(lie: str) -> None:
    (data, size), told = LIES[lie]
    with pytest.raises(RejectedError) as refused:
        decode_infer(data, size)
    assert told in str(refused.value)


@given(st.lists(st.sampled_from([0, 1, 2, 2**31, 2**40, 2**59, 2**60, 2**63, -1]), max_size=4), st.sampled_from(list(DTYPES)))
def test_any_shape_is_taken_or_refused(shape: list[int], datatype: str) -> None:
    """Of no elements too: nothing but a refusal comes out of it."""
    for row in (tensor([], shape=shape, datatype=datatype), tensor(shape=shape, datatype=datatype, binary_data_size=0)):
        with contextlib.suppress(RejectedError):
            assert decode_infer(*body(row)).feed["x"].size == 0


@given(st.binary(max_size=200), st.one_of(st.none(), st.text(max_size=4)))
def test_anything_is_decoded_or_refused(data: bytes, size: str | None) -> None:
    with contextlib.suppress(RejectedError):
        assert decode_infer(data, size).feed is not None


def test_outputs_without_datatype_are_refused() -> None:
    plain = decode_infer(*body(tensor([1], shape=[1])))
    with pytest.raises(RejectedError, match="tensors only"):
        encode_infer("m", "1", plain, {"y": [{1: 0.5}]})
    with pytest.raises(RejectedError, match="no datatype"):
        encode_infer("m", "1", plain, {"y": np.zeros(1, np.complex64)})


@given(st.sampled_from(["FP16", "FP32", "FP64"]), st.lists(st.floats(-60_000, 60_000) | st.integers(-60_000, 60_000), min_size=1))
def test_few_and_many_numbers_become_the_same_array(datatype: str, values: list[float]) -> None:
    found = decode_infer(*body(tensor(values, shape=[len(values)], datatype=datatype))).feed["x"]
    assert found.tolist() == np.array(values, DTYPES[datatype]).tolist()
    assert found.dtype == DTYPES[datatype]
    assert found.flags.writeable
    many = values * 2000
    whole = decode_infer(*body(tensor(many, shape=[len(many)], datatype=datatype))).feed["x"]
    assert whole[: len(values)].tolist() == found.tolist()


@pytest.mark.parametrize(("datatype", "value"), [("FP16", 65520.0), ("FP32", 3.4028236e38), ("FP32", 10**400), ("FP64", 10**400)])
@pytest.mark.parametrize("count", [1, 2000])
def test_what_does_not_fit_is_refused_alone_and_among_many(datatype: str, value: float, count: int) -> None:
    with pytest.raises(RejectedError, match=f"out of the range of {datatype}"):
        decode_infer(*body(tensor([value] * count, shape=[count], datatype=datatype)))
