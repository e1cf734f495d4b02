"""`skerry pipeline trace`: the next message, and where it spent its time."""

from typing import Annotated, Any
from urllib.parse import quote

import typer

from skerry.cli.session import Paper, clean, number, session
from skerry.core.units import counted

_WIDTH = 30


def trace(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The pipeline.")],
    device: Annotated[str, typer.Option(help="Only a message of this device (key).")] = "",
    timeout: Annotated[float, typer.Option(metavar="SECONDS", min=0.1, max=300.0, help="Wait for it, and for its window.")] = 30.0,
) -> None:
    """Follow the next message from the device's clock to the sinks, and show where it spent its time."""
    here = session(context)
    query = f"?timeout={timeout:g}s" + (f"&key={quote(device, safe='')}" if device else "")
    answer = here.client(timeout=timeout + 30).post(f"/api/v1/pipelines/{quote(name, safe='')}/trace{query}")
    here.show(answer, lambda paper: draw_trace(paper, answer))


def draw_trace(paper: Paper, answer: dict[str, Any]) -> None:
    """What it was, a line a step with its bar, and what came of it."""
    spans = answer.get("spans") or []
    paper.line(
        f"message {number(answer.get('sequence'))} of {clean(answer.get('key'))} on {clean(answer.get('topic'))}, "
        f"{counted(answer.get('bytes'), 'byte')}"
    )
    longest = max((span["ms"] for span in spans), default=0.0)
    rows = [[span["step"], number(span["ms"], 3), _bar(span["ms"], longest), span["what"]] for span in spans]
    paper.table(("step", "ms", "", "what"), rows, right=("ms",))
    window = answer.get("window")
    if window:
        of = f"{clean(window['start'])} to {clean(window['end'])}, {counted(window['samples'], 'sample')}"
        paper.line(f"window {of}; scored with {counted((answer.get('batch') or 1) - 1, 'other')}")
    event = f" {clean(answer['event'])}" if answer.get("event") else ""
    paper.line(f"{number(answer.get('total_ms'), 1, 'ms')} in all; {clean(answer.get('outcome'))}{event}")


def _bar(milliseconds: float, longest: float) -> str:
    """Its part of the longest step; what is there at all is seen."""
    if milliseconds <= 0 or longest <= 0:
        return ""
    return "█" * max(1, round(_WIDTH * milliseconds / longest))
