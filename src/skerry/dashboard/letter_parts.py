"""Dead letters on the page of a pipeline: chosen singly or by reason and device, looked into, tried again, forgotten."""

from typing import Any

from nicegui import ui
from nicegui.events import GenericEventArguments

from skerry.dashboard import pipelines
from skerry.dashboard.controls import Field, ask_why, button
from skerry.dashboard.frame import Desk
from skerry.dashboard.html import Html, card, count
from skerry.dashboard.live import Live

SHOWN = 20
LOOKED_INTO = 3
EVERY = "every reason"
_CHECKED = "(event) => emit([...event.currentTarget.querySelectorAll('input:checked')].map((box) => box.value))"
Row = dict[str, Any]


class Letters:
    """What somebody has chosen of the dead letters of a pipeline; `here` is where the API has them."""

    def __init__(self, desk: Desk, here: str, reasons: list[str]) -> None:
        self._desk = desk
        self._here = here
        self._reasons = reasons
        self._chosen: list[str] = []
        self._only: Row = {}

    async def build(self) -> None:
        """Fields and buttons, the letters below them, and what is inside of those that were looked into."""
        with ui.element("section").classes("card").props('aria-label="Which of them"'):
            with ui.element("div").classes("form"):
                reason = Field("Reason", EVERY, choices=[EVERY, *self._reasons], changed=lambda: self._show(reason, key))
                key = Field("Device", changed=lambda: self._show(reason, key))
            with ui.element("div").classes("actions"):
                button("Look inside", self._look)
                button("Retry dead letters", self._retry)
                button("Forget dead letters", self._forget, "danger")
        self._inside = Live(Html(""))
        self._part = await self._desk.part(self._draw, every=5)
        self._part.on("change", self._choose, js_handler=_CHECKED)

    async def _draw(self) -> Html:
        answer = await self._desk.client.get(self._here, {**self._only, "limit": SHOWN})
        drawn = pipelines.letters(answer["dead_letters"], answer["next"] is not None, bool(self._only))
        return card("Dead letters", drawn, note="choose some, or take all that are shown by reason and device", wide=True)

    async def _show(self, reason: Field, key: Field) -> None:
        given = {"reason": "" if reason.value == EVERY else reason.value, "key": key.value.strip()}
        self._only = {name: value for name, value in given.items() if value}
        self._chosen = []
        await self._desk.redraw()

    def _choose(self, event: GenericEventArguments) -> None:
        self._chosen = [str(each) for each in event.args]

    def _which(self) -> tuple[Row, str]:
        """For the API, and in words."""
        if self._chosen:
            return {"ids": self._chosen}, f"{count(len(self._chosen))} chosen dead letter{'s' * (len(self._chosen) > 1)}"
        words = " of ".join(str(value) for value in self._only.values())
        return self._only, f"all dead letters of {words}" if words else "all dead letters"

    async def _look(self) -> None:
        found: list[Row] = []
        for each in self._chosen[:LOOKED_INTO]:
            found += (await self._desk.client.get(self._here, {"id": each}))["dead_letters"]
        if not found:
            ui.notify("Choose the dead letter to look into first.", type="warning")
        self._inside.show(pipelines.inside(found))

    async def _retry(self) -> None:
        which, words = self._which()
        await self._done(self._desk.client.post(f"{self._here}/retry", which), f"Processed again: {words}.")

    async def _forget(self) -> None:
        which, words = self._which()
        why = await ask_why(f"Forget {words}?", "They cannot be brought back.", "Forget them")
        if why is not None:
            await self._done(self._desk.client.post(f"{self._here}/drop", {**which, "why": why}), f"Forgotten: {words}.")

    async def _done(self, work: Any, said: str) -> None:
        if await self._desk.do(work, said) is not None:
            self._chosen = []
            self._inside.show(Html(""))
