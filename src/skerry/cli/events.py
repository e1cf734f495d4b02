"""What a pipeline gave that ran over what was recorded."""

from typing import Any

from skerry.cli.session import Paper, clean, number
from skerry.core.units import counted

_SHOWN = 50


def draw_run(paper: Paper, answer: dict[str, Any]) -> None:
    """Its events in a table, its dead letters, and one line of counts."""
    events, letters = answer["events"], answer["dead_letters"]
    if events:
        columns = ("start", "key", "state", "score", "label", "count")
        rows = [[event.get(name) if name != "score" else number(event.get(name), 4) for name in columns] for event in events]
        paper.table(columns, rows[:_SHOWN], right=("score", "count"))
    if len(events) > _SHOWN:
        paper.line(f"and {len(events) - _SHOWN} more: --json shows all")
    for letter in letters[:10]:
        paper.line(f"dead letter: {clean(letter.get('reason'))}: {clean(letter.get('detail'))} ({clean(letter.get('topic'))})")
    paper.line(
        f"{counted(answer['messages'], 'message')}, {counted(answer['windows'], 'window')}, {counted(len(events), 'event')}, "
        f"{number(answer['late'])} late, {counted(len(letters), 'dead letter')}"
    )
