"""The two sources of history answer alike: a node over HTTP, and its files when it does not run."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from skerry.core.errors import RejectedError, UnavailableError
from skerry.historian import sources as sources_module
from skerry.historian.sources import Asked, DirectorySource, NodeSource, Points, Source, unknown, whole
from skerry.http import Client
from tests.api.fake_view import Serving
from tests.historian.rig import BEGIN, NOW, SECOND, filled

ALL = Asked(0, 1 << 55)


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serving]:
    with Serving(tmp_path / "skerry.sock").running() as found:
        found.view.history = {
            "a/v/x": [(BEGIN + at * SECOND, at / 10) for at in range(3600)],
            "b/v/x": [(BEGIN + at * SECOND, at / 10) for at in range(0, 3600, 10)],
        }
        yield found


@pytest.fixture
def node(serving: Serving) -> Iterator[Source]:
    source = NodeSource(Client(serving.socket))
    yield source
    source.close()


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Source]:
    with filled(tmp_path / "history"):
        pass
    source = DirectorySource(tmp_path / "history")
    yield source
    source.close()


@pytest.fixture(params=["node", "files"])
def source(request: pytest.FixtureRequest) -> Source:
    found: Source = request.getfixturevalue(request.param)
    return found


def test_names_are_in_order(source: Source) -> None:
    assert source.series() == ["a/v/x", "b/v/x"]
    assert source.series("b/") == ["b/v/x"]
    assert source.series("none") == []


def test_pages_are_one_whole_without_gap_or_repeat(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources_module, "PAGE", 1000)
    pages = list(source.pages("a/v/x", ALL))
    assert [len(page.times) for page in pages] == [1000, 1000, 1000, 600]
    times, values = whole(source, "a/v/x", ALL)
    assert times.dtype == np.int64
    assert values.dtype == np.float64
    assert times.tolist() == [BEGIN + at * SECOND for at in range(3600)]
    assert values.tolist() == [at / 10 for at in range(3600)]


def test_the_stretch_is_half_open_to_the_microsecond(source: Source) -> None:
    found = whole(source, "a/v/x", Asked(BEGIN + SECOND, BEGIN + 3 * SECOND))
    assert found.values.tolist() == [0.1, 0.2]
    assert len(whole(source, "a/v/x", Asked(BEGIN + SECOND + 1, BEGIN + 2 * SECOND)).times) == 0


def test_an_unknown_series_is_said(source: Source) -> None:
    with pytest.raises(RejectedError, match=r"there is no series 'a/v/y'.*see `skerry data series`"):
        whole(source, "a/v/y", ALL)
    assert unknown("a/v/y", ["a/v/x"]) == "there is no series 'a/v/y', did you mean 'a/v/x'?"


def test_points_as_a_table(files: Source) -> None:
    pytest.importorskip("pyarrow", reason="optional: pyarrow is not installed")
    points = whole(files, "b/v/x", ALL)
    table = points.table()
    assert str(table.schema.field("time").type) == "timestamp[us, tz=UTC]"
    assert table["time"].cast("int64").to_pylist() == points.times.tolist()
    assert table["value"].to_pylist() == points.values.tolist()


def test_files_make_one_number_of_a_stretch(files: Source) -> None:
    times, values = whole(files, "b/v/x", Asked(BEGIN, NOW, 600 * SECOND, "max"))
    assert times.tolist() == [BEGIN + 600 * SECOND * at for at in range(6)]
    assert values.tolist() == [59.0, 119.0, 179.0, 239.0, 299.0, 359.0]


def test_the_node_is_asked_for_one_number_a_stretch(node: Source, serving: Serving) -> None:
    found = whole(node, "a/v/x", Asked(BEGIN, NOW, 90 * SECOND, "p99"))
    assert isinstance(found, Points)
    assert serving.view.asked == (90 * SECOND, "p99")


def test_files_that_are_in_use_or_not_there(tmp_path: Path) -> None:
    with pytest.raises(RejectedError, match="there is no history"):
        DirectorySource(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    with filled(tmp_path / "history"), pytest.raises(UnavailableError, match="in use by another skerry"):
        DirectorySource(tmp_path / "history")
