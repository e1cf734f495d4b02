"""`/models` and each model: upload, activate, run in the shadow, roll back, remove."""

from typing import Any
from urllib.parse import quote, urlencode

from nicegui import ui

from skerry.dashboard import models
from skerry.dashboard.controls import Field, button, sure
from skerry.dashboard.frame import Desk
from skerry.dashboard.html import Html, h, join
from skerry.dashboard.live import Live
from skerry.dashboard.uploads import PATIENCE_S, TRIAL_S

API = "/api/v1/models"


class FileField(ui.element, component="upload.js"):
    """A labelled field for a file."""

    def __init__(self, label: str, accept: str) -> None:
        with ui.element("label").classes("field"):
            Live(Html(h("span", label)), tag="span")
            super().__init__()
        self._props["accept"] = accept

    async def send(self, url: str) -> dict[str, Any]:
        """The dashboard's answer to what was chosen: `{row}`, or why it was not taken as `{error}`."""
        try:
            found: dict[str, Any] = await self.run_method("send", url, timeout=PATIENCE_S + TRIAL_S)
        except TimeoutError:
            return {"error": "the node did not answer"}
        return found


async def models_page(desk: Desk) -> None:
    """`/models`"""

    async def draw() -> Html:
        return models.models((await desk.client.get(API))["models"])

    Live(h("h1", "Models"), tag="header").classes("page-head")
    await desk.part(draw, every=3)
    with ui.element("section").classes("card").props('aria-label="Add a version"'):
        note = h("span", "it is tried on the node, and runs when it is activated", class_="soft")
        Live(join([h("h2", "Add a version"), note]), tag="header")
        with ui.element("div").classes("form"):
            name = Field("Model")
            version = Field("Version (optional: the next number)")
            file = FileField("ONNX file", ".onnx")

            async def upload() -> None:
                if not name.value.strip():
                    ui.notify("Give the model a name.", type="negative")
                    return
                given = {"version": version.value.strip()} if version.value.strip() else {}
                answer = await file.send(f"/upload/models/{quote(name.value.strip(), safe='')}?{urlencode(given)}")
                row = answer.get("row")
                if row is None:
                    ui.notify(answer["error"], type="negative", timeout=15_000, close_button="Close", multi_line=True)
                    return
                file.run_method("clear")
                ui.notify(f"{row['name']}@{row['version']} is staged. It runs when it is activated.", type="positive")
                await desk.redraw()

            button("Upload", upload, "primary")


async def model_page(desk: Desk) -> None:
    """`/models/{name}`"""
    here = f"{API}/{quote(desk.name, safe='')}"

    async def head() -> Html:
        return models.head(await desk.client.get(here))

    async def draw() -> Html:
        return models.model(await desk.client.get(here))

    await desk.part(head, every=2)
    found = await desk.do(desk.client.get(here), "")
    if found is None:
        return
    with ui.element("section").classes("card").props('aria-label="Switch"'):
        Live(h("h2", "Switch"), tag="header")
        with ui.element("div").classes("form"):
            versions = [str(row["version"]) for row in found["versions"]]
            chosen = Field("Version", str(found.get("active") or versions[0]), choices=versions)

            async def activate() -> None:
                asked = desk.client.post(f"{here}/activate", {"version": chosen.value}, timeout=TRIAL_S)
                await desk.do(asked, f"{chosen.value} is active.")

            async def shadow() -> None:
                asked = desk.client.post(f"{here}/shadow", {"version": chosen.value}, timeout=TRIAL_S)
                await desk.do(asked, f"{chosen.value} runs in the shadow.")

            async def alone() -> None:
                await desk.do(desk.client.post(f"{here}/shadow", {"version": None}), "Nothing runs in the shadow.")

            async def rollback() -> None:
                if await sure("Roll back?", f"The version of {desk.name} before this one becomes active again.", "Roll back"):
                    await desk.do(desk.client.post(f"{here}/rollback", timeout=TRIAL_S), "The version before is active again.")

            async def remove() -> None:
                words = f"{desk.name}@{chosen.value} is removed from the disk."
                if await sure(f"Remove version {chosen.value}?", words, "Remove it"):
                    await desk.do(desk.client.delete(f"{here}/versions/{quote(chosen.value, safe='')}"), "It is removed.")

        with ui.element("div").classes("actions"):
            button("Activate", activate, "primary")
            button("Run in the shadow", shadow)
            button("End the shadow", alone)
            button("Roll back", rollback)
            button("Remove", remove, "danger")
    await desk.part(draw, every=2)
