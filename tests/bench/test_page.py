"""The group "page": its node has a page or none, and the rest of the configuration is that of the other rows."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from bench import __main__ as bench
from bench.page import Shown
from bench.report import ABOUT


@pytest.mark.parametrize("page", [True, False])
def test_only_the_page_is_another(tmp_path: Path, page: bool) -> None:
    Shown(tmp_path, page).log.close()
    found: dict[str, Any] = tomllib.loads((tmp_path / "skerry.toml").read_text())
    assert found.pop("dashboard") == ({"enabled": True, "listen": "127.0.0.1:0"} if page else {"enabled": False})
    assert [table["name"] for table in found["pipelines"]] == ["bench"]


def test_the_group_can_be_asked_for() -> None:
    assert set(bench.GROUPS["page"]) == {"page"}
    assert set(ABOUT) == set(bench.GROUPS)
