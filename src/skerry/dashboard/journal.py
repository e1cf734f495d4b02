"""`/log`: what the node wrote down of itself, and who got in and changed what; filtered, the newest first."""

from collections.abc import Mapping, Sequence
from typing import Any

from nicegui import ui

from skerry.core.errors import SkerryError
from skerry.dashboard.controls import Field, button
from skerry.dashboard.frame import Desk
from skerry.dashboard.html import NONE, Html, card, count, empty, h, moment, pill, table
from skerry.dashboard.live import Live

Row = dict[str, Any]
API = "/api/v1"
LAST = 200
LOG, AUDIT = "log", "audit"
WHAT = {"the node's log": LOG, "the audit log: who got in, who changed what": AUDIT}
LEVELS = {"all": "", "warnings and errors": "warning", "errors": "error", "all, with debug": "debug"}
ANY = "all"
_TONES = {"error": "bad", "critical": "bad", "warning": "warn", "info": "calm", "debug": "calm"}
_NAMED = frozenset({"timestamp", "level", "part", "event", "by", "address", "reason"})


def drawn(which: str, answer: Row, held: bool) -> Html:
    """The lines, the newest first."""
    entries = list(reversed(answer["entries"]))
    title = "Audit log" if which == AUDIT else "Log"
    if not entries:
        return card(title, empty("No line fits.", "Lines come when something happens; widen the filter to see more."), wide=True)
    note = f"{'held: ' if held else ''}{count(len(entries))} lines, the newest first"
    rest = None if answer["whole"] else h("p", "Older lines were not looked at: `skerry logs` reads them all.", class_="soft")
    body = _audit(entries) if which == AUDIT else _log(entries)
    return card(title, body, rest, note=note, wide=True)


def _log(entries: Sequence[Row]) -> Html:
    rows = [
        (
            moment(entry.get("timestamp")), pill(_level(entry), _TONES.get(_level(entry), "calm")), entry.get("part") or NONE,
            _told(entry),
        )
        for entry in entries
    ]  # fmt: skip
    return table("Log", ("When (UTC)", "Level", "Part", "What"), rows, look="lines")


def _level(entry: Row) -> str:
    return str(entry.get("level", "info"))


def _told(entry: Row) -> Html:
    return h("span", h("span", entry.get("event", ""), class_="said"), _more(entry))


def _more(entry: Mapping[str, object]) -> Html | None:
    """What stands beside, in a second line."""
    fields = [f"{name} {value}" for name, value in entry.items() if name not in _NAMED]
    return h("span", ", ".join(fields), class_="soft more") if fields else None


def _audit(entries: Sequence[Row]) -> Html:
    rows = [
        (moment(entry.get("timestamp")), _told(entry), *[entry.get(name) or NONE for name in ("by", "address", "reason")])
        for entry in entries
    ]  # fmt: skip
    return table("Audit log", ("When (UTC)", "What", "Who", "From", "Why"), rows, look="lines")


class Reading:
    """What somebody reads: which log, through which filter, and whether it follows."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.which = LOG
        self.asked: dict[str, object] = {}
        self.held = False
        self._answer: Row | None = None

    async def draw(self) -> Html:
        """The lines; asked for anew unless they are held."""
        if self._answer is None or not self.held:
            self._answer = await self._desk.client.get(f"{API}/{self.which}", {**self.asked, "last": LAST})
        return drawn(self.which, self._answer, self.held)

    def ask(self, which: str, level: str, part: str, name: str, text: str) -> None:
        """Another filter; what is held is let go."""
        self.which, self._answer = which, None
        given = {"name": name.strip(), "text": text.strip()}
        given |= {"level": level, "part": part} if which == LOG else {}
        self.asked = {key: word for key, word in given.items() if word}


async def journal_page(desk: Desk) -> None:
    """`/log`"""
    reading = Reading(desk)
    Live(h("h1", "Log"), tag="header").classes("page-head")
    parts = await _parts(desk)

    async def change() -> None:
        reading.ask(WHAT[which.value], LEVELS[level.value], "" if part.value == ANY else part.value, name.value, text.value)
        await desk.redraw()

    with ui.element("section").classes("card").props('aria-label="Which lines"'):
        Live(h("h2", "Which lines"), tag="header")
        with ui.element("div").classes("form"):
            which = Field("Which log", next(iter(WHAT)), choices=list(WHAT), changed=change)
            level = Field("Level", next(iter(LEVELS)), choices=list(LEVELS), changed=change)
            part = Field("Part", ANY, choices=[ANY, *parts], changed=change)
            name = Field("Device or token", changed=change)
            text = Field("With the text", changed=change)
    with ui.element("div").classes("actions"):

        async def hold() -> None:
            reading.held = not reading.held
            held.show(h("span", "Follow" if reading.held else "Hold still"))
            await desk.redraw()

        held = button("Hold still", hold)
    await desk.part(reading.draw, every=2)


async def _parts(desk: Desk) -> list[str]:
    """The parts of the node that have said something."""
    try:
        answer = await desk.client.get(f"{API}/log", {"last": 1000})
    except SkerryError:  # the page itself says why
        return []
    return sorted({str(entry["part"]).partition(".")[0] for entry in answer["entries"] if entry.get("part")})
