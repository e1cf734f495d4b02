"""`make screenshots`: pictures of every page in docs/img, made from a running demo with a real browser."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from skerry.core.errors import SkerryError
from skerry.http import Client

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    "overview": "/", "pipeline": "/pipelines/pump-windows", "alarms": "/alarms", "devices": "/devices", "model": "/models/pump",
    "data": "/data", "storage": "/storage",
}  # fmt: skip
MOST_BYTES = 300_000
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run",
]  # fmt: skip


def wait_for(socket: Path, seconds: float = 120.0) -> str:
    """The dashboard's address, once there is something to see."""
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        time.sleep(1)
        try:
            with Client(socket) as client:
                status = client.get("/api/v1/node")
        except SkerryError:
            continue
        events = sum(row["events"] for row in status["pipelines"])
        if (status.get("dashboard") or {}).get("url") and events > 300:
            return str(status["dashboard"]["url"])
    raise SystemExit("the demo did not get so far")


def shoot(page: Page, url: str, name: str, path: str, to: Path) -> None:
    """One picture, of what fits on the screen."""
    page.goto(f"{url}{path}")
    page.wait_for_selector(".shell h1")
    if name == "data":
        for pump in ("pump-1", "pump-2", "pump-3"):
            page.get_by_role("button", name=f"{pump}/sensors/vibration", exact=True).click()
        page.get_by_label("Stretch").select_option("5 minutes")
    page.wait_for_timeout(25_000 if name == "overview" else 4_000)
    file = to / f"{name}.png"
    page.screenshot(path=file)
    size = file.stat().st_size
    print(f"{file.relative_to(ROOT)}  {size:,} bytes")
    if size > MOST_BYTES:
        raise SystemExit(f"{file} is larger than {MOST_BYTES:,} bytes")


def main() -> None:
    """Run the demo with a history, and take the pictures at the width of a desk, two of a phone."""
    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("needs chromium: scripts/ci-packages installs it")
    to = ROOT / "docs" / "img"
    to.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="skerry-screenshots-"))
    env = {**os.environ, "SKERRY_DASHBOARD__ENABLED": "true", "SKERRY_HISTORY__TOPICS": json.dumps(["devices/#"])}
    argv = [sys.executable, "-m", "skerry.cli", "demo", "--headless", "--seconds", "600", "--keep", str(folder)]
    demo = subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        url = wait_for(folder / "data" / "skerry.sock")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
            desk = browser.new_page(viewport={"width": 1440, "height": 900})
            for name, path in PAGES.items():
                shoot(desk, url, name, path, to)
            dark = browser.new_page(viewport={"width": 1440, "height": 900}, color_scheme="dark")
            shoot(dark, url, "overview-dark", "/", to)
            phone = browser.new_page(viewport={"width": 390, "height": 844}, device_scale_factor=2)
            shoot(phone, url, "phone", "/", to)
            browser.close()
    finally:
        demo.terminate()
        demo.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
