"""A real node with its dashboard, and a real browser."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.fixtures.node import RunningNode, until

if TYPE_CHECKING:
    from playwright.sync_api import Browser

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run",
]  # fmt: skip
ON = {"SKERRY_DASHBOARD__ENABLED": "true", "SKERRY_DASHBOARD__LISTEN": "127.0.0.1:0"}


def page_of(node: RunningNode) -> str:
    """Where a node's dashboard is, once it is."""

    def url() -> str:
        return str(((node.try_status() or {}).get("dashboard") or {}).get("url") or "")

    return until(url, 60, "the dashboard listens")


@pytest.fixture(scope="session")
def browser() -> "Iterator[Browser]":
    """Debian's Chromium, driven by playwright."""
    from playwright.sync_api import sync_playwright  # late: only these tests need it

    program = shutil.which("chromium")
    if program is None:
        pytest.skip("needs chromium: scripts/ci-packages installs it")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield found
        found.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., RunningNode]]:
    """Start a node with a dashboard; further arguments are those of `RunningNode`."""
    nodes: list[RunningNode] = []

    def begin(pipelines: str = "", **given: Any) -> RunningNode:
        node = RunningNode(tmp_path, pipelines, **{**given, "env": {**ON, **given.get("env", {})}})
        nodes.append(node)
        node.start()
        return node

    yield begin
    for node in nodes:
        node.close()
