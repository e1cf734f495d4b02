"""`skerry run` and `skerry status`."""

import typer

from skerry.cli.session import LOG_FILE, session
from skerry.cli.status import draw_status
from skerry.core.errors import UnavailableError


def run(context: typer.Context) -> None:
    """Run the node of the configuration until SIGTERM or Ctrl-C."""
    here = session(context)
    config = here.config()
    from skerry import node  # late: only this command runs a node
    from skerry.core import log

    level = "debug" if here.verbose else "warning" if here.quiet else "info"
    try:
        if not config.data_dir.exists():
            config.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        log.configure(level, config.data_dir / LOG_FILE)
    except OSError as error:
        raise UnavailableError(
            f"cannot be written: {error.strerror}",
            where=str(error.filename or config.data_dir),
            mend="mend node.data_dir or its owner",
        ) from error
    raise typer.Exit(node.serve(config))


def status(context: typer.Context) -> None:
    """Show how the node is: readiness, pipelines, the books, broker, models, storage."""
    here = session(context)
    found = here.client().get("/api/v1/node")
    here.show(found, lambda paper: draw_status(paper, found))
