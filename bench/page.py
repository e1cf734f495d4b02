"""The group "page": what the dashboard costs the node while somebody looks, and how long the browser takes for an update.

A browser has the overview, a pipeline and the log open while 5,000 messages a second come. An update is timed in the page,
from the moment that its WebSocket has a message until the frame that shows it is drawn. The peer is the same node without a page.
"""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil

from bench.rows import Options, Row, Say, median_row, running
from bench.run import load_for, run, windows_for
from bench.systems import PIPELINE, Skerry
from skerry.core.errors import UnavailableError

if TYPE_CHECKING:
    from playwright.async_api import Page

RATE = 5000.0
PATHS = ("/", f"/pipelines/{PIPELINE}", "/log")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run"]
LEAST_UPDATES = 3
# Before any script of the page: each message of a WebSocket, until its frame is drawn.
PROBE = """
window.updates = [];
const Plain = window.WebSocket;
window.WebSocket = class extends Plain {
  constructor(...given) {
    super(...given);
    this.addEventListener("message", () => {
      const began = performance.now();
      requestAnimationFrame(() => {
        const drawn = new MessageChannel();
        drawn.port1.onmessage = () => window.updates.push(performance.now() - began);
        drawn.port2.postMessage(null);
      });
    });
  }
};
"""


class Shown(Skerry):
    """A node with a page, or without."""

    def __init__(self, folder: Path, page: bool) -> None:
        super().__init__(folder)
        if page:
            self.configure("[dashboard]\nenabled = false", '[dashboard]\nenabled = true\nlisten = "127.0.0.1:0"')

    async def page(self) -> str:
        """Where the page is, once it is."""
        async with asyncio.timeout(60):
            while not (url := ((await self.call("GET", "/node"))["dashboard"] or {}).get("url")):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.2)
        return str(url)


@asynccontextmanager
async def looking(url: str) -> AsyncIterator[list["Page"]]:
    """A browser with the pages open; it gives way to all else, since it would be on another machine."""
    from playwright.async_api import async_playwright  # late: only this group needs it

    program = shutil.which("chromium")
    if program is None:
        raise UnavailableError("there is no chromium", mend="`bash scripts/ci-packages` installs it")
    async with async_playwright() as playwright:
        before = set(psutil.Process().children(recursive=True))
        browser = await playwright.chromium.launch(executable_path=program, args=FLAGS)
        pages = []
        for path in PATHS:
            page = await browser.new_page(viewport={"width": 1440, "height": 900})
            await page.add_init_script(PROBE)
            await page.goto(f"{url}{path}")
            await page.wait_for_selector(".shell h1")
            pages.append(page)
        for process in set(psutil.Process().children(recursive=True)) - before:
            os.setpriority(os.PRIO_PROCESS, process.pid, 10)
        yield pages
        await browser.close()


async def updates_of(pages: "list[Page]") -> list[float]:
    """Milliseconds of all updates since the last call."""
    found: list[float] = []
    for page in pages:
        found += await page.evaluate("window.updates.splice(0)")
    return found


async def page(options: Options, say: Say) -> list[Row]:
    p99: dict[bool, list[float]] = {True: [], False: []}
    slow: list[float] = []
    longest: list[float] = []
    for _ in range(options.rounds):
        for with_page in (False, True):
            async with running(partial(Shown, page=with_page)) as (system, sink):
                assert sink is not None
                assert isinstance(system, Shown)
                load = load_for(system, RATE, windows_for(RATE, options.seconds))
                if not with_page:
                    found = await run(system, sink, load)
                    p99[False].append(found.p99)
                    say(f"  none: p50 {found.p50:.2f} ms, p99 {found.p99:.2f} ms")
                    continue
                async with looking(await system.page()) as pages:
                    await updates_of(pages)  # those of opening them are no updates
                    found = await run(system, sink, load)
                    updates = await updates_of(pages)
                if len(updates) < LEAST_UPDATES * len(pages):
                    raise SystemExit(f"the pages were updated {len(updates)} times only")
                p99[True].append(found.p99)
                slow.append(float(np.quantile(updates, 0.99)))
                longest.append(max(updates))
                say(
                    f"  page: p50 {found.p50:.2f} ms, p99 {found.p99:.2f} ms; {len(updates)} updates, "
                    f"p50 {np.quantile(updates, 0.5):.1f} ms, p99 {slow[-1]:.1f} ms, longest {longest[-1]:.1f} ms"
                )
    return [
        median_row("page", "the node's p99 at 5,000/s while three pages are open", "ms", "ratio ≤ 1.2", p99[True], p99[False]),
        median_row("page", "p99 of an update, from its arrival to its frame", "ms", "< 100", slow),
        median_row("page", "the longest update", "ms", "", longest),
    ]


ROWS = {"page": page}
