"""What a node tells its dashboard, and what it says of one that is not there."""

import asyncio
from pathlib import Path

import pytest

from skerry.config import load
from skerry.core.clock import SystemClock
from skerry.core.errors import ConfigError
from skerry.dashboard import Report
from skerry.node.dashboard import NodeDashboard


def made(tmp_path: Path, text: str, there: bool = True) -> NodeDashboard:
    file = tmp_path / "skerry.toml"
    file.write_text(text)
    return NodeDashboard(load(file), SystemClock(), there=lambda: there)


@pytest.fixture(autouse=True)
def _as_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SKERRY_DASHBOARD__ENABLED")


def test_without_the_extra_a_node_that_did_not_ask_for_it_has_one_line_on_status(tmp_path: Path) -> None:
    found = made(tmp_path, "", there=False)
    assert not found.on
    assert found.status() == {
        "url": "",
        "sentence": "the extra is not installed: pip install 'skerry[dashboard]', or set dashboard.enabled to false",
    }
    assert found.warnings() == []


def test_without_the_extra_a_node_that_asked_for_it_by_name_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"dashboard\.enabled: the extra is not installed.*pip install"):
        made(tmp_path, "[dashboard]\nenabled = true", there=False)


def test_it_is_on_by_default_and_off_by_word(tmp_path: Path) -> None:
    assert made(tmp_path, "").on
    off = made(tmp_path, "[dashboard]\nenabled = false")
    assert (off.on, off.status(), off.expected_url) == (False, None, "")


def test_status_and_warnings_are_the_child_s_words(tmp_path: Path) -> None:
    found = made(tmp_path, '[dashboard]\nlisten = "127.0.0.1:8099"')
    assert found.status() == {"url": "", "sentence": "starting"}
    assert found.expected_url == "http://127.0.0.1:8099"
    found.report = Report("", "cannot listen on 127.0.0.1:8099: address already in use")
    assert found.warnings() == ["dashboard: cannot listen on 127.0.0.1:8099: address already in use"]
    found.report = Report("http://127.0.0.1:8099", "the dashboard is on http://127.0.0.1:8099")
    assert found.url == found.expected_url
    assert found.warnings() == []


def test_where_it_is_off_nothing_runs(tmp_path: Path) -> None:
    class NoApi:
        """Fails when it is looked at."""

    asyncio.run(made(tmp_path, "[dashboard]\nenabled = false").serve(NoApi()))  # type: ignore[arg-type]  # nothing of it is used
