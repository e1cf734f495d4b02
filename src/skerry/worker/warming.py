"""Whether a model takes what a pipeline makes, and its first run: that of a fresh session takes many times as long as the next."""

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skerry.core.errors import RejectedError
from skerry.pipeline import PipelineSpec, check_fits

if TYPE_CHECKING:
    from skerry.inference import Model

OPEN = 8
"""Size of a dimension that neither the pipeline nor the model says, such as the samples of a window by time."""


def check(model: "Model", spec: PipelineSpec) -> None:
    """Raise `RejectedError` unless the model takes the rows, pictures or strings of the pipeline, as far as both say."""
    if spec.source.tensors:
        check_fits(spec.source, model)
    elif spec.columns:
        model.check_columns(len(spec.columns))
    elif not spec.features and spec.window.kind == "count":
        model.check_columns(spec.window.count * len(spec.source.names))


def warm(model: "Model", spec: PipelineSpec) -> None:
    """One run on zeros or an empty string: what it answers says nothing. Raises `RejectedError` when a row that is as the pipeline
    makes it fails; where its size had to be guessed, a failure says nothing either."""
    shape, known = _row(spec, model.inputs[0].shape)
    if not shape:
        return
    rows: NDArray[Any] = np.zeros((1, *shape)) if model.inputs[0].dtype != "string" else np.full((1, *shape), "", object)
    with contextlib.nullcontext() if known else contextlib.suppress(RejectedError):
        model.score(rows)


def _row(spec: PipelineSpec, wanted: Sequence[int | None]) -> tuple[tuple[int, ...], bool]:
    """Shape of one row, and whether the pipeline makes it just so; () where nothing is known of it."""
    if spec.source.tensors:
        return spec.source.tensor_shape, True
    if spec.columns:
        return (len(spec.columns),), True
    values = len(spec.source.names)
    if not spec.features:
        samples = spec.window.count if spec.window.kind == "count" else int(spec.window.kind == "none")
        inner = [size for size in wanted[1:-1] if size]
        return (samples or (inner[0] if inner else OPEN), values), bool(samples)
    return tuple(size or OPEN for size in wanted[1:]), False
