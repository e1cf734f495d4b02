"""Buttons, fields and questions of a page."""

from collections.abc import Awaitable, Callable

from nicegui import ui
from nicegui.events import GenericEventArguments

from skerry.dashboard.html import Html, h
from skerry.dashboard.live import Live


def button(text: str, act: Callable[[], Awaitable[None]], look: str = "") -> Live:
    """A button; `look`: primary, danger or quiet. While its work is under way it is off, but keeps the focus."""
    made = Live(h("span", text), tag="button")
    busy = False

    async def pressed() -> None:
        nonlocal busy
        if busy:
            return
        busy = True
        made.props("aria-disabled=true")
        try:
            await act()
        finally:
            busy = False
            if not made.is_deleted:
                made.props(remove="aria-disabled")

    made.props("type=button").classes(f"button {look}".strip()).on("click", pressed)
    return made


class Field:
    """A labelled field of text (or a list to choose from); `value` is what stands in it."""

    def __init__(
        self,
        label: str,
        value: str = "",
        *,
        choices: list[str] | None = None,
        changed: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.value = value
        self._changed = changed
        with ui.element("label").classes("field"):
            Live(Html(h("span", label)), tag="span")
            if choices is None:
                made = ui.element("input").props("type=text autocomplete=off spellcheck=false")
            else:
                inside = [h("option", choice, value=choice, selected=choice == value) for choice in choices]
                made = Live(Html("".join(inside)), tag="select")
        made.on("input", self._typed, js_handler="(event) => emit(event.target.value)")

    async def _typed(self, event: GenericEventArguments) -> None:
        self.value = str(event.args or "")
        if self._changed is not None:
            await self._changed()


async def sure(question: str, more: str, yes: str) -> bool:
    """Ask before what cannot be taken back; Escape means no."""
    return await _asked(question, more, yes, None) is not None


async def ask_why(question: str, more: str, yes: str) -> str | None:
    """The same with a field for the reason, which may stay empty; None means no."""
    return await _asked(question, more, yes, "Why, for the audit log (optional)")


async def _asked(question: str, more: str, yes: str, label: str | None) -> str | None:
    with ui.dialog() as dialog, ui.element("div").classes("card dialog"):
        Live(h("h2", question), tag="div")
        Live(h("p", more), tag="div")
        field = Field(label) if label else None
        with ui.element("div").classes("actions"):

            async def answer_yes() -> None:
                dialog.submit(field.value.strip() if field else "")

            async def answer_no() -> None:
                dialog.submit(None)

            button(yes, answer_yes, "primary")
            button("Cancel", answer_no)
    found = await dialog
    dialog.delete()
    return found if isinstance(found, str) else None
