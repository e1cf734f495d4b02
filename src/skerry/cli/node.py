"""`skerry run`, `skerry witness` and `skerry status`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skerry.cli.session import LOG_FILE, Session, session
from skerry.cli.status import draw_status, draw_uptime
from skerry.core.errors import UnavailableError

if TYPE_CHECKING:
    from skerry.config import NodeConfig


def run(context: typer.Context) -> None:
    """Run the node of the configuration until SIGTERM or Ctrl-C."""
    here = session(context)
    config = here.config()
    from skerry import node  # late: only this command runs a node

    _log_to(here, config)

    def tell(running: node.Node) -> None:
        from skerry.cli.next_steps import next_steps  # late: only on a terminal

        file = None if config.path is None or config.path.resolve() == Path("skerry.toml").resolve() else config.path
        mqtt = running.server.mqtt_listener() if config.broker.mqtt else None
        lines = next_steps([spec.source for spec in config.pipelines], file, mqtt)
        if running.dashboard.expected_url:
            when = "" if running.dashboard.url else ", as soon as `skerry status` says that it is up"
            print(f"dashboard: {running.dashboard.expected_url}{when}", file=sys.stderr)
        print("next, in another terminal:", *lines, sep="\n  ", file=sys.stderr)

    raise typer.Exit(node.serve(config, tell if sys.stderr.isatty() and not here.quiet else None))


def witness(context: typer.Context) -> None:
    """Run the third member of a cluster of two boxes: it keeps what they keep, and takes no device and no work."""
    here = session(context)
    config = here.config(with_models=False)
    from skerry import node  # late: only this command runs one

    _log_to(here, config)
    raise typer.Exit(node.witness(config))


def _log_to(here: Session, config: "NodeConfig") -> None:
    """Have the log written to the data directory, which is made where it is not there."""
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


def status(
    context: typer.Context,
    uptime: Annotated[
        str | None, typer.Option(help="Show when the node was up in the last so long (such as 30d), and each gap with its reason.")
    ] = None,
) -> None:
    """Show how the node is: readiness, pipelines, the books, broker, models, storage, the promises."""
    here = session(context)
    if uptime is not None:
        report = here.client().get("/api/v1/node/uptime", {"over": uptime})
        here.show(report, lambda paper: draw_uptime(paper, report))
        return
    found = here.client().get("/api/v1/node")
    here.show(found, lambda paper: draw_status(paper, found))
