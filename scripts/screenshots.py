"""`make screenshots`: pictures of every page in docs/img, made from a running demo with a real browser."""

import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from skerry.core.errors import SkerryError
from skerry.http import Client

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    "overview": "/", "alarms": "/alarms", "alarm": "/alarms/{alarm}", "pipelines": "/pipelines",
    "pipeline": "/pipelines/pump-windows", "devices": "/devices", "device": "/devices/pump-1", "models": "/models",
    "model": "/models/pump", "data": "/data", "uplink": "/uplink", "cluster": "/cluster", "storage": "/storage",
    "log": "/log",
}  # fmt: skip
DARK = ("overview", "pipeline")
DESK, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
MOST_BYTES, MOST_IN_ALL = 200_000, 3_000_000
COLOURS = 128
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run",
]  # fmt: skip


def wait_for(socket: Path, seconds: float = 180.0) -> tuple[str, str]:
    """The dashboard's address and an alarm's id, once there is something to see."""
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        time.sleep(1)
        try:
            with Client(socket) as client:
                status = client.get("/api/v1/node")
                alarms = client.get("/api/v1/alarms")["alarms"]
        except SkerryError:
            continue
        events = sum(row["events"] for row in status["pipelines"])
        if (status.get("dashboard") or {}).get("url") and events > 200 and alarms:
            return str(status["dashboard"]["url"]), str(alarms[0]["alarm_id"])
    raise SystemExit("the demo did not get so far")


def dress(folder: Path, alarm: str) -> None:
    """What a site does that works with it: the events go up the link, and somebody has seen an alarm."""
    file = folder / "skerry.toml"
    file.write_text(file.read_text().replace('sinks = ["event"]', 'sinks = ["event", "uplink"]'))
    with Client(folder / "data" / "skerry.sock", timeout=60) as client:
        client.post("/api/v1/config/reload")
        client.post(f"/api/v1/alarms/{quote(alarm, safe='')}/acknowledge", {"comment": "the coupling is loose, Mara looks at it"})


def shoot(page: Page, url: str, name: str, file: Path) -> int:
    """One picture, of what fits on the screen, in few colours; its bytes."""
    page.goto(url)
    page.wait_for_selector(".shell h1")
    if name == "data":
        for pump in ("pump-1", "pump-2", "pump-3"):
            page.get_by_role("button", name=f"{pump}/sensors/vibration", exact=True).click()
        page.get_by_label("Stretch").select_option("5 minutes")
    if name == "log":
        page.get_by_label("Which log").select_option(index=1)
    page.wait_for_timeout(25_000 if file.stem == "overview" else 3_000)
    with Image.open(io.BytesIO(page.screenshot())) as taken:
        taken.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(file, optimize=True)
    size = file.stat().st_size
    print(f"{file.relative_to(ROOT)}  {size:,} bytes", flush=True)
    if size > MOST_BYTES:
        raise SystemExit(f"{file} is larger than {MOST_BYTES:,} bytes")
    return size


def shoot_all(browser: Browser, url: str, alarm: str, to: Path) -> int:
    """Every page on a desk in light and on a phone in dark, some on a desk in dark too; bytes in all."""
    desk, dark = browser.new_page(viewport=DESK), browser.new_page(viewport=DESK, color_scheme="dark")
    phone = browser.new_page(viewport=PHONE, color_scheme="dark", device_scale_factor=2)
    total = 0
    for name, path in PAGES.items():
        at = url + path.format(alarm=quote(alarm, safe=""))
        total += shoot(desk, at, name, to / f"{name}.png")
        total += shoot(phone, at, name, to / f"{name}-phone.png")
        if name in DARK:
            total += shoot(dark, at, name, to / f"{name}-dark.png")
    return total


def main() -> None:
    """Run the demo with a history, as a cluster of one with an uplink into a directory, and take the pictures."""
    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("needs chromium: scripts/ci-packages installs it")
    to = ROOT / "docs" / "img"
    to.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="skerry-screenshots-"))
    (folder / "centre").mkdir()
    given = {
        "DASHBOARD__ENABLED": "true", "HISTORY__TOPICS": json.dumps(["devices/#"]), "NODE__NAME": "harbour-1",
        "CLUSTER__ENABLED": "true", "CLUSTER__LISTEN": "127.0.0.1:0", "UPLINK__KIND": "file", "UPLINK__URL": "../centre",
    }  # fmt: skip
    env = {**os.environ, **{f"SKERRY_{name}": value for name, value in given.items()}}
    argv = [sys.executable, "-m", "skerry.cli", "demo", "--headless", "--seconds", "900", "--keep", str(folder / "demo")]
    demo = subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        url, alarm = wait_for(folder / "demo" / "data" / "skerry.sock")
        dress(folder / "demo", alarm)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
            total = shoot_all(browser, url, alarm, to)
            browser.close()
    finally:
        demo.terminate()
        demo.wait(60)
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{total:,} bytes in all")
    if total > MOST_IN_ALL:
        raise SystemExit(f"they are larger than {MOST_IN_ALL:,} bytes in all")


if __name__ == "__main__":
    main()
