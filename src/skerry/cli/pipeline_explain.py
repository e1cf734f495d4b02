"""`skerry pipeline explain`: why a window scored so."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skerry.cli.session import Paper, clean, new_file, number, session

if TYPE_CHECKING:
    from skerry.pipeline import Explanation

_SHOWN = 40


def explain(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The pipeline.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Recorded messages: .jsonl, .csv or .parquet.")],
    window: Annotated[
        int | None, typer.Option(metavar="N", help="By its place, from 0; -1 is the last. Else the one of the highest score.")
    ] = None,
    model: Annotated[str, typer.Option(metavar="M@V", help="This model in the place of the pipeline's.")] = "",
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw it into a new SVG file.")] = None,
) -> None:
    """Say why a window scored so: each feature against the reference, and what it added to the score."""
    here = session(context)
    config = here.config()
    from skerry.node import Pipeline  # late: most of the start-up time is its imports

    with new_file(plot) as write:
        found = Pipeline(config, name, model).explain(window, file)
        write(found.svg())
    here.show(found, lambda paper: _draw(paper, found))
    if plot is not None:
        here.note(f"drawn into {plot}")


def _draw(paper: Paper, found: "Explanation") -> None:
    paper.line(f"window {found.window}: {clean(found.key)}, {found.start} to {found.end}, label {clean(found.label)}")
    against = f"; {number(found.reference_score, 4)} with all at the reference" if found.reference_score is not None else ""
    paper.line(f"score {number(found.score, 4)}{against} ({found.reference}, {number(found.reference_rows)} rows)")
    columns = ("feature", "value", "reference", "usual", "without", "added")
    rows = [
        [
            clean(each.feature) + (" !" if each.unusual else ""), number(each.value, 4), number(each.reference, 4),
            "-" if each.low is None else f"{number(each.low, 4)} to {number(each.high, 4)}", number(each.without, 4),
            number(each.contribution, 4),
        ]
        for each in found.features[:_SHOWN]
    ]  # fmt: skip
    paper.table(columns, rows, right=columns[1:])
    if len(found.features) > _SHOWN:
        paper.line(f"and {len(found.features) - _SHOWN} more: --json shows all")
    if any(each.unusual for each in found.features):
        paper.line("! outside the middle four fifths of the reference")
