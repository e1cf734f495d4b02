"""The pages: which parts each is made of, and what it asks the API for."""

from collections.abc import Awaitable, Callable
from urllib.parse import quote

from nicegui import ui

from skerry.dashboard import devices, models, pipelines, plant
from skerry.dashboard.alarm_pages import alarm_page, alarms_page
from skerry.dashboard.alarms import in_sight
from skerry.dashboard.controls import Field, button, sure
from skerry.dashboard.frame import Desk
from skerry.dashboard.history_page import history_page
from skerry.dashboard.html import Html, card, h
from skerry.dashboard.live import Live
from skerry.dashboard.overview import overview

API = "/api/v1"
LETTERS = 20


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
        return card("The way of a message", pipelines.flow(row), wide=True)

    async def scores() -> Html:
        row = await desk.client.get(here)
        answer = await desk.client.get(f"{API}/events", {"pipeline": desk.name, "last": 200})
        drawn = pipelines.scores(answer["events"], row["config"].get("rule"))
        return h(
            "div", card("Scores", drawn, note="the last 200 events", wide=True),
            card("Newest events", pipelines.last_events(answer["events"]), wide=True) if answer["events"] else None, class_="stack",
        )  # fmt: skip

    async def letters() -> Html:
        answer = await desk.client.get(f"{here}/deadletters", {"limit": LETTERS})
        return card("Dead letters", pipelines.letters(answer["dead_letters"], answer["next"] is not None), wide=True)

    async def books() -> Html:
        return card("Where its messages are", pipelines.books(await desk.client.get(here)), wide=True)

    await desk.part(head)
    with ui.element("div").classes("actions"):
        button("Pause", _post(desk, f"{here}/pause", "It takes no more messages; they wait in the log."))
        button("Resume", _post(desk, f"{here}/resume", "It goes on where it paused."))
        button("Retry dead letters", _post(desk, f"{here}/deadletters/retry", "The dead letters are processed again."))

        async def drop() -> None:
            if await sure("Forget all dead letters?", f"Those of {desk.name} cannot be brought back.", "Forget them"):
                await desk.do(desk.client.post(f"{here}/deadletters/drop"), "The dead letters are forgotten.")

        button("Forget dead letters", drop, "danger")
    await desk.part(live)
    await desk.part(scores, every=2)
    await desk.part(letters, every=5)
    await desk.part(books, every=2)


def _post(desk: Desk, path: str, done: str) -> Callable[[], Awaitable[None]]:
    async def act() -> None:
        await desk.do(desk.client.post(path), done)

    return act


async def devices_page(desk: Desk) -> None:
    """`/devices`"""

    async def draw() -> Html:
        answer = await desk.client.get(f"{API}/devices")
        return devices.devices(answer["devices"], (desk.status.get("broker") or {}).get("refused") or {})

    Live(h("h1", "Devices"), tag="header").classes("page-head")
    with ui.element("section").classes("card").props('aria-label="Add a device"'):
        Live(h("h2", "Add a device"), tag="header")
        with ui.element("div").classes("form"):
            name = Field("Device id")
            topics = Field("Further topics, such as sub:events/# (optional)")

            async def add() -> None:
                given = {"id": name.value.strip(), "topics": topics.value.split()}
                found = await desk.do(desk.client.post(f"{API}/devices", given), "")
                if found is not None:
                    _show_secret(secret, given["id"], str(found["password"]))

            button("Add with a password", add, "primary")
        secret = ui.element("div").props("role=status aria-live=polite")
    await desk.part(draw, every=3)


def _show_secret(place: ui.element, device: object, password: str) -> None:
    """A new credential: shown this once, and to be downloaded."""
    place.clear()
    with place, ui.element("div").classes("secret"):
        Live(h("p", f"The password of {device} is shown this once:"))
        Live(h("code", password))

        async def download() -> None:
            ui.download.content(f"{password}\n", f"{device}.password")

        with ui.element("div").classes("actions"):
            button("Download it", download)


async def device_page(desk: Desk) -> None:
    """`/devices/{name}`"""
    here = f"{API}/devices/{quote(desk.name, safe='')}"

    async def draw() -> Html:
        return devices.device(await desk.client.get(here))

    await desk.part(draw, every=2)

    async def rotate() -> None:
        if await sure("Give it another password?", f"{desk.name} is cut off until it has the new one.", "Make a new password"):
            found = await desk.do(desk.client.post(f"{here}/rotate", {}), "")
            if found is not None:
                _show_secret(secret, desk.name, str(found["password"]))

    async def revoke() -> None:
        if await sure("Refuse this device?", f"{desk.name} is cut off now and may not connect again.", "Revoke it"):
            await desk.do(desk.client.post(f"{here}/revoke"), "It may no longer connect.")

    async def remove() -> None:
        if not await sure("Forget this device?", f"{desk.name} may then be added anew.", "Forget it"):
            return
        if await desk.do(desk.client.delete(here), "") is not None:
            ui.navigate.to("/devices")

    with ui.element("div").classes("actions"):
        button("New password", rotate)
        button("Revoke", revoke, "danger")
        button("Forget", remove, "danger")
    secret = ui.element("div").props("role=status aria-live=polite")


async def models_page(desk: Desk) -> None:
    """`/models`"""

    async def draw() -> Html:
        return models.models((await desk.client.get(f"{API}/models"))["models"])

    Live(h("h1", "Models"), tag="header").classes("page-head")
    await desk.part(draw, every=3)


async def model_page(desk: Desk) -> None:
    """`/models/{name}`"""
    here = f"{API}/models/{quote(desk.name, safe='')}"

    async def draw() -> Html:
        return models.model(await desk.client.get(here))

    await desk.part(draw, every=2)
    found = await desk.do(desk.client.get(here), "")
    if found is None:
        return
    with ui.element("section").classes("card").props('aria-label="Switch"'):
        Live(h("h2", "Switch"), tag="header")
        with ui.element("div").classes("form"):
            versions = [str(row["version"]) for row in found["versions"]]
            chosen = Field("Version", str(found.get("active") or versions[0]), choices=versions)

            async def activate() -> None:
                await desk.do(desk.client.post(f"{here}/activate", {"version": chosen.value}), f"{chosen.value} is active.")

            async def shadow() -> None:
                await desk.do(desk.client.post(f"{here}/shadow", {"version": chosen.value}), f"{chosen.value} runs in the shadow.")

            button("Activate", activate, "primary")
            button("Run in the shadow", shadow)
            button("Roll back", _post(desk, f"{here}/rollback", "The version before is active again."))


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


async def cluster_page(desk: Desk) -> None:
    """`/cluster`"""

    async def draw() -> Html:
        return plant.cluster(desk.status)

    await desk.part(draw, every=2)


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
)
