"""`/devices` and each device: add, watch its channels, give it another credential, refuse and forget it."""

from urllib.parse import quote

from nicegui import ui

from skerry.core.clock import Clock, SystemClock
from skerry.core.errors import SkerryError
from skerry.dashboard import devices
from skerry.dashboard.controls import Field, button, sure
from skerry.dashboard.frame import Desk
from skerry.dashboard.history import Stretch, points_of
from skerry.dashboard.html import Html, h
from skerry.dashboard.live import Live
from skerry.dashboard.plot import Point

API = "/api/v1"
MOST_CHANNELS = 8
NAMES_EVERY = 5  # draws
SHOWN = Stretch(seconds=300)
REFUSED = 10


async def devices_page(desk: Desk) -> None:
    """`/devices`"""

    async def draw() -> Html:
        answer = await desk.client.get(f"{API}/devices")
        return devices.devices(answer["devices"], (desk.status.get("broker") or {}).get("refused") or {}, desk.now)

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
        return devices.device(await desk.client.get(here), desk.now)

    channels = Channels(desk)
    await desk.part(draw, every=2)

    async def attempts() -> Html:
        try:
            answer = await desk.client.get(f"{API}/audit", {"name": desk.name, "text": "refused", "last": REFUSED})
        except SkerryError as error:
            return devices.attempts(None, str(error))
        return devices.attempts(answer["entries"])

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
    await desk.part(channels.draw, every=2)
    await desk.part(attempts, every=5)


class Channels:
    """The channels of a device as the history has them, a few minutes of each."""

    def __init__(self, desk: Desk, clock: Clock | None = None) -> None:
        self._desk = desk
        self._clock = clock or SystemClock()
        self._names: list[str] = []
        self._more = False
        self._draws = 0

    async def draw(self) -> Html:
        """A plot a channel, and one a score."""
        try:
            if self._draws % NAMES_EVERY == 0:
                await self._look()
            self._draws += 1
            now = self._clock.now() // 1_000_000
            return devices.channels({name: await self._points(name, now) for name in self._names}, SHOWN, now, self._more)
        except SkerryError as error:
            return devices.channels({}, SHOWN, 0, False, str(error))

    async def _look(self) -> None:
        """Which series there are: its own, and the scores that pipelines gave it."""
        found = await self._desk.client.get(f"{API}/series", {"prefix": f"{self._desk.name}/", "limit": MOST_CHANNELS})
        names = [str(row["name"]) for row in found["series"]]
        for pipeline in (self._desk.status.get("pipelines") or [])[:MOST_CHANNELS]:
            wanted = f"{pipeline['name']}/{self._desk.name}/score"
            answer = await self._desk.client.get(f"{API}/series", {"prefix": wanted, "limit": 1})
            names += [row["name"] for row in answer["series"] if row["name"] == wanted]
        self._names, self._more = names[:MOST_CHANNELS], found["next"] is not None or len(names) > MOST_CHANNELS

    async def _points(self, name: str, now: int) -> list[Point]:
        query = {**SHOWN.query(now), "every": "1s"}
        return points_of(await self._desk.client.get(f"{API}/series/{quote(name, safe='')}", query))
