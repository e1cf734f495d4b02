"""What a model takes and gives: names, dtypes and shapes, and whether a feed fits before the model runs."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from skerry.core.errors import RejectedError, suggestion
from skerry.core.html import table

_ORT_NAMES = {"float": "float32", "double": "float64"}  # onnxruntime's name of an element type where numpy has another
# element types that numpy itself has not; the package ml_dtypes (a dependency of onnx) adds them
_ML_NAMES = {
    "float8e4m3fn": "float8_e4m3fn",
    "float8e4m3fnuz": "float8_e4m3fnuz",
    "float8e5m2": "float8_e5m2",
    "float8e5m2fnuz": "float8_e5m2fnuz",
    "float8e8m0": "float8_e8m0fnu",
    "float4e2m1": "float4_e2m1fn",
    "bfloat16": "bfloat16",
    "int4": "int4",
    "uint4": "uint4",
    "int2": "int2",
    "uint2": "uint2",
}
_KNOWN: dict[str, np.dtype[Any]] = {}


class Signature(msgspec.Struct, frozen=True):
    """An input or output of a model.

    Attributes:
        name: as in the model.
        dtype: numpy's name (`float32`, `int64`, `bool`), ONNX' where numpy has none (`bfloat16`, `float8e4m3fn`), `string`, or for
            what is no tensor the type as written: `seq(tensor(float32))`, `map(int64,tensor(float32))`, `optional(…)`.
        shape: a symbolic dimension is None. () is a single number, or a tensor whose rank the model leaves open.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    @property
    def tensor(self) -> bool:
        """Whether it is a tensor; else a sequence, a map or an optional."""
        return "(" not in self.dtype

    def show_shape(self) -> str:
        """`[N, 3, ?]`: an open first dimension is the number of rows."""
        return "[" + ", ".join(("?" if at else "N") if size is None else str(size) for at, size in enumerate(self.shape)) + "]"

    def __str__(self) -> str:
        return f"{self.dtype} {self.show_shape()}"


def dtype_name(kind: str) -> str:
    """The dtype of onnxruntime's type: `tensor(float)` → `float32`, `seq(tensor(double))` → `seq(tensor(float64))`."""
    inner = kind.removeprefix("tensor(").removesuffix(")") if kind.startswith("tensor(") else ""
    if inner:
        return _ORT_NAMES.get(inner, inner)
    for theirs, ours in _ORT_NAMES.items():
        kind = kind.replace(f"tensor({theirs})", f"tensor({ours})")
    return kind


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The numpy dtype of a signature's dtype; of `string` it is object. Raises `TypeError` for what is no tensor."""
    found = _KNOWN.get(name)
    if found is None:
        if "(" in name:  # numpy would take some of these for a list of fields
            raise TypeError(f"{name} is no tensor")
        if name == "string":
            found = np.dtype(object)
        elif name in _ML_NAMES:
            import ml_dtypes  # late: few models need it

            found = np.dtype(getattr(ml_dtypes, _ML_NAMES[name]))
        else:
            found = np.dtype(name)
        _KNOWN[name] = found
    return found


def is_exotic(name: str) -> bool:
    """Whether numpy knows the dtype through ml_dtypes only."""
    return name in _ML_NAMES


def check_feed(signatures: Sequence[Signature], feed: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """The feed, in the model's order, when it fits; nothing is cast.

    Args:
        feed: numpy arrays by input name, batch dimension included.

    Raises `RejectedError` naming input, what is expected and what it got: names, dtype, rank, shape.
    """
    checked = {}
    for signature in signatures:
        if signature.name not in feed:
            raise RejectedError(_missing(signatures, feed, signature.name))
        value = feed[signature.name]
        if signature.tensor:
            _check_tensor(signature, value)
        checked[signature.name] = value
    if len(feed) != len(checked):
        extra = next(name for name in feed if name not in checked)
        raise RejectedError(f"there is no input {extra!r}{suggestion(extra, checked)}", mend=f"inputs: {_show(signatures)}")
    return checked


def _missing(signatures: Sequence[Signature], feed: Mapping[str, Any], name: str) -> str:
    got = ", ".join(feed) or "nothing"
    return f"input {name!r} is missing: expected {_show(signatures)}, got {got}"


def _show(signatures: Sequence[Signature]) -> str:
    return ", ".join(f"{each.name} {each}" for each in signatures) or "none"


def _check_tensor(signature: Signature, value: Any) -> None:
    if not isinstance(value, np.ndarray):
        raise RejectedError(
            f"input {signature.name!r}: expected a numpy array of {signature}, got {type(value).__name__}", mend="use numpy.asarray"
        )
    if signature.dtype == "string":
        _check_strings(signature, value)
    elif value.dtype != numpy_dtype(signature.dtype):
        raise RejectedError(
            f"input {signature.name!r}: expected dtype {signature.dtype}, got {_show_dtype(value.dtype)}",
            mend=f"use astype({_ML_NAMES.get(signature.dtype, signature.dtype)!r})",
        )
    shape = signature.shape
    if not shape:
        return  # a single number or an open rank: the engine itself can tell them apart
    if value.ndim != len(shape):
        raise RejectedError(
            f"input {signature.name!r}: expected {len(shape)} dimensions {signature.show_shape()}, "
            f"got {value.ndim} {list(value.shape)}"
        )
    if any(size is not None and size != got for size, got in zip(shape, value.shape, strict=True)):
        raise RejectedError(f"input {signature.name!r}: expected shape {signature.show_shape()}, got {list(value.shape)}")


def _check_strings(signature: Signature, value: NDArray[Any]) -> None:
    if value.dtype.kind == "U":
        return
    if value.dtype.kind != "O":
        raise RejectedError(f"input {signature.name!r}: expected strings, got {_show_dtype(value.dtype)}")
    # an engine writes str() of whatever it finds: 5 would become "5", and bytes b"a" the text "b'a'"
    for each in value.flat:
        if not isinstance(each, str):
            raise RejectedError(f"input {signature.name!r}: expected strings, got {type(each).__name__} {each!r:.40}")


def _show_dtype(dtype: np.dtype[Any]) -> str:
    return dtype.name if dtype.isnative else f"{dtype.name} in foreign byte order"


class _Named(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def inputs(self) -> Sequence[Signature]: ...
    @property
    def outputs(self) -> Sequence[Signature]: ...
    @property
    def metadata(self) -> Mapping[str, str]: ...


def repr_html(model: _Named, more: Sequence[tuple[str, object]]) -> str:
    """A model as a table for notebooks: what it takes, gives and says about itself; long metadata is cut."""
    rows: list[tuple[str, object]] = [(f"input {each.name}", _tensor(each)) for each in model.inputs]
    rows += [(f"output {each.name}", _tensor(each)) for each in model.outputs]
    rows += more
    rows += [(name, text if len(text) <= 80 else f"{text[:79]}…") for name, text in model.metadata.items()]
    return table(f"model {model.name}" + (f"@{model.version}" if model.version else ""), (), rows)


def _tensor(signature: Signature) -> str:
    return f"{signature.dtype} [{', '.join('N' if size is None else str(size) for size in signature.shape)}]"
