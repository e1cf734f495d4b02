"""The Open Inference Protocol v2 codec: requests into arrays, arrays into answers, JSON and binary tensors.

Source: kserve open-inference-protocol `inference_rest.md`, and Triton's `extension_binary_data.md`.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from skerry.core.errors import RejectedError

Array = NDArray[Any]
MOST_DIMENSIONS = 32
MOST_ELEMENTS = 1 << 60

DTYPES = {
    "BOOL": "bool", "UINT8": "uint8", "UINT16": "uint16", "UINT32": "uint32", "UINT64": "uint64", "INT8": "int8", "INT16": "int16",
    "INT32": "int32", "INT64": "int64", "FP16": "float16", "FP32": "float32", "FP64": "float64", "BYTES": "string",
}  # fmt: skip
NAMES = {numpy: name for name, numpy in DTYPES.items()}
_NUMPY = {np.dtype(name): name for name in DTYPES.values() if name != "string"}
_PACKED = {"float16": "e", "float32": "f", "float64": "d"}
_FEW = 1024


class Tensor(msgspec.Struct, frozen=True):
    """An input as a request writes it."""

    name: str
    shape: list[int]
    datatype: str
    data: Any = None
    parameters: dict[str, Any] = {}


class Wanted(msgspec.Struct, frozen=True):
    """An output that a request asks for."""

    name: str
    parameters: dict[str, Any] = {}


class Body(msgspec.Struct, frozen=True):
    """The JSON part of an inference request."""

    inputs: list[Tensor]
    outputs: list[Wanted] | None = None
    id: str = ""
    parameters: dict[str, Any] = {}


class Infer(msgspec.Struct, frozen=True):
    """A decoded request: arrays by input, names of the wanted outputs (None: all), and which of them go out binary."""

    id: str
    feed: dict[str, Array]
    outputs: list[str] | None
    binary: dict[str, bool]
    binary_default: bool


_decode = msgspec.json.Decoder(Body).decode


def decode_infer(body: bytes, json_size: str | None) -> Infer:
    """Decode a request.

    Args:
        json_size: the header `inference-header-content-length`, None when there is none.

    Raises `RejectedError` naming the input, expected and got.
    """
    size = _json_size(body, json_size)
    try:
        found = _decode(body if size == len(body) else memoryview(body)[:size])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RejectedError(f"the body is no inference request: {error}") from error
    feed: dict[str, Array] = {}
    rest = memoryview(body)[size:]
    for tensor in found.inputs:
        if tensor.name in feed:
            raise RejectedError(f"input {tensor.name!r} is there twice")
        feed[tensor.name], rest = _input(tensor, rest)
    if len(rest):
        raise RejectedError(f"{len(rest)} bytes of binary data belong to no input")
    wanted = found.outputs or []
    if any("classification" in each.parameters for each in wanted):
        raise RejectedError("the parameter classification is not supported")
    binary = {each.name: _flag(each.parameters, "binary_data") for each in wanted if "binary_data" in each.parameters}
    default = _flag(found.parameters, "binary_data_output")
    return Infer(found.id, feed, [each.name for each in wanted] or None, binary, default)


def _json_size(body: bytes, given: str | None) -> int:
    if given is None:
        return len(body)
    if not (given.isascii() and given.isdigit()) or len(given) > 12 or int(given) > len(body):
        raise RejectedError(f"Inference-Header-Content-Length is {given[:20]!r}, expected 0 to {len(body)}, the body's size")
    return int(given)


def _flag(parameters: Mapping[str, Any], name: str) -> bool:
    value = parameters.get(name, False)
    if not isinstance(value, bool):
        raise RejectedError(f"parameter {name} is {value!r}, expected true or false")
    return value


def _input(tensor: Tensor, rest: memoryview) -> tuple[Array, memoryview]:
    """The array of an input, and the binary data behind it."""
    where = f"input {tensor.name!r}"
    dtype = DTYPES.get(tensor.datatype)
    if dtype is None:
        raise RejectedError(f"{where}: datatype {tensor.datatype!r} is not supported", mend=f"supported: {', '.join(DTYPES)}")
    most = math.prod(each or 1 for each in tensor.shape)  # a shape without elements can be too large for an array as well
    if len(tensor.shape) > MOST_DIMENSIONS or any(each < 0 for each in tensor.shape) or most >= MOST_ELEMENTS:
        raise RejectedError(f"{where}: shape {tensor.shape[:MOST_DIMENSIONS]} is not a shape")
    count = math.prod(tensor.shape)
    size = tensor.parameters.get("binary_data_size")
    if size is None:
        if tensor.data is None:
            raise RejectedError(f"{where} has neither data nor binary_data_size")
        return _from_json(where, tensor.data, dtype, tensor.shape, count), rest
    if tensor.data is not None:
        raise RejectedError(f"{where} has both data and binary_data_size")
    if type(size) is not int or not 0 <= size <= len(rest):
        raise RejectedError(f"{where}: binary_data_size is {size!r}, and {len(rest)} bytes of binary data are left")
    return _from_binary(where, rest[:size], dtype, tensor.shape, count), rest[size:]


def _from_binary(where: str, data: memoryview, dtype: str, shape: Sequence[int], count: int) -> Array:
    if dtype == "string":
        words = _words(where, data, count)
        return np.array([_text(where, at, word) for at, word in enumerate(words)], object).reshape(shape)
    kind = np.dtype(dtype).newbyteorder("<")
    if len(data) != count * kind.itemsize:
        raise RejectedError(f"{where}: {len(data)} bytes, expected {count * kind.itemsize} for shape {list(shape)}")
    if dtype == "bool" and len(data) and np.frombuffer(data, np.uint8).max() > 1:
        raise RejectedError(f"{where}: a BOOL is a byte of 0 or 1")
    # a copy: aligned, writable, and it does not hold the whole body
    return np.frombuffer(data, kind).astype(dtype).reshape(shape)


def _words(where: str, data: memoryview, count: int) -> list[bytes]:
    words: list[bytes] = []
    at = 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "little")
        if end > len(data) or len(words) == count:
            raise RejectedError(f"{where}: the lengths of its BYTES do not fit {len(data)} bytes and {count} elements")
        words.append(bytes(data[at + 4 : end]))
        at = end
    if len(words) != count:
        raise RejectedError(f"{where}: {len(words)} elements, expected {count}")
    return words


def _text(where: str, at: int, word: bytes) -> str:
    """An element of BYTES. The protocol allows any bytes, the engine's string tensors are read and given as UTF-8 only."""
    try:
        return word.decode()
    except UnicodeDecodeError as error:
        raise RejectedError(
            f"{where}: element {at} is not UTF-8 (byte {error.start} is 0x{word[error.start]:02x}), and string tensors hold text",
            mend="send other bytes as UINT8, or as base64 to a model that decodes it",
        ) from error


def _from_json(where: str, data: Any, dtype: str, shape: Sequence[int], count: int) -> Array:
    flat = _flatten(where, data)
    if len(flat) != count:
        raise RejectedError(f"{where}: {len(flat)} elements, expected {count} for shape {list(shape)}")
    allowed = {"string": (str,), "bool": (bool,)}.get(dtype) or ((int, float) if dtype.startswith("float") else (int,))
    kinds = set(map(type, flat))
    if not kinds <= set(allowed):
        got = sorted(kind.__name__ for kind in kinds - set(allowed))
        raise RejectedError(f"{where}: an element is {got[0]}, expected {NAMES[dtype]}")
    packed = _PACKED.get(dtype)
    try:
        if packed is not None and count <= _FEW:  # `=` watches for overflow; in numpy that takes three times as long
            return np.frombuffer(bytearray(struct.pack(f"={count}{packed}", *flat)), dtype).reshape(shape)
        with np.errstate(over="raise"):
            return np.array(flat, object if dtype == "string" else dtype).reshape(shape)
    except (OverflowError, FloatingPointError, struct.error) as error:
        raise RejectedError(f"{where}: an element is out of the range of {NAMES[dtype]}") from error


def _flatten(where: str, data: Any) -> list[Any]:
    """The elements in row-major order of a flat or nested list."""
    if not isinstance(data, list):
        raise RejectedError(f"{where}: data is {type(data).__name__}, expected a list")
    depth = 0
    flat: list[Any] = data
    while flat and isinstance(flat[0], list):
        depth += 1
        if depth > MOST_DIMENSIONS or not all(type(each) is list for each in flat):
            raise RejectedError(f"{where}: data is nested unevenly")
        if len({len(each) for each in flat}) > 1:
            raise RejectedError(f"{where}: data is nested unevenly")
        flat = [element for each in flat for element in each]
    return flat


def encode_infer(name: str, version: str, request: Infer, outputs: Mapping[str, Any]) -> tuple[bytes, int | None]:
    """The body of an answer, and the size of its JSON part where binary data follows.

    NaN and infinity have no JSON form and become null; binary data keeps them. Raises `RejectedError` for an output that the
    protocol has no datatype for.
    """
    rows: list[dict[str, Any]] = []
    tail: list[bytes] = []
    for output, value in outputs.items():
        dtype = _dtype_of(output, value)
        row: dict[str, Any] = {"name": output, "datatype": NAMES[dtype], "shape": list(value.shape)}
        if request.binary.get(output, request.binary_default):
            tail.append(_to_binary(value, dtype))
            row["parameters"] = {"binary_data_size": len(tail[-1])}
        else:
            row["data"] = [_word(each) for each in value.ravel().tolist()] if dtype == "string" else value.ravel().tolist()
        rows.append(row)
    answer = {"model_name": name, "model_version": version, "outputs": rows}
    if request.id:
        answer["id"] = request.id
    head = msgspec.json.encode(answer)
    return (b"".join([head, *tail]), len(head)) if tail else (head, None)


def _dtype_of(output: str, value: Any) -> str:
    if isinstance(value, np.ndarray):
        known = _NUMPY.get(value.dtype)
        if known is not None:
            return known
        dtype = "string" if value.dtype.kind in "OUS" else value.dtype.name
        if dtype in NAMES:
            return dtype
        raise RejectedError(f"output {output!r} is {dtype}, which has no datatype in the protocol", mend="ask for other outputs")
    raise RejectedError(f"output {output!r} is no tensor, and the protocol has tensors only", mend="ask for other outputs")


def _word(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _to_binary(value: Array, dtype: str) -> bytes:
    if dtype != "string":
        return value.astype(value.dtype.newbyteorder("<"), copy=False).tobytes()
    words = [each if isinstance(each, bytes) else str(each).encode() for each in value.ravel().tolist()]
    return b"".join(part for word in words for part in (len(word).to_bytes(4, "little"), word))
