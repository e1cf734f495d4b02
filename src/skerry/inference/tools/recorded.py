"""Recorded input rows of a model, from a file: to calibrate a quantized model, to measure and to compare on what really comes."""

import csv
import json
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from skerry.core.errors import RejectedError, SkerryError
from skerry.inference.drift.measure import METADATA_KEY
from skerry.inference.drift.state import Reference
from skerry.inference.engine.opening import open_session
from skerry.inference.engine.samples import OPEN_SIZES, sample_feed
from skerry.inference.engine.seam import EngineOptions, Session
from skerry.inference.engine.signature import Signature, check_feed, numpy_dtype

Feed = dict[str, NDArray[Any]]
MAX_ROWS = 10_000  # read of a file: enough to calibrate and to compare
_KINDS = "CSV, JSONL, Parquet or npz"


def read_rows(path: Path, inputs: Sequence[Signature]) -> Feed:
    """Rows of a model's inputs.

    npz: one array per input name, rows first. CSV, JSONL and Parquet are for a model of one input: one line is one row, its
    numbers in the order of the columns (columns that hold no number are passed over); a JSONL line is a list or an object. At
    most `MAX_ROWS` rows are read. Raises `RejectedError` naming file, line and what the model takes.
    """
    if not path.is_file():
        raise RejectedError("the file of recorded rows does not exist", where=str(path), mend="mend the path")
    kind = path.suffix.lower()
    try:
        if kind == ".npz":
            return _checked(_npz(path, inputs), inputs, path)
        if len(inputs) != 1:
            raise RejectedError(
                f"the model has {len(inputs)} inputs; a {kind or 'text'} file holds one", where=str(path), mend="use npz"
            )
        if kind == ".csv":
            rows = _csv(path)
        elif kind in (".jsonl", ".ndjson"):
            rows = _jsonl(path)
        elif kind == ".parquet":
            rows = _parquet(path)
        else:
            raise RejectedError(f"{kind or 'no suffix'} is no kind of recorded rows", where=str(path), mend=f"use {_KINDS}")
        return _checked({inputs[0].name: _shaped(rows, inputs[0], path)}, inputs, path)
    except SkerryError:
        raise
    except Exception as error:  # each library that reads files has errors of its own: zipfile, zlib, csv, pyarrow
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RejectedError(f"the recorded rows cannot be read: {reason}", where=str(path), mend="write them again") from error


def _npz(path: Path, inputs: Sequence[Signature]) -> Feed:
    with path.open("rb") as file:  # numpy leaves a broken one open when it opens it itself
        stored = np.load(file, allow_pickle=False)
        if isinstance(stored, np.ndarray):
            raise RejectedError("it holds a single array without a name", where=str(path), mend="use numpy.savez")
        found = {key.removeprefix("input:"): key for key in stored.files}
        missing = [signature.name for signature in inputs if signature.name not in found]
        if missing:
            raise RejectedError(f"there is no array {missing[0]!r}", where=str(path), mend=f"it holds {', '.join(stored.files)}")
        arrays = {each.name: stored[found[each.name]] for each in inputs}
    for name, array in arrays.items():
        if not array.ndim:
            raise RejectedError(f"array {name!r} is a single number, not rows", where=str(path))
    return {each.name: _typed(arrays[each.name][:MAX_ROWS], each) for each in inputs}


def _typed(array: NDArray[Any], signature: Signature) -> NDArray[Any]:
    """Numbers become the model's dtype: files hold float64 mostly, and here a cast is wanted."""
    with np.errstate(over="ignore", invalid="ignore"):
        return array.astype(numpy_dtype(signature.dtype))


def _csv(path: Path) -> list[Any]:
    with path.open(newline="", encoding="utf-8") as lines:
        reader = csv.reader(lines)
        rows = list(islice(((reader.line_num, row) for row in reader if row), MAX_ROWS + 1))
    if rows and not all(_is_number(cell) for cell in rows[0][1]):
        rows.pop(0)  # the names of the columns
    columns = [at for at, cell in enumerate(rows[0][1]) if _is_number(cell)] if rows else []
    for number, row in rows:
        if len(row) <= max(columns, default=0) or not all(_is_number(row[at]) for at in columns):
            raise RejectedError(f"line {number} does not have the {len(columns)} numbers of the first row", where=str(path))
    return [[float(row[at]) for at in columns] for _, row in rows[:MAX_ROWS]]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _jsonl(path: Path) -> list[Any]:
    rows: list[Any] = []
    names: list[str] = []  # of the first object: later ones may write theirs in any order
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if len(rows) == MAX_ROWS:
                break
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise RejectedError(f"line {number} is not JSON: {error}", where=str(path)) from error
            if isinstance(row, dict):
                names = names or [name for name, value in row.items() if _is_value(value)]
                lacking = [name for name in names if not _is_value(row.get(name))]
                if lacking:
                    raise RejectedError(f"line {number} has no number {lacking[0]!r}, which the first row has", where=str(path))
                row = [row[name] for name in names]
                row = row[0] if len(row) == 1 and isinstance(row[0], list) else row
            rows.append(row)
    return rows


def _is_value(value: Any) -> bool:
    return isinstance(value, int | float | list) and not isinstance(value, bool)


def _parquet(path: Path) -> list[Any]:
    try:
        from pyarrow import parquet, types
    except ImportError as error:
        raise RejectedError("Parquet needs pyarrow", where=str(path), mend="pip install 'skerry[parquet]'") from error
    with parquet.ParquetFile(path) as file:
        table = next(file.iter_batches(batch_size=MAX_ROWS), None)
    if table is None:
        return []
    kept = [field.name for field in table.schema if types.is_integer(field.type) or types.is_floating(field.type)]
    return [list(row.values()) for row in table.select(kept).to_pylist()]


def _shaped(rows: Sequence[Any], signature: Signature, path: Path) -> NDArray[Any]:
    if not rows:
        raise RejectedError("there are no rows", where=str(path))
    try:
        array = np.array(rows, object if signature.dtype == "string" else np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise RejectedError("the rows differ in length or hold what is no number", where=str(path)) from error
    inner = signature.shape[1:]
    if None not in inner and array.size == len(rows) * int(np.prod([size or 1 for size in inner])):
        array = array.reshape(len(rows), *[size or 1 for size in inner])
    return _typed(array, signature)


def _checked(feed: Feed, inputs: Sequence[Signature], path: Path) -> Feed:
    """The feed when it fits but for its number of rows, which a fixed batch may leave to be cut."""
    lengths = {len(array) if array.ndim else 0 for array in feed.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise RejectedError(
            f"the arrays hold {', '.join(map(str, sorted(lengths)))} rows",
            where=str(path),
            mend="give each the same number, at least 1",
        )
    open_rows = [Signature(each.name, each.dtype, (None, *each.shape[1:]) if each.shape else ()) for each in inputs]
    try:
        return check_feed(open_rows, feed)
    except RejectedError as error:
        raise RejectedError(error.message, where=str(path), mend=error.mend or "record the rows that the model takes") from error


def rows_for(model: Path, file: Path) -> Feed:
    """`read_rows` of a file for a model file."""
    session = open_session(model, EngineOptions(optimize="none"))
    try:
        return read_rows(file, session.inputs)
    finally:
        session.close()


def random_rows(session: Session, rows: int, seed: int = 0) -> Feed:
    """Made-up rows that the model runs with: uniform in the ranges of its `drift_reference` where it has one, else normal numbers.

    Raises `RejectedError` when it runs with none, or has an input that is no tensor.
    """
    reason = "an input is no tensor"
    for open_size in OPEN_SIZES:
        try:
            feed = sample_feed(session.inputs, rows, open_size, seed)
            session.run(feed)
        except RejectedError as error:
            reason = error.message
        except TypeError:
            break
        else:
            return _in_range(session, feed, seed)
    raise RejectedError(f"the model runs with no made-up input: {reason}", mend="give recorded rows with --data FILE")


def _in_range(session: Session, feed: Feed, seed: int) -> Feed:
    text = session.metadata.get(METADATA_KEY, "")
    if not text or len(feed) != 1:
        return feed
    ((name, array),) = feed.items()
    try:
        features = list(msgspec.json.decode(text, type=Reference).features.values())
    except msgspec.MsgspecError as error:
        raise RejectedError(f"the model's drift reference cannot be read: {error}") from error
    if array.ndim != 2 or array.shape[1] != len(features) or array.dtype.kind != "f":
        return feed
    low, high = np.array([each.min for each in features]), np.array([each.max for each in features])
    return {name: np.random.default_rng(seed).uniform(low, np.maximum(high, low), array.shape).astype(array.dtype)}


def take_rows(feed: Mapping[str, NDArray[Any]], start: int, count: int) -> Feed:
    """`count` rows from `start`, the feed repeated where it has fewer."""
    length = len(next(iter(feed.values())))
    return {name: np.take(array, np.arange(start, start + count) % length, axis=0) for name, array in feed.items()}
