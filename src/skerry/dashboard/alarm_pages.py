"""`/alarms` and each alarm: acknowledge, shelve, comment."""

from urllib.parse import quote

from nicegui import ui

from skerry.dashboard.alarms import alarm, alarms
from skerry.dashboard.controls import Field, button
from skerry.dashboard.frame import Desk
from skerry.dashboard.html import Html, empty, h, join
from skerry.dashboard.live import Live

API = "/api/v1/alarms"
SHELVES = {"1 hour": "1h", "8 hours": "8h", "1 day": "1d", "7 days": "7d"}


async def alarms_page(desk: Desk) -> None:
    """`/alarms`"""

    async def draw() -> Html:
        return alarms(await desk.client.get(API))

    await desk.part(draw)


async def alarm_page(desk: Desk) -> None:
    """`/alarms/{name}`"""
    here = f"{API}/{quote(desk.name, safe='')}"

    async def draw() -> Html:
        rows = (await desk.client.get(API))["alarms"]
        found = next((row for row in rows if row["alarm_id"] == desk.name), None)
        if found is None:
            gone = empty("This alarm is not known any more.", "The node tells of those that fire and the last 200 that ended.")
            return join([h("header", h("h1", "Alarm"), class_="page-head"), gone])
        return alarm(found)

    await desk.part(draw, every=2)
    with ui.element("section").classes("card").props('aria-label="Do something about it"'):
        Live(h("h2", "Do something about it"), tag="header")
        with ui.element("div").classes("form"):
            comment = Field("Comment (optional)")
            shelf = Field("Shelve for", "1 hour", choices=list(SHELVES))

            async def acknowledge() -> None:
                await desk.do(desk.client.post(f"{here}/acknowledge", {"comment": comment.value}), "It is acknowledged.")

            async def shelve() -> None:
                given = {"duration": SHELVES[shelf.value], "comment": comment.value}
                await desk.do(desk.client.post(f"{here}/shelve", given), f"It is out of sight for {shelf.value}.")

            async def unshelve() -> None:
                await desk.do(desk.client.post(f"{here}/unshelve"), "It is in sight again.")

            async def write() -> None:
                await desk.do(desk.client.post(f"{here}/comment", {"comment": comment.value}), "The comment is kept.")

        with ui.element("div").classes("actions"):
            button("Acknowledge", acknowledge, "primary")
            button("Shelve", shelve)
            button("Unshelve", unshelve)
            button("Comment", write)
