"""The pictures of docs/concepts.md: `scripts/pictures.py --write` draws them into docs/img as SVG, in light and in dark."""

import sys
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "img"
STYLE = """
:root { --ground: #fff; --ink: #15202b; --soft: #55636f; --line: #c9d1d9; --box: #f4f6f8;
  --accent: #0f5f7d; --good: #17703f; --warn: #8a5a00; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #151d23; --ink: #e5ebf0; --soft: #9cabb8; --line: #3b4a55; --box: #1f2a32;
    --accent: #67bfdc; --good: #63c792; --warn: #e0ab4b; }
}
text { font: 14px system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; fill: var(--ink); }
.name { font-weight: 650; } .soft { fill: var(--soft); font-size: 12.5px; }
.accent { fill: var(--accent); font-size: 12.5px; font-weight: 600; }
.good { fill: var(--good); font-weight: 650; } .warn { fill: var(--warn); font-weight: 650; }
.box { fill: var(--box); stroke: var(--line); } .group { fill: none; stroke: var(--line); stroke-dasharray: 5 4; }
.arrow { fill: none; stroke: var(--accent); stroke-width: 1.8; } .back { stroke-dasharray: 5 4; } .head { fill: var(--accent); }
""".strip()
WIDTH = 1000


def text(x: float, y: float, words: str, look: str = "", anchor: str = "start") -> str:
    """One line of words."""
    return f'<text x="{x:g}" y="{y:g}" class="{look}" text-anchor="{anchor}">{escape(words)}</text>'


def box(x: float, y: float, width: float, height: float, name: str, *lines: str) -> Iterator[str]:
    """A box with a name and lines below it."""
    yield f'<rect class="box" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="9"/>'
    yield text(x + width / 2, y + 24, name, "name", "middle")
    for at, line in enumerate(lines):
        yield text(x + width / 2, y + 43 + 17 * at, line, "soft", "middle")


def arrow(path: str, look: str = "") -> str:
    """An arrow along a path."""
    return f'<path class="arrow {look}" d="{path}" marker-end="url(#head)"/>'


def group(x: float, y: float, width: float, height: float, name: str) -> Iterator[str]:
    """A process around boxes."""
    yield f'<rect class="group" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="12"/>'
    yield text(x + 12, y + 19, name, "accent")


def whole(height: float, title: str, parts: Iterator[str]) -> str:
    """The picture as a file."""
    head = '<path class="head" d="M0 0 L8 4 L0 8 Z"/>'
    marker = f'<marker id="head" markerWidth="9" markerHeight="9" refX="7" refY="4" orient="auto">{head}</marker>'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(title)}">',
            f"<style>{STYLE}</style><defs>{marker}</defs>",
            f'<rect width="{WIDTH}" height="{height:g}" rx="14" style="fill: var(--ground)"/>',
            *parts,
            "</svg>\n",
        ]
    )


def message() -> str:
    """One message's way."""

    def parts() -> Iterator[str]:
        yield from box(20, 70, 120, 84, "Device", "MQTT, QoS 1", "keeps it until")
        yield text(80, 147, "the PUBACK", "soft", "middle")
        yield from group(190, 34, 200, 150, "nats-server")
        yield from box(210, 70, 160, 84, "The log", "one for all devices,", "on disk, in order")
        yield arrow("M140 96 H206")
        yield text(173, 88, "publish", "accent", "middle")
        yield arrow("M210 134 H146", "back")
        yield text(175, 152, "PUBACK", "accent", "middle")
        yield from group(440, 34, 540, 150, "worker: one call each, no queue between them")
        names = (("decode", "bytes", "→ rows"), ("window", "rows of a", "device"), ("features", "numpy, all", "at once"),
                 ("model", "ONNX, one", "run"), ("rule", "alarm", "or not"))  # fmt: skip
        for at, (name, *lines) in enumerate(names):
            yield from box(456 + 104 * at, 70, 92, 84, name, *lines)
            if at:
                yield arrow(f"M{444 + 104 * at} 112 H{453 + 104 * at}")
        yield arrow("M390 112 H451")
        yield text(415, 104, "read", "accent", "middle")
        yield from group(190, 234, 200, 150, "nats-server")
        yield from box(210, 270, 160, 84, "Checkpoints", "cursor and state of a", "pipeline in one write")
        yield from group(440, 234, 200, 150, "nats-server")
        yield from box(460, 270, 160, 84, "Events", "an id computed from", "what it is about")
        yield arrow("M918 154 V212 H570 V264")
        yield text(748, 205, "event, until it is acknowledged", "accent", "middle")
        yield arrow("M480 184 V208 H330 V264", "back")
        yield text(342, 228, "once a second, after its events", "accent")
        for at, (name, what) in enumerate((("MQTT", "events/… at QoS 1"), ("history", "readings and events"),
                                           ("uplink", "what is worth sending"), ("API, page", "pages and a stream"))):  # fmt: skip
            y = 236 + 39 * at
            yield f'<rect class="box" x="720" y="{y}" width="260" height="33" rx="8"/>'
            yield text(734, y + 21, name, "name")
            yield text(966, y + 21, what, "soft", "end")
            yield arrow(f"M620 312 C660 312 670 {y + 16} 714 {y + 16}")
        yield text(14, 290, "After a crash the worker", "soft")
        yield text(14, 308, "reads on from the check-", "soft")
        yield text(14, 326, "point. It decides what it", "soft")
        yield text(14, 344, "decided; ids that are there", "soft")
        yield text(14, 362, "already are not sent again.", "soft")

    return whole(404, "One message's way: device, log, worker, events, sinks; and back to the log by checkpoints", parts())


STAGES: Sequence[tuple[str, str, Sequence[str], Sequence[str]]] = (
    ("1  Sent", "nothing yet",
     ("The device has it, and", "sends it again until it", "gets a PUBACK."),
     ("The link, a process or", "the box ends: it comes", "again.")),
    ("2  Acknowledged", "will be processed",
     ("It is in the log. The", "kernel has it; the disk", "within broker.sync."),
     ("kill -9 of anything: kept.", "Power cut: the last 1 s", "may go; none with", "sync = \"always\".")),
    ("3  Read", "counted",
     ("It is in an open window,", "in memory of a worker.", "The ledger has it."),
     ("The worker ends: read", "again from the check-", "point; same windows.")),
    ("4  Event stored", "it happens once",
     ("The event log has it", "under an id computed", "from the window."),
     ("A crash makes it again:", "same id, so it is not", "stored again.")),
    ("5  Checkpointed", "no more needed",
     ("Cursor, open windows", "and alarms are stored in", "one write."),
     ("The log is trimmed up", "to the lowest cursor of", "all who read it.")),
    ("6  Delivered", "at least once",
     ("Each sink has its own", "cursor; a slow one holds", "up no other."),
     ("A crash then: it comes", "again, with the same id.", "The uplink waits for the", "centre.")),
)  # fmt: skip


def promised() -> str:
    """What is promised when."""

    def parts() -> Iterator[str]:
        yield text(24, 128, "what is so", "accent")
        yield text(24, 224, "if something ends", "accent")
        for at, (name, promise, state, fault) in enumerate(STAGES):
            x = 20 + 162 * at
            yield f'<rect class="box" x="{x}" y="20" width="150" height="66" rx="9"/>'
            yield text(x + 75, 46, name, "name", "middle")
            yield text(x + 75, 68, promise, "warn" if at == 0 else "good", "middle")
            if at:
                yield arrow(f"M{x - 12} 53 H{x - 3}")
            for lines, y in ((state, 148), (fault, 244)):
                for number, line in enumerate(lines):
                    yield text(x + 4, y + 17 * number, line, "soft")

    return whole(318, "What is promised when: sent, acknowledged, read, event stored, checkpointed, delivered", parts())


PICTURES = {"concept-message.svg": message, "concept-promised.svg": promised}


def main() -> None:
    """With `--write` write them, else say which are not as this script draws them."""
    stale = [name for name, draw in PICTURES.items() if _now(IMAGES / name) != draw()]
    if "--write" in sys.argv:
        for name in stale:
            (IMAGES / name).write_text(PICTURES[name](), encoding="utf-8")
    elif stale:
        raise SystemExit(f"{', '.join(stale)} in docs/img: run scripts/pictures.py --write")


def _now(path: Path) -> str:
    return path.read_text("utf-8") if path.is_file() else ""


if __name__ == "__main__":
    main()
