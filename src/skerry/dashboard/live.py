"""A part of a page that shows HTML and changes in place."""

from nicegui import ui

from skerry.dashboard.html import Html


class Live(ui.element, component="live.js"):
    """An element of HTML; `show` sends another state of it, and nothing where nothing has changed."""

    def __init__(self, inside: Html, *, tag: str = "div") -> None:
        super().__init__()
        self._props["tag"] = tag
        self._props["inside"] = str(inside)

    def show(self, inside: Html) -> None:
        """What it shows from now on."""
        if self._props["inside"] != inside:
            self._props["inside"] = str(inside)
            self.update()
