"""The pages: which parts each is made of, and what it asks the API for."""

from collections.abc import Awaitable, Callable
from urllib.parse import quote

from nicegui import ui

from skerry.core.errors import SkerryError
from skerry.dashboard import pipelines, plant
from skerry.dashboard.alarm_pages import alarm_page, alarms_page
from skerry.dashboard.alarms import in_sight
from skerry.dashboard.cluster_page import cluster_page
from skerry.dashboard.controls import button
from skerry.dashboard.device_pages import device_page, devices_page
from skerry.dashboard.frame import Desk
from skerry.dashboard.history_page import history_page
from skerry.dashboard.html import Html, card, h
from skerry.dashboard.journal import journal_page
from skerry.dashboard.letter_parts import Letters
from skerry.dashboard.model_pages import model_page, models_page
from skerry.dashboard.overview import overview

API = "/api/v1"


async def overview_page(desk: Desk) -> None:
    """`/`"""

    async def draw() -> Html:
        answer = await desk.client.get(f"{API}/alarms")
        return overview(desk.status, desk.watch.samples, in_sight(answer["alarms"]))

    await desk.part(draw)


async def pipelines_page(desk: Desk) -> None:
    """`/pipelines`"""

    async def draw() -> Html:
        return pipelines.pipelines(desk.status.get("pipelines") or [])

    await desk.part(draw)


async def pipeline_page(desk: Desk) -> None:
    """`/pipelines/{name}`"""
    here = f"{API}/pipelines/{quote(desk.name, safe='')}"

    async def head() -> Html:
        return pipelines.pipeline_head(await desk.client.get(here))

    async def live() -> Html:
        row = await desk.client.get(here)
        return card("The way of a message", pipelines.flow(row, desk.status.get("sinks") or []), wide=True)

    async def scores() -> Html:
        row = await desk.client.get(here)
        windows = (await desk.client.get(f"{here}/windows"))["windows"]
        answer = await desk.client.get(f"{API}/events", {"pipeline": desk.name, "last": 12})
        drawn = pipelines.scores(windows, row["config"].get("rule"))
        return h(
            "div", card("Scores", drawn, note="the last windows", wide=True),
            card("Newest events", pipelines.last_events(answer["events"]), wide=True) if answer["events"] else None, class_="stack",
        )  # fmt: skip

    async def books() -> Html:
        return card("Where its messages are", pipelines.books(await desk.client.get(here)), wide=True)

    await desk.part(head)
    with ui.element("div").classes("actions"):
        button("Pause", _post(desk, f"{here}/pause", "It takes no more messages; they wait in the log."))
        button("Resume", _post(desk, f"{here}/resume", "It goes on where it paused."))
    await desk.part(live)
    await desk.part(scores, every=2)
    await Letters(desk, f"{here}/deadletters", await _reasons(desk, here)).build()
    await desk.part(books, every=2)


async def _reasons(desk: Desk, here: str) -> list[str]:
    """Why messages became dead letters here so far; none while the node does not answer."""
    try:
        return sorted((await desk.client.get(here))["ledger"]["dead_letters"])
    except SkerryError:
        return []


def _post(desk: Desk, path: str, done: str) -> Callable[[], Awaitable[None]]:
    async def act() -> None:
        await desk.do(desk.client.post(path), done)

    return act


async def uplink_page(desk: Desk) -> None:
    """`/uplink`"""

    async def draw() -> Html:
        return plant.uplink(await desk.client.get(f"{API}/uplink"))

    await desk.part(draw, every=2)
    if (await desk.client.get(f"{API}/uplink")).get("uplink"):
        with ui.element("div").classes("actions"):
            button("Pause", _post(desk, f"{API}/uplink/pause", "Nothing is sent until it is resumed."))
            button("Resume", _post(desk, f"{API}/uplink/resume", "It sends again."))
            button("Test the link", _post(desk, f"{API}/uplink/test", "An empty envelope was acknowledged."))


async def storage_page(desk: Desk) -> None:
    """`/storage`"""

    async def draw() -> Html:
        return plant.storage(desk.status)

    await desk.part(draw, every=2)


PAGES: tuple[tuple[str, str, Callable[[Desk], Awaitable[None]]], ...] = (
    ("/", "Overview", overview_page),
    ("/alarms", "Alarms", alarms_page),
    ("/alarms/{name}", "Alarm", alarm_page),
    ("/pipelines", "Pipelines", pipelines_page),
    ("/pipelines/{name}", "Pipeline", pipeline_page),
    ("/devices", "Devices", devices_page),
    ("/devices/{name}", "Device", device_page),
    ("/models", "Models", models_page),
    ("/models/{name}", "Model", model_page),
    ("/data", "Data", history_page),
    ("/uplink", "Uplink", uplink_page),
    ("/cluster", "Cluster", cluster_page),
    ("/storage", "Storage", storage_page),
    ("/log", "Log", journal_page),
)
