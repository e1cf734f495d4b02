"""`skerry ca`: the site's certificate authority, worked with offline on the files in the data directory."""

import os
from pathlib import Path
from typing import Annotated

import typer

from skerry.cli.session import Paper, session
from skerry.core.errors import RejectedError
from skerry.core.units import counted

app = typer.Typer(help="The site's certificate authority.", no_args_is_help=True)


@app.command()
def show(context: typer.Context) -> None:
    """Show the authority: its file, which devices need, its fingerprint and its end."""
    here = session(context)
    from skerry.core.clock import SystemClock, to_rfc3339  # late: most of the start-up time is its imports
    from skerry.node import site_authority

    authority = site_authority(here.config(with_models=False))
    authority.load()
    facts = authority.facts()
    days = facts.days_left(SystemClock().now())
    answer = {
        "file": str(authority.certificate),
        "fingerprint": facts.fingerprint,
        "not_after": to_rfc3339(facts.not_after),
        "days_left": days,
    }

    def draw(paper: Paper) -> None:
        paper.line(f"{authority.certificate}: {facts.issuer}")
        paper.line(f"fingerprint {facts.fingerprint}")
        paper.line(f"good until {to_rfc3339(facts.not_after)[:10]}, {counted(days, 'day')}")

    here.show(answer, draw)


@app.command()
def issue(
    context: typer.Context,
    id: Annotated[str, typer.Argument(metavar="ID", help="The device.")],
    out: Annotated[Path, typer.Option(help="A new file (0600) for its private key and its certificate, PEM.")],
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long it is good.")] = 825,
) -> None:
    """Sign a certificate for a device. The key is in the file only: the node keeps nothing of it."""
    here = session(context)
    from skerry.core.clock import SystemClock, to_rfc3339  # late: most of the start-up time is its imports
    from skerry.device import check_id
    from skerry.node import site_authority
    from skerry.trust import certificate_facts

    check_id(id)
    authority = site_authority(here.config(with_models=False))
    issued = authority.issue_device(id, SystemClock().now(), days)
    facts = certificate_facts(issued.certificate)
    try:
        with os.fdopen(os.open(out, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            file.write(issued.key + issued.certificate)
    except OSError as error:
        raise RejectedError(f"cannot be made: {error.strerror}", where=str(out), mend="name a new file") from error
    answer = {
        "device": id,
        "file": str(out),
        "ca": str(authority.certificate),
        "fingerprint": facts.fingerprint,
        "not_after": to_rfc3339(facts.not_after),
    }

    def draw(paper: Paper) -> None:
        paper.line(f"wrote {out}: key and certificate of {id}, good until {to_rfc3339(facts.not_after)[:10]}")
        paper.line(f"the device needs it and {authority.certificate}; let it in with: skerry device add {id} --cert ca")

    here.show(answer, draw)
