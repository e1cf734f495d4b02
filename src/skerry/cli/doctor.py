"""`skerry doctor`: what could hinder the node on this machine, and how to mend it."""

import typer

from skerry.cli.session import Paper, clean, session
from skerry.core.errors import ConfigError


def doctor(context: typer.Context) -> None:
    """Look at all that a node needs: one line each, ok, warn or fail; exit 1 when one fails."""
    here = session(context)
    from skerry.core.clock import SystemClock  # late: most of the start-up time is its imports
    from skerry.node import examine, failed

    try:
        findings = examine(here.config(with_models=False), SystemClock())
    except ConfigError as error:
        findings = [failed("configuration", error)]
    broken = [each for each in findings if each.level == "fail"]

    def draw(paper: Paper) -> None:
        for each in findings:
            mend = f"; {each.mend}" if each.mend else ""
            paper.line(f"{each.level:<5} {each.check}: {clean(each.says)}{clean(mend)}")

    here.show({"ok": not broken, "findings": findings}, draw)
    if broken:
        raise typer.Exit(1)
