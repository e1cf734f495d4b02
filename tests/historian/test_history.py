"""`History`: numpy arrays of a node or of files, moments in every form, and errors with a sentence."""

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
