"""`History`: numpy arrays of a node or of files, moments in every form, and errors with a sentence."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

from skerry import History
from skerry.core.clock import ManualClock
from skerry.core.errors import RejectedError, UnavailableError
from skerry.historian.history import moment
from tests.api.fake_view import Serving
from tests.historian.rig import BEGIN, NOW, SECOND, filled


@pytest.mark.parametrize(
    ("given", "microseconds"),
    [
        ("now", NOW),
        ("-1h", NOW - 3600 * SECOND),
        ("+90s", NOW + 90 * SECOND),
        (NOW // SECOND, NOW),
        (NOW / SECOND + 0.25, NOW + 250_000),
        (str(NOW // SECOND), NOW),
        (NOW // 1000, NOW),
        ("2026-11-24T18:40:00Z", 1_795_545_600_000_000),
        (datetime(2026, 11, 24, 18, 40, tzinfo=UTC), 1_795_545_600_000_000),
        (datetime(2026, 11, 24, 19, 40, tzinfo=timezone(timedelta(hours=1))), 1_795_545_600_000_000),
    ],
)
def test_a_moment_in_every_form(given: str | float | datetime, microseconds: int) -> None:
    assert moment(given, NOW) == microseconds


@pytest.mark.parametrize("given", ["yesterday", "", "-1 fortnight", "nan", "1e400", float("inf"), "2026-13-01"])
def test_what_is_no_moment_is_said(given: str | float) -> None:
    with pytest.raises(RejectedError, match="RFC 3339"):
        moment(given, NOW)


@pytest.mark.parametrize("given", ["-100000y", "+9000y", 1e20, "1e30", "99999999999999999999", -1e15])
def test_a_moment_that_is_no_date_is_said(given: str | float) -> None:
    with pytest.raises(RejectedError, match="years 1 to 9999"):
        moment(given, NOW)


@pytest.mark.asyncio
async def test_a_directory_without_its_node(tmp_path: Path) -> None:
    with filled(tmp_path / "history"):
        pass
    async with History(tmp_path / "history", clock=ManualClock(NOW)) as history:
        assert await history.series("a") == ["a/v/x"]
        times, values = await history.query("a/v/x", "-10s")
        assert (times - BEGIN).tolist() == [at * SECOND for at in range(3590, 3600)]
        assert values.tolist() == [at / 10 for at in range(3590, 3600)]
        found = await history.query("b/v/x", BEGIN // SECOND, NOW // SECOND, every="20m", agg="count")
        assert found.values.tolist() == [120.0] * 3
        with pytest.raises(RejectedError, match="did you mean 'a/v/x'"):
            await history.query("a/v/z")
        with pytest.raises(RejectedError, match="every"):
            await history.query("a/v/x", every="often")
        with pytest.raises(RejectedError, match="unknown aggregate"):
            await history.query("a/v/x", every="1m", agg="median")
    with pytest.raises(UnavailableError, match="async with"):
        await history.series()
    await history.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("over", ["socket", "http"])
async def test_a_running_node(tmp_path: Path, over: str) -> None:
    with Serving(tmp_path / "skerry.sock").running() as serving:
        serving.view.history = {"a/v/x": [(BEGIN, 1.5), (BEGIN + 1, -0.0)]}
        async with History(serving.url if over == "http" else serving.socket) as history:
            times, values = await history.query("a/v/x", BEGIN // SECOND, "2027-01-01T00:00:00Z")
            assert times.tolist() == [BEGIN, BEGIN + 1]
            assert values.tolist() == [1.5, 0.0]
            assert np.signbit(values[1])


@pytest.mark.asyncio
async def test_nothing_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(RejectedError, match="there is no history"):
        await History(tmp_path).__aenter__()


def test_a_data_frame_without_a_loop(tmp_path: Path) -> None:
    with filled(tmp_path / "history"):
        pass
    history = History(tmp_path / "history", clock=ManualClock(NOW))
    every = history.to_pandas()
    assert list(every.columns) == ["a/v/x", "b/v/x"]
    assert (len(every), every.index.name, str(every.index.tz)) == (3600, "time", "UTC")
    assert every.index[0].timestamp() * SECOND == BEGIN
    assert every["a/v/x"].tolist() == [at / 10 for at in range(3600)]
    assert every["b/v/x"].dropna().tolist() == [at / 10 for at in range(0, 3600, 10)]
    assert history.to_pandas("a/v/x", "-10s")["a/v/x"].tolist() == [at / 10 for at in range(3590, 3600)]
    assert history.to_pandas(["b/v/x"], every="20m", agg="count")["b/v/x"].tolist() == [120.0] * 3
    assert history.to_pandas("a/v/x", "+1h", "+2h").empty
    with pytest.raises(RejectedError, match="did you mean 'a/v/x'"):
        history.to_pandas("a/v/z")


@pytest.mark.asyncio
async def test_a_data_frame_of_a_history_that_is_open(tmp_path: Path) -> None:
    """In a notebook there is a loop, and the history may be open already: it is asked, not opened again."""
    with filled(tmp_path / "history"):
        pass
    async with History(tmp_path / "history", clock=ManualClock(NOW)) as history:
        frame = history.to_pandas("a/v/x", "-10s")
        times, values = await history.query("a/v/x", "-10s")
    assert frame["a/v/x"].tolist() == values.tolist()
    assert frame.index.as_unit("us").asi8.tolist() == times.tolist()


def test_without_pandas_the_line_that_brings_it(tmp_path: Path) -> None:
    code = "import sys; sys.modules['pandas'] = None\nfrom skerry import History\nHistory(sys.argv[1]).to_pandas()"
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, timeout=60, check=False)
    assert "RejectedError: a data frame needs pandas; pip install 'skerry[pandas]'" in done.stderr
