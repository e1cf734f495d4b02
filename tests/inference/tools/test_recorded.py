"""Recorded rows: what is written is what is read, whatever the kind of file; and each bad file is one sentence."""

import csv
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import helper

from skerry.core.errors import RejectedError
from skerry.inference.engine.signature import Signature
from skerry.inference.tools.recorded import MAX_ROWS, read_rows, rows_for, take_rows
from tests.inference.conftest import FLOAT, MakeModel

few = settings(max_examples=30, deadline=None)

X = [Signature("x", "float32", (None, 3))]
TABLES = st.integers(1, 6).flatmap(lambda rows: arrays(np.float32, (rows, 3), elements=st.floats(width=32, allow_subnormal=False)))
pa = pytest.importorskip("pyarrow", reason="the extra `parquet` is not installed")
parquet = pytest.importorskip("pyarrow.parquet", reason="the extra `parquet` is not installed")


def write_csv(path: Path, table: np.ndarray) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(table.tolist())


def write_csv_with_names(path: Path, table: np.ndarray) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["time", "a", "b", "c"], *(["noon", *row] for row in table.tolist())])


def write_lists(path: Path, table: np.ndarray) -> None:
    path.write_text("\n\n".join(json.dumps(row) for row in table.tolist()))


def write_objects(path: Path, table: np.ndarray) -> None:
    """Each line with its names in another order."""
    lines = []
    for at, row in enumerate(table.tolist()):
        pairs = [("a", row[0]), ("b", row[1]), ("c", row[2]), ("device", "d1"), ("ok", True)]
        lines.append(json.dumps(dict(pairs if at % 2 == 0 else pairs[::-1])))
    path.write_text("\n".join(lines))


def write_parquet(path: Path, table: np.ndarray) -> None:
    columns = {"device": ["d1"] * len(table), **{name: table[:, at] for at, name in enumerate("abc")}}
    parquet.write_table(pa.table(columns), path)


def write_npz(path: Path, table: np.ndarray) -> None:
    np.savez(path, x=table.astype(np.float64), other=np.zeros(2))


WRITERS: dict[str, Callable[[Path, np.ndarray], None]] = {
    "a.csv": write_csv,
    "b.csv": write_csv_with_names,
    "c.jsonl": write_lists,
    "d.ndjson": write_objects,
    "e.parquet": write_parquet,
    "f.npz": write_npz,
}


@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=25, deadline=None)
@given(table=TABLES)
def test_what_is_written_is_read(name: str, table: np.ndarray) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / name.upper()  # a suffix in capitals is the same suffix
        WRITERS[name](path, table)
        # numpy puts .npz behind a name that does not end so
        found = read_rows(path if path.exists() else Path(f"{path}.npz"), X)["x"]
    assert found.dtype == np.float32
    assert np.array_equal(found, table, equal_nan=True)


@pytest.mark.parametrize("name", ["a.csv", "c.jsonl", "f.npz"])
def test_no_more_rows_are_read_than_are_wanted(tmp_path: Path, name: str) -> None:
    table = np.arange((MAX_ROWS + 7) * 3, dtype=np.float32).reshape(-1, 3)
    WRITERS[name](tmp_path / name, table)
    assert np.array_equal(read_rows(tmp_path / name, X)["x"], table[:MAX_ROWS])


def test_rows_take_the_shape_and_dtype_of_the_input(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("1,2,3,4\n5,6,7,8\n")
    found = read_rows(tmp_path / "r.csv", [Signature("p", "int64", (None, 2, 2))])["p"]
    assert found.dtype == np.int64
    assert found.tolist() == [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]
    (tmp_path / "r.jsonl").write_text("[[1, 2], [3, 4]]\n")
    assert read_rows(tmp_path / "r.jsonl", [Signature("p", "float64", (None, 2, 2))])["p"].tolist() == [[[1, 2], [3, 4]]]
    (tmp_path / "c.csv").write_text("1\n2\n")
    assert read_rows(tmp_path / "c.csv", [Signature("p", "bool", (None, 1))])["p"].tolist() == [[True], [True]]


def test_numbers_that_a_dtype_does_not_hold_become_infinite_without_a_warning(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("1e300,-1e300,nan\n")
    np.savez(tmp_path / "r.npz", x=np.array([[1e300, -1e300, np.nan]]))
    for name in ("r.csv", "r.npz"):
        assert np.array_equal(read_rows(tmp_path / name, X)["x"], [[np.inf, -np.inf, np.nan]], equal_nan=True)


def test_rows_are_read_for_a_model_file(make_model: MakeModel, tmp_path: Path) -> None:
    path = make_model([helper.make_node("Relu", ["x"], ["y"])], [("y", FLOAT, ["N", 3])])
    (tmp_path / "r.csv").write_text("1,2,3\n")
    assert rows_for(path, tmp_path / "r.csv")["x"].tolist() == [[1, 2, 3]]
    with pytest.raises(RejectedError, match="the model file does not exist"):
        rows_for(tmp_path / "gone.onnx", tmp_path / "r.csv")


def npz(**content: Any) -> bytes:
    made = io.BytesIO()
    np.savez(made, **content)
    return made.getvalue()


def npy(array: Any) -> bytes:
    made = io.BytesIO()
    np.save(made, array)
    return made.getvalue()


def table_file(**columns: Any) -> bytes:
    made = io.BytesIO()
    parquet.write_table(pa.table(columns), made)
    return made.getvalue()


def zipped(name: str, content: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        file.writestr(name, content)
    return made.getvalue()


WHOLE = npz(x=np.arange(300.0).reshape(100, 3))
BAD = {
    "no number.csv": (b"a,b,c\nd,e,f\n", r"expected shape \[N, 3\], got \[1, 0\]"),
    "names only.csv": (b"a,b,c\n", "there are no rows"),
    "blank lines count.csv": (b"1,2,3\n\n\n4,5\n", "line 4 does not have the 3 numbers"),
    "word.csv": (b"1,2,3\n4,five,6\n", "line 2 does not have the 3 numbers"),
    "bytes.csv": (b"\xff\xfe1,2,3\n", "the recorded rows cannot be read: .*utf-8"),
    "long.csv": (b'"' + b"1" * 200_000 + b'",2,3\n', "the recorded rows cannot be read: field larger"),
    "object in a list.jsonl": (b'[1, 2, {"a": 3}]\n', "hold what is no number"),
    "huge.jsonl": (b"[1, 2, 1" + b"0" * 400 + b"]\n", "hold what is no number"),
    "word.jsonl": (b'[1, 2, "three"]\n', "hold what is no number"),
    "number.jsonl": (b"5\n6\n", r"expected 2 dimensions \[N, 3\], got 1 \[2\]"),
    "other names.jsonl": (b'{"a": 1, "b": 2, "c": 3}\n{"a": 1, "b": 2, "d": 3}\n', "line 2 has no number 'c'"),
    "null.jsonl": (b'{"a": 1, "b": 2, "c": 3}\n{"a": 1, "b": 2, "c": null}\n', "line 2 has no number 'c'"),
    "cut.jsonl": (b'[1, 2, 3]\n[1, 2, 3]\n{"a": 1', "line 3 is not JSON: "),
    "deep.jsonl": (b"[" * 100_000, "the recorded rows cannot be read|is not JSON"),
    "empty.jsonl": (b"\n \n", "there are no rows"),
    "words.parquet": (table_file(a=["x", "y"]), r"expected shape \[N, 3\], got \[2, 0\]"),
    "none.parquet": (table_file(a=pa.array([], pa.float32())), "there are no rows"),
    "narrow.parquet": (table_file(a=[1.0], b=[2]), r"expected shape \[N, 3\], got \[1, 2\]"),
    "cut.parquet": (table_file(a=[1.0] * 99)[:-20], "the recorded rows cannot be read: "),
    "empty.parquet": (b"", "the recorded rows cannot be read: "),
    "empty.npz": (b"", "the recorded rows cannot be read: "),
    "cut.npz": (WHOLE[: len(WHOLE) // 2], "the recorded rows cannot be read: "),
    "single.npz": (npy(np.zeros((2, 3))), "it holds a single array without a name; use numpy.savez"),
    "number.npz": (npz(x=np.float32(3)), "array 'x' is a single number, not rows"),
    "objects.npz": (npz(x=np.array([{"a": 1}], object)), "the recorded rows cannot be read: Object arrays"),
    "words.npz": (npz(x=np.array([["a", "b", "c"]])), "the recorded rows cannot be read: could not convert string"),
    "no rows.npz": (npz(x=np.zeros((0, 3))), "the arrays hold 0 rows; give each the same number, at least 1"),
    "wide.npz": (npz(x=np.zeros((2, 4))), r"expected shape \[N, 3\], got \[2, 4\]; record the rows that the model takes"),
    "no array.npz": (zipped("x.npy", b"nonsense"), "the recorded rows cannot be read: "),
    "rows": (b"1,2,3\n", "no suffix is no kind of recorded rows; use CSV"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_sentence(tmp_path: Path, name: str) -> None:
    content, told = BAD[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(RejectedError, match=told) as caught:
        read_rows(path, X)
    assert caught.value.where == str(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@few
@given(st.integers(1, 7), st.integers(0, 20), st.integers(1, 20))
def test_rows_are_taken_round_and_round(length: int, start: int, count: int) -> None:
    feed = {"x": np.arange(length), "y": np.arange(length * 2).reshape(length, 2)}
    found = take_rows(feed, start, count)
    assert found["x"].tolist() == [(start + at) % length for at in range(count)]
    assert np.array_equal(found["y"][:, 0], found["x"] * 2)
