"""Which series a pipeline reads, and their rows in order of time, whatever the pages."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.historian import Asked, Points
from skerry.pipeline import SourceSpec
from skerry.replay import samples as samples_module
from skerry.replay.samples import columns_of, rows_of
from tests.replay.rig import BEGIN, NOW, history, samples

XY = ("x", "y")


class Lists:
    """A history in memory: the contract of `Source` that rows need, held against the real one below."""

    def __init__(self, series: dict[str, list[tuple[int, float]]]) -> None:
        self._series = series

    def series(self, prefix: str = "") -> list[str]:
        return sorted(name for name in self._series if name.startswith(prefix))

    def pages(self, name: str, asked: Asked, most: int | None = None) -> Iterator[Points]:
        rows = [row for row in sorted(self._series[name]) if asked.start <= row[0] < asked.end]
        step = most or 20_000
        for at in range(0, max(1, len(rows)), step):
            part = rows[at : at + step]
            yield Points(np.array([t for t, _ in part], np.int64), np.array([v for _, v in part], np.float64))

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("source", "names", "wanted"),
    [
        ({"topic": "devices/+/v", "values": XY}, ["a/v/x", "a/v/y", "b/v/x", "c/w/x", "c/w/y"], {"a": ["a/v/x", "a/v/y"]}),
        ({"topic": "plant/+/+", "values": ("n.t",), "key": "{2}-{3}"}, ["plant/a/b/n.t", "a/b/n.t"], {"a-b": ["plant/a/b/n.t"]}),
        ({"topic": "devices/+/#", "values": ("x",)}, ["a/b/c/x", "a/x"], {"a": ["a/x"]}),
        ({"topic": "gate/up", "values": ("x",), "key": "{.id}"}, ["gate/up/s/1/x", "gate/up/x"], {"s/1": ["gate/up/s/1/x"]}),
        ({"topic": "devices/+/v", "values": ("x",), "key": "{2}.{.id}"}, ["g/v/g.7/x"], {"g.7": ["g/v/g.7/x"]}),
        ({"topic": "devices/+/v", "format": "text"}, ["a/v/value"], {"a": ["a/v/value"]}),
        ({"topic": "devices/+/v", "values": ("x",)}, ["p/a/score", "v/x"], {}),
    ],
)
def test_the_series_of_a_source(source: dict[str, object], names: list[str], wanted: dict[str, list[str]]) -> None:
    assert columns_of(SourceSpec(**source), names) == wanted  # type: ignore[arg-type]  # keywords of the parameters above


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 50), st.booleans(), st.booleans()), max_size=60),
    st.integers(1, 7),
    st.integers(0, 20),
    st.integers(20, 60),
)
def test_rows_are_the_samples_that_all_values_have_in_order_of_time(
    given_rows: list[tuple[str, int, bool, bool]], page: int, start: int, end: int
) -> None:
    series: dict[str, dict[int, float]] = {f"{key}/{name}": {} for key in "abc" for name in XY}
    for key, time, has_x, has_y in given_rows:
        for name, has in (("x", has_x), ("y", has_y)):
            if has:
                series[f"{key}/{name}"][time] = time + ord(key) / 1000
    source = Lists({name: list(points.items()) for name, points in series.items()})
    columns = {key: [f"{key}/{name}" for name in XY] for key in "abc"}
    wanted = sorted(
        (time, key, series[f"{key}/x"][time], series[f"{key}/y"][time])
        for key in "abc"
        for time in series[f"{key}/x"].keys() & series[f"{key}/y"].keys()
        if start <= time < end
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samples_module, "AT_ONCE", 6 * page)
        patch.setattr(samples_module, "LEAST", 1)
        found = [row for chunk in rows_of(source, columns, start, end) for row in chunk]
    assert [(row[0], key, *row[1:]) for key, row in found] == wanted


def test_files_give_the_rows_that_lists_give_and_no_chunk_is_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = samples(4, 500)
    of = {f"d{at}": [row for row in rows if row[0] == f"d{at}"] for at in range(4)}
    lists = Lists({f"{key}/v/{name}": [(r[1], r[2 + "xy".index(name)]) for r in mine] for key, mine in of.items() for name in XY})
    columns = columns_of(SourceSpec(topic="devices/+/v", values=XY), lists.series())
    monkeypatch.setattr(samples_module, "AT_ONCE", 800)
    with history(tmp_path, rows) as source:
        assert columns_of(SourceSpec(topic="devices/+/v", values=XY), source.series()) == columns
        chunks = list(rows_of(source, columns, BEGIN, NOW))
        assert list(rows_of(lists, columns, BEGIN, NOW)) == chunks
    assert max(map(len, chunks)) <= 400
    assert [(key, *map(float, row)) for chunk in chunks for key, row in chunk] == [(k, float(t), x, y) for k, t, x, y in rows]
