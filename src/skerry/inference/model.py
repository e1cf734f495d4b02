"""A model as pipelines use it: one numeric input, a score and a label a row.

`score` is the output named `score`, else the probability of the last class, else the first element of the first output; `label`
is the output `label`, else the arg-max of the probabilities. Labels in the metadata (`labels`, a JSON array) name the classes.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skerry.core.errors import RejectedError, SkerryError
from skerry.inference.engine.opening import open_session
from skerry.inference.engine.seam import EngineOptions, Session
from skerry.inference.engine.signature import numpy_dtype, repr_html

Floats = NDArray[np.float64]
Label = str | int | None
_DTYPES = ("float32", "float64", "float16", "int64", "int32", "string")


class Model:
    """A loaded model of one name and version. `score` is what pipelines call."""

    def __init__(self, session: Session, name: str, version: str, path: str = "") -> None:
        self.name = name
        self.version = version
        self.path = path
        self.inputs = session.inputs
        self.outputs = session.outputs
        self.metadata = session.metadata
        self.runs = 0
        self._session = session
        if len(self.inputs) != 1:
            named = ", ".join(signature.name for signature in self.inputs)
            raise RejectedError(f"model {name} has {len(self.inputs)} inputs ({named}); a pipeline feeds one")
        self._input = self.inputs[0]
        if self._input.dtype not in _DTYPES:
            raise RejectedError(f"model {name} takes {self._input.dtype}; a pipeline feeds numbers or strings")
        self._dtype = numpy_dtype(self._input.dtype)
        self._names = [signature.name for signature in self.outputs]
        self._fixed = self._input.shape[0] if self._input.shape and self._input.shape[0] is not None else 0
        self._labels: list[str] = self._read_labels()

    def _read_labels(self) -> list[str]:
        try:
            found = json.loads(self.metadata.get("labels", "[]"))
        except ValueError:
            return []
        return [str(label) for label in found] if isinstance(found, list) else []

    @property
    def features(self) -> int | None:
        """Columns that a row must have, or None where the model leaves it open or its rows are pictures or strings."""
        if self._input.dtype == "string" or len(self._input.shape) > 3:
            return None
        known = self._input.shape[1:]
        return int(np.prod([size for size in known if size])) if known and None not in known else None

    def check_columns(self, columns: int) -> None:
        """Raise `RejectedError` unless rows of so many columns fit the input."""
        if self._input.dtype == "string" or len(self._input.shape) > 3:
            raise RejectedError(
                f"model {self.name} takes {self._input.dtype} {self._show_shape()} (input {self._input.name!r}), the "
                f"pipeline makes {columns} columns of numbers",
                mend='set source.format = "image" or "string", without features',
            )
        if self.features is not None and self.features != columns:
            raise RejectedError(
                f"model {self.name} takes {self.features} features a row (input {self._input.name!r} "
                f"{self._show_shape()}), the pipeline makes {columns}",
                mend="change values, features or the model",
            )

    def _show_shape(self) -> str:
        return "[" + ", ".join("N" if size is None else str(size) for size in self._input.shape) + "]"

    def _repr_html_(self) -> str:
        return repr_html(self, [("file", self.path), ("labels", ", ".join(self._labels)), ("runs", self.runs)])

    def score(self, rows: NDArray[Any]) -> tuple[Floats, Sequence[Label]]:
        """Score `[N, features]` or `[N, samples, values]` rows, pictures `[N, C, H, W]`, strings `[N, 1]` (objects).

        Answers float64 scores `[N]` and N labels. Raises `RejectedError`.
        """
        if (rows.dtype.kind == "O") is not (self._input.dtype == "string"):
            kinds = ("numbers", "strings") if rows.dtype.kind == "O" else ("strings", "numbers")
            raise RejectedError(f"model {self.name} takes {kinds[0]}, the pipeline makes {kinds[1]}")
        if rows.ndim > (rank := len(self._input.shape)) and rank in (1, 2):
            rows = rows.reshape(len(rows), -1) if rank == 2 else rows.reshape(-1)
        with np.errstate(over="ignore", invalid="ignore"):  # a value that the dtype does not hold becomes infinite
            feed = rows.astype(self._dtype)
        if self._fixed and self._fixed != len(feed):
            parts = [self._run_padded(feed[at : at + self._fixed]) for at in range(0, len(feed), self._fixed)]
            return np.concatenate([part[0] for part in parts]), [label for part in parts for label in part[1]]
        return self._run(feed)

    def _run_padded(self, feed: NDArray[Any]) -> tuple[Floats, Sequence[Label]]:
        """Run at most as many rows as the model's fixed batch has; the last one fills it up."""
        count = len(feed)
        scores, labels = self._run(np.concatenate([feed, np.repeat(feed[-1:], self._fixed - count, axis=0)]))
        return scores[:count], labels[:count]

    def _run(self, feed: NDArray[Any]) -> tuple[Floats, Sequence[Label]]:
        self.runs += 1
        try:
            outputs = self._session.run({self._input.name: feed})
        except SkerryError as error:
            raise RejectedError(
                f"model {self.name}@{self.version} did not run on input {list(feed.shape)} "
                f"(it takes {self._show_shape()}): {error.message}"
            ) from error
        try:
            return self._read(outputs, len(feed))
        except (ValueError, TypeError) as error:
            raise RejectedError(f"model {self.name}@{self.version} answers what is no score: {error}") from error

    def _read(self, outputs: dict[str, Any], count: int) -> tuple[Floats, Sequence[Label]]:
        chances, classes = self._probabilities(outputs)
        if "score" in outputs:
            scores = _column(outputs["score"], 0, count)
        elif chances is not None:
            scores = chances[:, -1]
        else:
            scores = _column(outputs[self._names[0]], 0, count)
        if "label" in outputs:
            labels: Sequence[Label] = [self._name(label) for label in np.ravel(outputs["label"]).tolist()]
        elif chances is not None and chances.shape[1] > 1:
            labels = [self._name(classes[index]) for index in chances.argmax(axis=1).tolist()]
        else:
            labels = [None] * count
        if len(scores) != count or len(labels) != count:
            raise RejectedError(f"model {self.name} answered {len(scores)} scores and {len(labels)} labels for {count} rows")
        return scores, labels

    def _probabilities(self, outputs: dict[str, Any]) -> tuple[Floats | None, Sequence[Any]]:
        """Class probabilities `[N, classes]` and the classes.

        They are an output so named, a wide one beside a label, or the only one, if wide. A ZipMap (skl2onnx) answers a dict a
        row, its keys the classes; else they are numbered.
        """
        for name, value in outputs.items():
            if isinstance(value, list) and value and isinstance(value[0], dict):
                return np.array([list(row.values()) for row in value], np.float64), list(value[0])
            if not isinstance(value, np.ndarray) or value.dtype.kind != "f" or name in ("label", "score"):
                continue
            wide = value.ndim == 2 and value.shape[1] > 1
            named = "prob" in name.lower() and value.ndim in (1, 2)
            if named or (wide and ("label" in outputs or len(outputs) == 1)):
                found = np.asarray(value, np.float64).reshape(len(value), -1)
                return found, range(found.shape[1])
        return None, ()

    def _name(self, label: Any) -> Label:
        if isinstance(label, int) and 0 <= label < len(self._labels):
            return self._labels[label]
        return label if isinstance(label, int | str) else str(label)


def _column(value: Any, at: int, count: int) -> Floats:
    array = np.asarray(value, np.float64)
    if array.size == 0 or array.size % count:
        raise ValueError(f"{array.size} numbers for {count} rows")
    return array.reshape(count, -1)[:, at]


def load_model(
    path: Path,
    name: str,
    version: str = "1",
    threads: int = 1,
    labels: Sequence[str] = (),
    *,
    engine: str = "auto",
    optimize: str = "all",
    cache: Path | None = None,
) -> Model:
    """Load a model file; labels go before those in its metadata.

    Args:
        cache: keeps the optimized graph, and the model freed of a fixed batch where its graph allows that; else such a model is
            run with its batch filled up.

    Raises `RejectedError` when it is missing, no ONNX, or has no single numeric input.
    """
    if not path.is_file():
        raise RejectedError("the model file does not exist", where=str(path), mend=f"mend `file` of model {name}")
    options = EngineOptions(threads=threads, engine=engine, optimize=optimize)
    session = open_session(path, options, cache)
    if cache is not None and len(session.inputs) == 1 and session.inputs[0].shape and session.inputs[0].shape[0] is not None:
        from skerry.inference.graph.prepare import prepare  # late: it brings onnx where the verdict is not cached

        prepared = prepare(path, cache)
        if prepared.batch == "freed":
            session.close()
            session = open_session(prepared.path, options, cache)
    if labels:
        session.metadata["labels"] = json.dumps(list(labels))
    return Model(session, name, version, str(path))
