"""`skerry config`: check, show, schema, reload."""

import json
from typing import Annotated

import typer

from skerry.cli.session import Paper, clean, print_json, session
from skerry.core.units import counted

app = typer.Typer(help="The configuration file.", no_args_is_help=True)


@app.command()
def check(context: typer.Context) -> None:
    """Check the configuration: exit 0, or 2 with what is wrong."""
    here = session(context)
    config = here.config()
    pipelines, models = [spec.name for spec in config.pipelines], [model.name for model in config.models]

    def draw(paper: Paper) -> None:
        paper.line(f"{config.path or 'the environment'}: well formed; {_some(pipelines, 'pipeline')}, {_some(models, 'model')}")

    answer = {"ok": True, "file": str(config.path) if config.path else None, "pipelines": pipelines, "models": models}
    here.show(answer, draw)


@app.command()
def show(
    context: typer.Context,
    origin: Annotated[bool, typer.Option("--origin", help="Also where each value comes from.")] = False,
) -> None:
    """Show every setting."""
    here = session(context)
    from skerry import config  # late: most of the start-up time is its imports

    rows = config.show(here.file)

    def draw(paper: Paper) -> None:
        for key, value, source in rows:
            text = f"{key} = {clean(json.dumps(value, ensure_ascii=False))}"
            paper.line(f"{text}  # {source}" if origin else text)

    here.show({"config": [{"key": key, "value": value, "origin": source} for key, value, source in rows]}, draw)


@app.command()
def schema() -> None:
    """Print the JSON Schema of skerry.toml."""
    from skerry import config  # late: most of the start-up time is its imports

    print_json(config.schema())


@app.command()
def reload(context: typer.Context) -> None:
    """Have the running node read its configuration again."""
    here = session(context)
    answer = here.client().post("/api/v1/config/reload")

    def draw(paper: Paper) -> None:
        changed, waiting = answer.get("changed") or [], answer.get("needs_restart") or []
        paper.line(f"changed: {', '.join(map(clean, changed)) or 'nothing'}")
        if waiting:
            paper.line(f"needs a restart: {', '.join(map(clean, waiting))}")

    here.show(answer, draw)


def _some(names: list[str], what: str) -> str:
    listed = f" ({', '.join(names)})" if names else ""
    return f"{counted(len(names), what)}{listed}"
