"""`skerry data`: what the pipelines put out."""

from typing import Annotated, Any

import typer

from skerry.cli.session import Session, clean, number, print_json, session

app = typer.Typer(help="Events.", no_args_is_help=True)
_EVENTS = "/api/v1/events"


@app.callback()
def group() -> None:
    """Events."""


@app.command()
def tail(
    context: typer.Context,
    pipeline: Annotated[str, typer.Option(help="Only of this pipeline.")] = "",
    key: Annotated[str, typer.Option(help="Only of this key (device).")] = "",
    count: Annotated[int, typer.Option("-n", "--count", min=0, max=1000, help="How many of the last events.")] = 10,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes.")] = False,
) -> None:
    """Show the last events. With --follow and --json: one object a line."""
    here = session(context)
    only = {"pipeline": pipeline, "key": key}
    answer = here.client().get(_EVENTS, {**only, "last": count}) if count else {"events": []}
    if here.json and not follow:
        print_json({"events": answer["events"]})
        return
    for event in answer["events"]:
        _print(here, event)
    if count and not answer["events"] and not follow:
        only_of = " ".join(f"{name} {clean(value)}" for name, value in only.items() if value)
        here.note(f"no events{f' of {only_of}' if only_of else ''} yet")
    if follow:
        _follow(here, only, answer.get("sequence"))


def _follow(here: Session, only: dict[str, str], after: int | None) -> None:
    last = "" if after is None else str(after)
    while True:
        for found in here.client().stream(f"{_EVENTS}/stream", only, last_id=last):
            if found.event == "error":
                raise _told(found.data)
            last = found.id
            import msgspec  # late: --help goes without

            _print(here, msgspec.json.decode(found.data))


def _told(body: str) -> Exception:
    from skerry.http import error_of  # late: --help goes without

    return error_of(503, "application/problem+json", body.encode())


def _print(here: Session, event: dict[str, Any]) -> None:
    if here.json:
        import msgspec  # late: --help goes without

        print(msgspec.json.encode(event).decode(), flush=True)
    elif not here.quiet:
        print(show_event(event), flush=True)


def show_event(event: dict[str, Any]) -> str:
    """One event in one line."""
    words = [
        clean(event.get("end")),
        clean(event.get("pipeline")),
        clean(event.get("key")),
        clean(event.get("state")),
        clean(event["severity"]) if event.get("severity") else "",
        f"score {number(event.get('score'), 4)}",
        f"label {clean(event['label'])}" if event.get("label") is not None else "",
        f"{number(event.get('count'))} sample{'' if event.get('count') == 1 else 's'}",
        f"{number(event.get('latency_ms'), 1)} ms",
    ]
    return "  ".join(word for word in words if word)
