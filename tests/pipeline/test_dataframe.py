"""Data frames of pandas as recordings: the same events as the rows give, whatever form the time has."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from skerry import Pipeline, errors
from tests.node.test_library import MEAN, ROWS, written


class Polars:
    """What polars' frames have of the names that are used; polars itself is no dependency."""

    columns = ("device", "ts", "h", "t")

    def to_dicts(self) -> list[dict[str, Any]]:
        return ROWS

    def iter_rows(self, named: bool) -> Any:
        assert named
        return iter(self.to_dicts())


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    return Pipeline.from_config(written(tmp_path, MEAN), "mean")


def test_a_frame_gives_what_its_rows_give(pipeline: Pipeline) -> None:
    wanted = pipeline.test(ROWS)
    frame = pd.DataFrame(ROWS)
    naive = pd.to_datetime(frame["ts"], unit="s")
    forms = {
        "numbers": frame,
        "times without a zone": frame.assign(ts=naive),
        "times": frame.assign(ts=naive.dt.tz_localize("UTC").dt.tz_convert("Europe/Oslo")),
        "an index by name": frame.set_index("ts"),
        "an index of times": frame.drop(columns="ts").set_index(pd.DatetimeIndex(naive, name=None)),
        "two indexes": frame.set_index(["device", "ts"]),
        "numpy's dtypes": frame.astype({"h": "float32", "t": "int16"}),
        "pandas' own dtypes": frame.convert_dtypes(),
        "polars": Polars(),
    }
    for name, form in forms.items():
        assert pipeline.test(form) == wanted, name
    assert pipeline.explain(0, frame) == pipeline.explain(0, ROWS)


def test_what_is_missing_in_a_frame_was_not_sent(pipeline: Pipeline) -> None:
    rows = [{**row, "h": None if at == 2 else row["h"]} for at, row in enumerate(ROWS)]
    assert pipeline.run(pd.DataFrame(rows)) == pipeline.run(rows)
    assert pipeline.run(pd.DataFrame(rows).convert_dtypes()) == pipeline.run(rows)


def test_a_frame_that_will_not_do_is_said(pipeline: Pipeline) -> None:
    with pytest.raises(errors.RejectedError, match="no column device"):
        pipeline.test(pd.DataFrame(ROWS).drop(columns="device"))
    with pytest.raises(errors.RejectedError, match="two columns"):
        pipeline.test(pd.DataFrame([["a", 1.0, 1.0, 2.0]], columns=["device", "ts", "h", "h"]))
    late = pd.DataFrame(ROWS).assign(ts=pd.NaT)
    with pytest.raises(errors.RejectedError, match="is not a time"):
        pipeline.test(late)
