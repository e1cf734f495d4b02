"""`skerry cluster`: who is in the cluster, who leads, who may join, and nodes taken out of service and back."""

import time
from collections.abc import Iterator
from typing import Annotated, Any
from urllib.parse import quote

import typer

from skerry.cli.session import Paper, Session, clean, number, print_json, session
from skerry.core.errors import RejectedError

app = typer.Typer(help="Several boxes as one: members, leader, who may join.", no_args_is_help=True)
token_app = typer.Typer(help="Tokens with which nodes join.", no_args_is_help=True)
app.add_typer(token_app, name="token")
_CLUSTER = "/api/v1/cluster"
_WATCH_S = 0.5
ANSWER_S, REMOVE_S = 5.0, 75.0
_Node = Annotated[str, typer.Argument(metavar="NODE", help="Its name: [node] name.")]


@token_app.command("create")
def token_create(
    context: typer.Context,
    expires: Annotated[str, typer.Option(help="When it ends, such as 1h; a week at most.")] = "1h",
) -> None:
    """Make a token with which one node may join, once."""
    here = session(context)
    answer = here.client(ANSWER_S).post(f"{_CLUSTER}/tokens", {"expires_in": expires})

    def draw(paper: Paper) -> None:
        paper.line(clean(answer["token"]))
        here.note(f"good once, for {number(answer['expires_in'])} s: on the node that is to join, while it does not run,")
        here.note("  skerry cluster join --token TOKEN")

    if here.quiet and not here.json:
        print(answer["token"])  # quiet or not: it is shown this once or lost
    here.show(answer, draw)


@app.command()
def join(
    context: typer.Context,
    token: Annotated[str, typer.Option(help="Of `skerry cluster token create`; without it a person has to approve.")] = "",
    address: Annotated[str, typer.Option(help="A member's cluster.listen; default: as the token says, or seeds, or mDNS.")] = "",
) -> None:
    """Join a cluster: on the node that is to join, while it does not run. The next `skerry run` is one of the cluster."""
    import asyncio  # late, as all below: --help goes without

    from skerry.core.clock import SystemClock
    from skerry.node import join_site

    here = session(context)
    config = here.config(with_models=False)
    joined = asyncio.run(join_site(config, SystemClock(), token=token.strip(), address=address, tell=here.note))
    for warning in joined.warnings:
        here.note(f"warning: {warning}")
    if not config.cluster.enabled:
        here.note("set [cluster] enabled = true: without it this node runs alone")
    answer = {
        "joined": config.node.name,
        "site": joined.site,
        "by": joined.by,
        "members": [{"id": node.id, "address": node.address, "status": str(node.status)} for node in joined.members],
        "warnings": list(joined.warnings),
    }
    here.show(answer, lambda paper: paper.line(f"{config.node.name} has joined {joined.site}: start it with `skerry run`"))


@app.command()
def pending(context: typer.Context) -> None:
    """Nodes that wait at this node to be let in, with the codes that they show too."""
    here = session(context)
    answer = here.client(ANSWER_S).get(f"{_CLUSTER}/pending")

    def draw(paper: Paper) -> None:
        rows = answer["pending"]
        if not rows:
            paper.line("nobody waits: run `skerry cluster join --address HOST:PORT` on a node, without a token")
            return
        paper.table(("node", "address", "code"), [[row["node"], row["address"], row["code"]] for row in rows])

    here.show(answer, draw)


@app.command()
def approve(
    context: typer.Context, node: _Node, code: Annotated[str, typer.Argument(metavar="CODE", help="As it shows it.")]
) -> None:
    """Let a node in that waits, after comparing its code."""
    here = session(context)
    answer = here.client(ANSWER_S).post(f"{_CLUSTER}/approve", {"node": node, "code": code})
    here.show(answer, lambda paper: paper.line(f"{clean(node)} is let in"))


@app.command()
def members(context: typer.Context) -> None:
    """List the members, as this node knows them."""
    here = session(context)
    client = here.client(ANSWER_S)
    answer = client.get(f"{_CLUSTER}/members")

    def draw(paper: Paper) -> None:
        paper.table(
            ("node", "status", "address", "version", "capabilities", "partitions", ""),
            [_cells(row) for row in answer["members"]],
            right=("partitions",),
        )
        since = client.get(f"{_CLUSTER}/leader").get("no_quorum_since")
        if since:
            paper.line(f"no quorum since {clean(since)}: this is what was known then")

    here.show(answer, draw)


def _cells(row: dict[str, Any]) -> list[Any]:
    status = f"{row['status']} ({row['reason']})" if row.get("reason") else row["status"]
    capabilities = ", ".join(row.get("capabilities") or []) or "-"
    leads = "leads" if row.get("leader") else "witness" if row.get("role") == "witness" else ""
    return [row["id"], status, row["address"], row.get("version"), capabilities, len(row.get("partitions") or []), leads]


@app.command()
def leader(context: typer.Context) -> None:
    """Who leads, and in which epoch."""
    here = session(context)
    answer = here.client(ANSWER_S).get(f"{_CLUSTER}/leader")

    def draw(paper: Paper) -> None:
        since = answer.get("no_quorum_since")
        nobody = f"nobody is known to lead: no quorum since {clean(since)}" if since else "nobody leads now"
        paper.line(f"{clean(answer['leader'])} leads, epoch {answer['epoch']}" if answer.get("leader") else nobody)

    here.show(answer, draw)


@app.command()
def watch(
    context: typer.Context,
    seconds: Annotated[float, typer.Option("--for", help="End after so many seconds; 0: when interrupted.")] = 0.0,
) -> None:
    """Show changes of members and leader as they come; with --json one object a line."""
    here = session(context)
    for change in _changes(here, seconds):
        if here.json:
            print_json(change)
        else:
            print(_sentence(change), flush=True)


def _changes(here: Session, seconds: float) -> "Iterator[dict[str, Any]]":
    """Changes as the node tells them, from those that it still knows on."""
    client = here.client(ANSWER_S)
    began, after = time.monotonic(), 0
    while True:
        answer = client.get(f"{_CLUSTER}/changes", {"after": after})
        yield from answer["changes"]
        after = answer["next"]
        if seconds and time.monotonic() - began >= seconds:
            return
        time.sleep(_WATCH_S)


def _sentence(change: dict[str, Any]) -> str:
    at, kind, node = clean(change["at"]), change["kind"], clean(change["node"])
    if kind == "leader":
        return f"{at} {clean(change['after']) or 'nobody'} leads"
    if kind == "removed":
        return f"{at} {node} is no member any more"
    reason = f": {clean(change['reason'])}" if change.get("reason") else ""
    return f"{at} {node} {'is there, ' if kind == 'joined' else ''}{clean(change['after'])}{reason}"


@app.command("step-down")
def step_down(context: typer.Context) -> None:
    """Have who leads give the office up; another takes it."""
    here = session(context)
    answer = here.client(ANSWER_S).post(f"{_CLUSTER}/step-down")
    here.show(answer, lambda paper: paper.line("who led does not lead any more; another takes the office"))


@app.command()
def promote(context: typer.Context, yes: Annotated[bool, typer.Option("--yes", help="It is gone for good.")] = False) -> None:
    """Have this node, which stands by, go on with its copy of the log: the one that had it is gone, and must not come back."""
    here = session(context)
    client = here.client(ANSWER_S)
    if not yes:
        copied = client.get(_CLUSTER).get("copied")
        raise RejectedError(
            f"what came after {clean(copied or 'its installation')} is lost, and the node that has the log must not start again",
            where="cluster promote", mend="say --yes if it is gone for good",
        )  # fmt: skip
    answer = client.post(f"{_CLUSTER}/promote")
    here.show(answer, lambda paper: paper.line(f"this node goes on with the log as it was at {clean(answer['copied'])}"))


@app.command()
def drain(context: typer.Context, node: _Node) -> None:
    """Take a node out of service: its work goes elsewhere, where there is room."""
    here = session(context)
    answer = here.client(ANSWER_S).post(f"{_one(node)}/drain")
    here.show(answer, lambda paper: paper.line(f"{clean(node)} is in maintenance: its work goes elsewhere"))


@app.command()
def resume(context: typer.Context, node: _Node) -> None:
    """Put a drained node back to work."""
    here = session(context)
    answer = here.client(ANSWER_S).post(f"{_one(node)}/resume")
    here.show(answer, lambda paper: paper.line(f"{clean(node)} gets work again"))


@app.command()
def remove(context: typer.Context, node: _Node) -> None:
    """Take a node out for good: one that is there gives its work away first, and stops. It may come again with a new token only."""
    here = session(context)
    answer = here.client(REMOVE_S).delete(_one(node))
    here.show(answer, lambda paper: paper.line(f"{clean(node)} is no member any more"))


def _one(node: str) -> str:
    if not node:
        raise RejectedError("a node has a name", where="NODE")
    return f"{_CLUSTER}/members/{quote(node, safe='')}"
