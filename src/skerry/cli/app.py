"""The tree of commands and the options that all of them share."""

from pathlib import Path
from typing import Annotated

import typer

from skerry.cli import (
    backup,
    bundle,
    certificates,
    cluster,
    config,
    connector,
    data,
    demo,
    device,
    doctor,
    explain,
    init,
    kv,
    logs,
    model,
    node,
    pipeline,
    self_update,
    token,
    top,
    uplink,
)
from skerry.cli.session import Session

app = typer.Typer(
    help="Run ONNX models on live device data, on one box or a small cluster of boxes.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("init")(init.init)
app.command("run")(node.run)
app.command("witness")(node.witness)
app.command("demo")(demo.demo)
app.command("status")(node.status)
app.command("top")(top.top)
app.command("doctor")(doctor.doctor)
app.command("logs")(logs.logs)
app.command("explain")(explain.explain)
app.command("self-update")(self_update.self_update)
for group in (config, device, token, model, pipeline, data, kv, backup, bundle, uplink, connector, cluster):
    app.add_typer(group.app, name=group.__name__.rpartition(".")[2])


app.add_typer(certificates.app, name="ca")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"skerry {version()}")
        raise typer.Exit


def version() -> str:
    """The installed version."""
    from importlib import metadata  # late: only --version needs it

    try:
        return metadata.version("skerry")
    except metadata.PackageNotFoundError:
        return "not installed"


@app.callback()
def common(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option("--config", help="Default: $SKERRY_CONFIG, ./skerry.toml, /etc/skerry/skerry.toml.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
    url: Annotated[str, typer.Option(help="Ask the node at https://host:port instead of the one on this machine.")] = "",
    token_file: Annotated[
        Path | None, typer.Option("--token-file", metavar="FILE", help="A file with the token for --url; default: $SKERRY_TOKEN.")
    ] = None,
    ca: Annotated[
        Path | None, typer.Option("--ca", metavar="FILE", help="The CAs to trust (PEM) instead of this machine's.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only errors.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="More of what happens.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    context.obj = Session(config_file=config, json=json, url=url, quiet=quiet, verbose=verbose, token_file=token_file, ca=ca)
