"""Files of history: what is written reads back bit for bit, and nothing half-written stays."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from skerry.core.clock import from_rfc3339
from skerry.core.errors import RejectedError
from skerry.historian.export import text_times, text_values, write_csv, write_parquet
from skerry.historian.sources import Asked, Points
from tests.historian.rig import NOW

ODD = [0.1, -0.0, 1e300, 5e-324, 1 / 3, 1e16, 20.0]
ALL = Asked(0, 1 << 55)


class Three:
    """A source of one page with odd values, and a series that breaks off."""

    def series(self, prefix: str = "") -> list[str]:
        return ["pump-1/v/x", 'a "b", c']

    def pages(self, name: str, asked: Asked) -> Iterator[Points]:
        yield Points(NOW + np.arange(len(ODD)), np.array(ODD))
        if name == "broken":
            raise RejectedError("broken")

    def close(self) -> None:
        return


def test_times_and_values_read_back_exactly() -> None:
    times = np.array([0, 1, NOW + 123_456], np.int64)
    assert text_times(times) == ["1970-01-01T00:00:00.000000Z", "1970-01-01T00:00:00.000001Z", "2026-11-24T18:40:00.123456Z"]
    assert [from_rfc3339(text) for text in text_times(times)] == times.tolist()
    assert np.array([float(text) for text in text_values(np.array(ODD))]).tobytes() == np.array(ODD).tobytes()


def test_csv_has_a_line_a_sample() -> None:
    out = io.StringIO()
    assert write_csv(Three(), Three().series(), ALL, out.write) == 2 * len(ODD)
    rows = list(csv.DictReader(io.StringIO(out.getvalue())))
    assert [row["series"] for row in rows] == ["pump-1/v/x"] * len(ODD) + ['a "b", c'] * len(ODD)
    assert [float(row["value"]) for row in rows] == ODD * 2
    assert rows[1]["time"] == "2026-11-24T18:40:00.000001Z"


def test_parquet_has_the_same_columns(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="optional: pyarrow is not installed")
    out = tmp_path / "h.parquet"
    assert write_parquet(Three(), Three().series(), ALL, out) == 2 * len(ODD)
    table = parquet.read_table(out)
    assert table.column_names == ["series", "time", "value"]
    assert str(table.schema.field("time").type) == "timestamp[us, tz=UTC]"
    assert np.array(table["value"].to_pylist()).tobytes() == np.array(ODD * 2).tobytes()
    assert table["time"].cast("int64").to_pylist() == [NOW + at for at in range(len(ODD))] * 2
    with pytest.raises(RejectedError, match="is there already"):
        write_parquet(Three(), [], ALL, out)


def test_a_file_that_breaks_off_is_not_there(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="optional: pyarrow is not installed")
    with pytest.raises(RejectedError, match="broken"):
        write_parquet(Three(), ["broken"], ALL, tmp_path / "h.parquet")
    assert list(tmp_path.iterdir()) == []
