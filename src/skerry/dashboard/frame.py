"""What all pages share: navigation, the status that is kept fresh, errors as a sentence, and the tick that redraws."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from nicegui import ui

from skerry.core.errors import SkerryError
from skerry.dashboard.html import Html, h, join
from skerry.dashboard.live import Live
from skerry.dashboard.sessions import Session
from skerry.dashboard.watch import Row, Watch

ASSETS = Path(__file__).parent / "assets"
EVERY_S = 1.0
PAGES = (
    ("/", "Overview"),
    ("/alarms", "Alarms"),
    ("/pipelines", "Pipelines"),
    ("/devices", "Devices"),
    ("/models", "Models"),
    ("/data", "Data"),
    ("/uplink", "Uplink"),
    ("/cluster", "Cluster"),
    ("/storage", "Storage"),
    ("/log", "Log"),
)
HEAD = """<link rel="stylesheet" href="/assets/style.css"><script src="/assets/theme.js"></script>"""


class Desk:
    """One page that somebody has open: who, what they see of the node, and what is redrawn each second."""

    def __init__(self, session: Session, watch: Watch, name: str = "") -> None:
        self.session = session
        self.name = name  # of what the page is about, where it is about one thing
        self.watch = watch
        self.client = watch.client
        self._parts: list[tuple[Live, Callable[[], Awaitable[Html]], float]] = []
        self._ticks = 0
        self._busy = False

    @property
    def status(self) -> Row:
        """The node's, as it was a moment ago."""
        return self.watch.status

    @property
    def now(self) -> int:
        """Microseconds since the epoch."""
        return self.watch.now

    async def part(self, draw: Callable[[], Awaitable[Html]], every: int = 1) -> Live:
        """A part of the page that is drawn again every so many seconds."""
        live = Live(await self._drawn(draw))
        self._parts.append((live, draw, every))
        return live

    async def redraw(self) -> None:
        """Draw all of it now: something was done."""
        await self.watch.ask()
        for live, draw, _ in self._parts:
            live.show(await self._drawn(draw))

    async def tick(self) -> None:
        """Redraw what is due; while that takes longer than a second, ticks are left out."""
        if self._busy:
            return
        self._busy = True
        try:
            if self.session.ended or self.watch.barred:
                ui.navigate.to("/login")
                return
            await self.watch.look()
            self._ticks += 1
            for live, draw, every in self._parts:
                if self._ticks % every == 0:
                    live.show(await self._drawn(draw))
        finally:
            self._busy = False

    async def _drawn(self, draw: Callable[[], Awaitable[Html]]) -> Html:
        try:
            if self.watch.trouble:
                return trouble_card(self.watch.trouble)
            return await draw()
        except SkerryError as error:
            return trouble_card(str(error))

    async def do(self, work: Awaitable[Any], done: str) -> Any:
        """Have something done, and say that it was, or why not; its answer, None where it failed."""
        try:
            found = await work
        except SkerryError as error:
            ui.notify(str(error), type="negative", timeout=10_000, close_button="Close", multi_line=True)
            return None
        if done:
            ui.notify(done, type="positive")
        await self.redraw()
        return found if found is not None else {}


def trouble_card(sentence: str) -> Html:
    """In the place of what cannot be shown: why."""
    return h("section", h("h2", "This cannot be shown now"), h("p", f"{sentence}."), class_="card banner", role="alert")


def side(path: str, logged_in: bool) -> Html:
    """Brand, navigation, theme and log-out."""
    here = [path == at or (at != "/" and path.startswith(f"{at}/")) for at, _ in PAGES]
    links = [
        h("li", h("a", name, href=at, aria_current="page" if now else None)) for (at, name), now in zip(PAGES, here, strict=True)
    ]
    out = h("form", h("button", "Log out", type="submit", class_="button quiet"), method="post", action="/logout")
    return join(
        [
            h("a", h("img", src="/assets/icon.svg", alt=""), "skerry", href="/", class_="brand"),
            h("nav", h("ul", *links), aria_label="Pages"),
            h(
                "footer",
                h("button", "Light or dark", type="button", class_="button quiet", data_switch_theme=""),
                out if logged_in else None,
            ),
        ]
    )


async def frame(desk: Desk, path: str, title: str, build: Callable[[Desk], Awaitable[None]]) -> None:
    """The page around what `build` makes."""
    ui.page_title(f"{title} · {desk.status.get('node', 'skerry')}")
    ui.add_head_html(HEAD)
    ui.query(".q-page").props("role=none")  # the library's own main holds navigation too
    Live(h("a", "Skip to the content", href="#main", class_="skip"), tag="span")
    with ui.element("div").classes("shell"):
        Live(side(path, bool(desk.session.token)), tag="header").classes("side")
        with ui.element("main").props('id="main" tabindex="-1"'):
            await build(desk)
    ui.timer(EVERY_S, desk.tick)


async def opened(session: Session, watch: Watch, name: str = "") -> Desk:
    """A desk with a status, or with the reason why there is none."""
    async with asyncio.timeout(15):
        await watch.look()
    return Desk(session, watch, name)
