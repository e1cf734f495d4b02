"""`/data`: the history, browsed: choose series, zoom, move, compare, export."""

from collections.abc import Awaitable, Callable
from urllib.parse import quote

from nicegui import ui

from skerry.core.clock import Clock, SystemClock
from skerry.core.errors import SkerryError
from skerry.dashboard.controls import Field, button
from skerry.dashboard.frame import Desk, trouble_card
from skerry.dashboard.history import MOST_SERIES, SPANS, Row, Stretch, csv, drawn, keys_of, listed, marks_of, points_of
from skerry.dashboard.html import Html, h
from skerry.dashboard.live import Live
from skerry.dashboard.plot import Mark, Point

API = "/api/v1/series"
LISTED = 60
Redraw = Callable[[], Awaitable[None]]
EVENTS = 500
MARKED = "marked in the plot"
TOGETHER, APART = "in one plot", "each in its own plot"


class Browser:
    """What somebody looks at in the history."""

    def __init__(self, desk: Desk, clock: Clock | None = None) -> None:
        self._desk = desk
        self._clock = clock or SystemClock()
        self.stretch = Stretch()
        self.chosen: list[str] = []
        self.together = True
        self.found: dict[str, list[Point]] = {}
        self.marked = True
        self.marks: list[Mark] = []

    @property
    def now(self) -> int:
        """Unix seconds."""
        return self._clock.now() // 1_000_000

    async def ask(self) -> None:
        """Fetch what is chosen."""
        found: dict[str, list[Point]] = {}
        for name in self.chosen:
            answer = await self._desk.client.get(f"{API}/{quote(name, safe='')}", self.stretch.query(self.now))
            found[name] = points_of(answer)
        self.found = found
        self.marks = await self._happened() if self.marked else []

    async def _happened(self) -> list[Mark]:
        """Alarms of the chosen series' devices in the stretch: of each, the first some of them."""
        begin, end = self.stretch.bounds(self.now)
        events: list[Row] = []
        for key in keys_of(self.chosen):
            asked = {"key": key, "since": begin, "limit": EVENTS}
            events += (await self._desk.client.get("/api/v1/events", asked))["events"]
        return [mark for mark in marks_of(events) if begin <= mark.at <= end]

    async def draw(self) -> Html:
        """The plot; what follows is asked for anew."""
        if self.stretch.end is None or set(self.found) != set(self.chosen):
            await self.ask()
        return drawn(self.found, self.stretch, self.now, self.together, self.marks)


async def history_page(desk: Desk) -> None:
    """`/data`"""
    browser = Browser(desk)
    Live(h("h1", "Data"), tag="header").classes("page-head")
    try:
        await desk.client.get(API, {"limit": 1})
    except SkerryError as error:
        Live(trouble_card(str(error)))
        return
    with ui.element("section").classes("card").props('aria-label="Series"'):
        Live(h("h2", "Series"), tag="header")
        with ui.element("div").classes("form"):
            prefix = Field("Names that begin with")

            async def search() -> None:
                await _list(desk, browser, prefix.value, places, redraw)

            button("Search", search)
        places = ui.element("div").classes("choices")
    with ui.element("div").classes("form"):
        span = Field("Stretch", "1 hour", choices=list(SPANS), changed=lambda: show(Stretch(SPANS[span.value])))
        how = Field("Show", TOGETHER, choices=[TOGETHER, APART], changed=lambda: show(browser.stretch))
        what = Field("Alarms", MARKED, choices=[MARKED, "left out"], changed=lambda: show(browser.stretch))
    with ui.element("div").classes("actions"):
        button("Zoom in", lambda: show(browser.stretch.zoomed(0.5, browser.now)))
        button("Zoom out", lambda: show(browser.stretch.zoomed(2.0, browser.now)))
        button("Earlier", lambda: show(browser.stretch.moved(-0.5, browser.now)))
        button("Later", lambda: show(browser.stretch.moved(0.5, browser.now)))

        async def export() -> None:
            ui.download.content(csv(browser.found), "history.csv")

        button("Export as CSV", export)
    plot = await desk.part(browser.draw, every=2)

    async def show(stretch: Stretch) -> None:
        browser.stretch, browser.together, browser.found = stretch, how.value == TOGETHER, {}
        browser.marked = what.value == MARKED
        await redraw()

    async def redraw() -> None:
        await desk.do(browser.ask(), "")
        plot.show(await browser.draw())

    await search()


async def _list(desk: Desk, browser: Browser, prefix: str, places: ui.element, redraw: Redraw) -> None:
    answer = await desk.client.get(API, {"prefix": prefix, "limit": LISTED})
    names = [row["name"] for row in answer["series"]]
    places.clear()
    with places:
        Live(h("p", listed(names, answer["next"] is not None), class_="soft"))
        for name in names:
            _choice(browser, name, redraw)


def _choice(browser: Browser, name: str, redraw: Redraw) -> None:
    async def toggle() -> None:
        if name in browser.chosen:
            browser.chosen.remove(name)
        elif len(browser.chosen) < MOST_SERIES:
            browser.chosen.append(name)
        made.props(f"aria-pressed={'true' if name in browser.chosen else 'false'}")
        await redraw()

    made = button(name, toggle, "choice")
    made.props(f"aria-pressed={'true' if name in browser.chosen else 'false'}")
