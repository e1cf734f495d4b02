"""`skerry pipeline new`: a pipeline out of what a topic carries."""

import base64
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from skerry.cli.session import Paper, Session, session
from skerry.core.clock import SECOND, SystemClock
from skerry.core.errors import ConfigError, RejectedError

_BEFORE_S = 5.0
_EACH_S = 0.5
_MOST = 5_000
_PAGE = 500


def new(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the pipeline is to be called.")],
    topic: Annotated[str, typer.Option("--from-topic", metavar="FILTER", help="The messages to look at: devices/+/motor.")],
    seconds: Annotated[float, typer.Option(min=1.0, max=3600.0, help="How long to look.")] = 10.0,
    write: Annotated[bool, typer.Option("--write", help="Append it to the configuration file.")] = False,
) -> None:
    """Look at the live messages of a topic and propose a pipeline: fields, window, rate."""
    here = session(context)
    from skerry.pipeline import check_filter, check_name, parse_pipeline, propose  # late: --help goes without

    check_name(name, "NAME")
    check_filter(topic)
    file = _writable(here, name) if write else None
    here.note(f"looking at {topic} for {seconds:g} s")
    proposal = propose(name, topic, list(_messages(here, topic, seconds)))
    parse_pipeline(proposal.table, "proposal")
    if file is not None:
        with file.open("a", encoding="utf-8") as opened:
            opened.write(f"\n{proposal.toml}")

    def draw(paper: Paper) -> None:
        for line in proposal.found:
            paper.line(f"# {line}")
        paper.line(proposal.toml.rstrip("\n"))

    here.show({"pipeline": proposal.table, "found": proposal.found, "toml": proposal.toml}, draw)
    done = f"written to {file}" if file else "put it into skerry.toml (--write does)"
    here.note(f"{done}, then: skerry pipeline check {name}, skerry config reload")


def _writable(here: Session, name: str) -> Path:
    config = here.config()
    if config.path is None:
        raise ConfigError("there is no configuration file to write to", where="--write", mend="skerry init writes one")
    if any(spec.name == name for spec in config.pipelines):
        raise RejectedError(f"there is a pipeline {name!r} already", where=str(config.path), mend="choose another name")
    return config.path


def _messages(here: Session, topic: str, seconds: float) -> Iterator[tuple[str, bytes, int]]:
    """What comes on the topic from a few seconds ago on; the log keeps that long what all pipelines have read."""
    clock, after, taken = SystemClock(), None, 0
    end, since = clock.monotonic() + seconds, clock.now() / SECOND - _BEFORE_S
    with here.client() as client:
        while taken < _MOST:
            query: dict[str, Any] = {"topic": topic, "limit": _PAGE, **({"after": after} if after else {"since": since})}
            answer = client.get("/api/v1/messages", query)
            for row in answer["messages"]:
                taken += 1
                yield row["topic"], _payload(row), round(row["at"] * SECOND)
            after = answer["next"] or after
            if answer["next"] is None:
                if clock.monotonic() >= end:
                    return
                time.sleep(_EACH_S)


def _payload(row: dict[str, Any]) -> bytes:
    return base64.b64decode(row["payload_base64"]) if "payload_base64" in row else str(row["payload"]).encode()
