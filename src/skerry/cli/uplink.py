"""`skerry uplink`: the link to the centre, and the centre's own end of it."""

import base64
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skerry.cli.session import Paper, Session, clean, number, print_json, session
from skerry.core.clock import SECOND
from skerry.core.errors import RejectedError
from skerry.core.units import at_key, counted, parse_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from skerry.uplink import Record

app = typer.Typer(help="The link to the centre: what leaves, and what comes of other nodes.", no_args_is_help=True)
_UPLINK = "/api/v1/uplink"
_ENVELOPE = "application/vnd.skerry.uplink"
_LOOK_S = 0.5


@app.command()
def status(context: typer.Context) -> None:
    """What waits, what was sent, what was saved."""
    here = session(context)
    answer = here.client().get(_UPLINK)

    def draw(paper: Paper) -> None:
        uplink, received = answer.get("uplink"), answer.get("received")
        if not uplink and not received:
            paper.line(_why_none(here))
        if uplink:
            _draw_uplink(paper, uplink)
        if received:
            _draw_received(paper, received)

    here.show(answer, draw)


def _why_none(here: Session) -> str:
    """Why the node has no uplink: nobody set one, or it was set since the node was started."""
    section = None if here.url else here.config(with_models=False).uplink
    if section is None or not (section.url or section.receive):
        return "no uplink: set uplink.url, or uplink.receive where other nodes send to this one"
    key = "uplink.url" if section.url else "uplink.receive"
    return f"{key} is set, but not yet in the node that runs: restart it"


def _draw_uplink(paper: Paper, uplink: dict[str, Any]) -> None:
    paper.line(f"{clean(uplink.get('kind'))} {clean(uplink.get('sentence'))}")
    lanes = uplink.get("lanes")
    if not lanes:
        return
    if uplink.get("last"):
        paper.line(f"last acknowledged {clean(uplink['last'])}")
    paper.line()
    names = ("waiting", "items", "envelopes", "bytes", "failed")
    rows = [[clean(lane), *(number(counts.get(name)) for name in names)] for lane, counts in lanes.items()]
    paper.table(("priority", "waiting", "sent", "envelopes", "bytes", "failed"), rows, right=("waiting", "sent", *names))
    pipelines = (uplink.get("saved") or {}).get("pipelines") or {}
    if pipelines:
        paper.line()
        paper.table(("pipeline", "messages", "bytes in", "queued", "saved by"), [_saved(*row) for row in pipelines.items()],
                    right=("messages", "bytes in", "queued"))  # fmt: skip
    withheld = (uplink.get("saved") or {}).get("withheld") or {}
    if withheld:
        paper.line()
        paper.line("withheld: " + ", ".join(f"{clean(rule)} {number(count)}" for rule, count in withheld.items()))


def _saved(name: str, counts: dict[str, Any]) -> list[str]:
    saved = ", ".join(f"{clean(rule)} {number(count)}" for rule, count in (counts.get("saved") or {}).items() if count)
    queued = sum((counts.get("queued") or {}).values())
    return [clean(name), number(counts.get("messages")), number(counts.get("bytes_in")), number(queued), saved or "-"]


def _draw_received(paper: Paper, received: dict[str, Any]) -> None:
    paper.line(
        f"received: {counted(received.get('envelopes'), 'envelope')}, {counted(received.get('messages'), 'message')} of them; "
        f"{number(received.get('again'))} that were there already, {number(received.get('refused'))} refused"
    )
    for row in received.get("commands") or ():
        paper.line(f"command {clean(row['id'])} for {clean(row['site'])}/{clean(row['node'])} waits until {clean(row['expires'])}")


@app.command()
def pause(context: typer.Context) -> None:
    """Send no more; what is to leave waits in the queue, over restarts too."""
    here = session(context)
    here.show(here.client().post(f"{_UPLINK}/pause"), lambda paper: paper.line("paused: what is to leave waits"))


@app.command()
def resume(context: typer.Context) -> None:
    """Go on sending."""
    here = session(context)
    here.show(here.client().post(f"{_UPLINK}/resume"), lambda paper: paper.line("it sends again"))


@app.command()
def test(context: typer.Context) -> None:
    """Send an empty envelope to the centre and say how long its acknowledgement took; exit 1 where there was none."""
    here = session(context)
    answer = here.client(timeout=60).post(f"{_UPLINK}/test")
    here.show(answer, lambda paper: paper.line(clean(answer["sentence"])))
    if not answer["ok"]:
        raise typer.Exit(1)


@app.command()
def preview(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="PIPELINE", help="Which pipeline.")],
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="Messages as `pipeline test` takes them: JSONL, CSV or Parquet.")
    ] = None,
    live: Annotated[str, typer.Option(metavar="DURATION", help="Instead: what comes to the node for so long.")] = "",
    out: Annotated[Path | None, typer.Option(help="Write the envelopes into this directory, as files.")] = None,
) -> None:
    """Show exactly what would leave for these messages: the bytes, and all that is in them. Needs no node, but for --live."""
    from skerry.node import Pipeline  # late: it loads a model

    here = session(context)
    if (file is None) == (not live):
        raise typer.BadParameter("give a FILE, or --live with a duration such as 10s")
    pipeline = Pipeline(here.config(), name)
    if file is not None:
        found = pipeline.preview(file)
    else:
        found = pipeline.preview(live_s=at_key("--live", parse_duration, live) / SECOND, client=here.client(timeout=60))
    answer = found.show()
    for at, envelope in enumerate(found.envelopes if out is not None else ()):
        assert out is not None
        _write(out / f"preview-{at:06d}.skup", envelope)

    def draw(paper: Paper) -> None:
        paper.line(
            f"{counted(len(found.envelopes), 'envelope')}, {counted(answer['bytes'], 'byte')}, "
            f"{counted(len(found.records), 'record')}"
        )
        for record in found.records:
            print_json(_message(record))
        withheld = ", ".join(f"{clean(rule)} {number(count)}" for rule, count in answer["withheld"].items())
        paper.line(f"withheld: {withheld or 'nothing'}")

    here.show(answer, draw)


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise RejectedError(
            f"cannot be written: {error.strerror}", where=str(path), mend="name a directory that is there"
        ) from error


@app.command()
def receive(
    context: typer.Context,
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Envelopes, or directories with them (*.skup).")],
    show: Annotated[bool, typer.Option("--show", help="Print the messages that they hold instead; needs no node.")] = False,
) -> None:
    """Turn envelopes back into messages: in the log of the node, each once, however often it is given."""
    here = session(context)
    found = _envelopes(files)
    if show:
        _show(here, found)
        return
    client = here.client(timeout=60)
    taken = again = 0
    for path, envelope in found:
        try:
            again += bool(client.upload(f"{_UPLINK}/receive", envelope, _ENVELOPE).get("again"))
        except RejectedError as error:
            raise RejectedError(error.message, where=str(path), mend=f"{taken} before it were taken; {error.mend}") from error
        taken += 1
    words = f"in the log: {counted(taken, 'envelope')}"
    if again:
        words += ", there already" if again == taken else f", {again} of them there already"
    here.show({"envelopes": taken, "again": again}, lambda paper: paper.line(words))


def _envelopes(files: list[Path]) -> "Iterator[tuple[Path, bytes]]":
    """Each envelope of files and directories, those of one sender in the order of their numbers."""
    for path in files:
        for each in sorted(path.glob("*.skup")) if path.is_dir() else [path]:
            try:
                yield each, each.read_bytes()
            except OSError as error:
                raise RejectedError(f"cannot be read: {error.strerror}", where=str(each)) from error


def _show(here: Session, found: "Iterator[tuple[Path, bytes]]") -> None:
    from skerry.uplink import decode  # late, as all below: --help goes without

    for path, envelope in found:
        try:
            records = decode(envelope)
        except RejectedError as error:
            raise RejectedError(error.message, where=str(path), mend=error.mend) from error
        for record in records:
            print_json(_message(record))


def _message(record: "Record") -> dict[str, Any]:
    import msgspec

    from skerry.core.clock import to_rfc3339

    topic = f"sites/{record.site}/{record.node}/{record.topic}"
    return {"topic": topic, "payload": msgspec.Raw(record.payload), "at": to_rfc3339(record.time), "sequence": record.sequence}


@app.command()
def command(
    context: typer.Context,
    node: Annotated[str, typer.Argument(metavar="SITE/NODE", help="Who is to carry it out.")],
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="Such as commands/pump-7/setpoint, or node/pipelines/NAME/pause.")],
    payload: Annotated[str, typer.Argument(metavar="[PAYLOAD]", help="Text.")] = "",
    key: Annotated[Path, typer.Option(help="The centre's private Ed25519 key (PEM).")] = Path("centre.pem"),
    expires: Annotated[str, typer.Option(help="It counts no more after this time.")] = "10m",
    wait: Annotated[float, typer.Option(metavar="SECONDS", min=0.0, help="Wait so long for the answer; exit 1 without one.")] = 0.0,
) -> None:
    """Sign a command and give it to this node, which is the centre of that one. The answer comes as an event of `commands`."""
    from skerry.core.clock import SystemClock
    from skerry.core.units import parse_duration
    from skerry.trust import SigningKey
    from skerry.uplink import sign_command

    here = session(context)
    site, slash, name = node.partition("/")
    if not slash or not site or not name:
        raise RejectedError(f"{node!r} is no node of a site", mend="write SITE/NODE")
    try:
        private = key.read_bytes()
    except OSError as error:
        mend = "make one with `openssl genpkey -algorithm ed25519`"
        raise RejectedError(f"cannot be read: {error.strerror}", where=str(key), mend=mend) from error
    signing = SigningKey.from_pem(private, str(key))
    frame = sign_command(signing, site, name, topic, payload.encode(), SystemClock().now(), parse_duration(expires))
    answer = here.client().post(f"{_UPLINK}/command", {"command": base64.b64encode(frame).decode()})
    if wait:
        _await_answer(here, answer, node, wait)
        return
    here.show(
        answer, lambda paper: paper.line(f"command {clean(answer['id'])} waits for {clean(node)} until {clean(answer['expires'])}")
    )


def _await_answer(here: Session, given: dict[str, Any], node: str, seconds: float) -> None:
    """Show what the node answered; exit 1 where it has not carried the command out, or not answered in time."""
    from skerry.core.clock import SystemClock

    clock, client = SystemClock(), here.client()
    until = clock.monotonic() + seconds
    while True:
        found = client.get(f"{_UPLINK}/command/{given['id']}")
        left = until - clock.monotonic()
        if not found["waiting"] or left <= 0:
            break
        time.sleep(min(_LOOK_S, left))
    outcome = found["outcome"]
    none = f"no answer of {clean(node)} within {seconds:g} s; the command waits on"
    words = f"{clean(node)}: {clean(outcome)}" if outcome else none
    here.show({**given, "outcome": outcome}, lambda paper: paper.line(words))
    if outcome != "done":
        raise typer.Exit(1)
