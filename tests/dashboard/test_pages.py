"""The pages in a real browser, on a real node with a model, devices and alarms: at both widths, in light and dark."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import paho.mqtt.client as paho
import pytest

from tests.dashboard.conftest import ON, page_of
from tests.fixtures.node import RunningNode, until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

AUDIT = (Path(__file__).parent / "audit.js").read_text()
PIPELINE = """
[[pipelines]]
name = "level"
source = { topic = "devices/+/level", format = "json", values = ["level"] }
window = { kind = "count", size = 2 }
features = ["mean"]
rule = { field = "score", above = 5.0, clear_below = 2.0, for = 1, severity = "critical" }
sinks = ["event", "history"]
"""
PAGES = (
    "/", "/alarms", "/pipelines", "/pipelines/level", "/devices", "/devices/tank", "/models",
    "/data", "/uplink", "/cluster", "/storage", "/log",
)  # fmt: skip
SIZES = ((1440, 900, "light"), (390, 844, "dark"))


def publish(node: RunningNode, values: list[float]) -> None:
    """Levels of the device `tank<1>`, each acknowledged."""
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="tanks")
    client.connect(*node.mqtt)
    client.loop_start()
    until(client.is_connected, 20, "CONNACK")
    for value in values:
        client.publish("devices/tank<1>/level", json.dumps({"level": value}), qos=1).wait_for_publish(20)
    client.publish("devices/tank<1>/level", "rubbish", qos=1).wait_for_publish(20)
    client.disconnect()
    client.loop_stop()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    """One for all pages, with an alarm and a dead letter."""
    with RunningNode(tmp_path_factory.mktemp("node"), PIPELINE, env=ON) as running:
        publish(running, [1, 1, 9, 9])
        with running.client() as client:
            client.post("/api/v1/devices", {"id": "tank"})
        until(lambda: running.pipeline("level")["events"], 20, "the alarm")
        yield running


class Visit:
    """A page of the browser that remembers what went wrong on it."""

    def __init__(self, browser: "Browser", base: str, width: int = 1440, height: int = 900, scheme: str = "light") -> None:
        self.base = base
        self.faults: list[str] = []
        self._context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if scheme == "dark" else "light",
            reduced_motion="reduce",
        )
        self.page: Page = self._context.new_page()
        self.page.set_default_timeout(30_000)
        self.page.on("console", lambda said: self.faults.append(said.text) if said.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", lambda asked: self.faults.append(asked.url) if not self._own(asked.url) else None)

    def _own(self, url: str) -> bool:
        return url.startswith((self.base, self.base.replace("http", "ws"), "data:", "blob:"))

    def go(self, path: str) -> "Page":
        self.page.goto(f"{self.base}{path}")
        self.page.wait_for_selector(".shell h1")
        return self.page

    def close(self) -> None:
        self._context.close()


@pytest.mark.parametrize("size", SIZES)
def test_every_page_has_no_fault_on_a_desk_and_on_a_phone(
    browser: "Browser", node: RunningNode, size: tuple[int, int, str], tmp_path: Path
) -> None:
    visit = Visit(browser, page_of(node), *size)
    for path in PAGES:
        page = visit.go(path)
        page.wait_for_timeout(1200 if path == "/" else 200)  # one redraw of the first
        assert page.evaluate(AUDIT) == [], path
        page.screenshot(path=tmp_path / "page.png", full_page=True)
        assert visit.faults == [], path
    visit.close()


def test_the_overview_shows_what_the_node_says_and_follows_it(browser: "Browser", node: RunningNode) -> None:
    visit = Visit(browser, page_of(node))
    page = visit.go("/")
    alarms = page.get_by_role("region", name="Alarms now")
    assert "tank<1>" in alarms.inner_text()  # as text: a device's name is never markup
    assert "critical" in alarms.inner_text()
    assert page.get_by_role("heading", level=1).inner_text().startswith("rock")
    for name in ("Latency", "Reliability", "Efficiency", "Bandwidth"):
        assert page.get_by_role("region", name=name, exact=True).is_visible()
    link = page.get_by_role("link", name="level")
    link.focus()
    publish(node, [0, 0])
    alarms.get_by_text("No alarm is firing.").wait_for()
    assert link.evaluate("e => e === document.activeElement")  # a redraw takes the focus from nobody
    visit.close()


def test_the_keyboard_reaches_the_content_first_and_the_theme_stays(browser: "Browser", node: RunningNode) -> None:
    visit = Visit(browser, page_of(node))
    page = visit.go("/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.get_by_role("button", name="Light or dark").press("Enter")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    visit.go("/log")
    page.get_by_role("table", name="Log").wait_for()  # all of the page is there
    page.locator("select").first.focus()
    names = ["SELECT", "SELECT", "SELECT", "INPUT", "INPUT", "Hold still"]
    for name in names:  # every control, in the order in which they stand
        assert page.evaluate("(e => e.localName === 'button' ? e.textContent : e.tagName)(document.activeElement)") == name
        page.keyboard.press("Tab" if name != names[-1] else "Enter")
    page.get_by_role("button", name="Follow").wait_for()
    assert page.evaluate("document.activeElement.textContent") == "Follow"
    visit.close()


def test_a_dashboard_that_is_killed_comes_back_and_the_page_with_it(browser: "Browser", node: RunningNode) -> None:
    visit = Visit(browser, page_of(node))
    visit.go("/")
    before = {process.pid for process in node.processes("dashboard")}
    node.kill("dashboard")
    until(lambda: {process.pid for process in node.processes("dashboard")} - before, 30, "another dashboard")
    until(lambda: node.try_status() and node.status()["dashboard"]["url"], 60, "it listens")
    assert any("the dashboard was restarted 1 times: ended by SIGKILL" in each for each in node.status()["warnings"])
    began = time.monotonic()
    again = Visit(browser, page_of(node))
    again.go("/")
    assert time.monotonic() - began < 60
    assert again.faults == []
    again.close()
    visit.close()
