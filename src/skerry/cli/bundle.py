"""`skerry bundle`: models, pipelines and connectors as one signed file, and which of them a node runs."""

from pathlib import Path
from typing import Annotated, Any

import typer

from skerry.cli.session import Paper, Session, clean, session
from skerry.core.errors import RejectedError

app = typer.Typer(help="Models, pipelines and connectors as one signed file.", no_args_is_help=True)
key_app = typer.Typer(help="Keys that bundles are signed with.", no_args_is_help=True)
app.add_typer(key_app, name="key")
_AT = "/api/v1/bundles"
_FILE = Annotated[Path, typer.Argument(metavar="FILE", help="The bundle.")]


@key_app.command("new")
def key_new(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file (0600) for the private half; FILE.pub has the public.")],
) -> None:
    """Make an Ed25519 key to sign bundles with. Keep it off the nodes: they need the public half alone."""
    here = session(context)
    from skerry.bundle import fingerprint  # late, as all below: --help goes without
    from skerry.cli.session import new_file
    from skerry.trust import SigningKey

    key = SigningKey.new()
    public = file.with_name(f"{file.name}.pub")
    if public.exists():
        raise RejectedError("is there already", where=str(public), mend="name a new file")
    with new_file(file) as private, new_file(public) as shown:
        private(key.pem())
        shown(key.public_pem())
    answer = {"key": str(file), "public": str(public), "fingerprint": fingerprint(key.public)}

    def draw(paper: Paper) -> None:
        paper.line(f"wrote {clean(file)} (private) and {clean(public)}: key {answer['fingerprint']}")
        paper.line(f'on each node, in skerry.toml: [bundles] trusted = ["{clean(public.name)}"]')

    here.show(answer, draw)


@app.command()
def build(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The bundle to write.")],
    name: Annotated[str, typer.Option(help="What it is called; default: the name of the file.")] = "",
    version: Annotated[str, typer.Option(help="For people: a bundle is known by its content.")] = "1",
    needs: Annotated[str, typer.Option(metavar="VERSION", help="The least skerry that may run it; default: this one.")] = "",
) -> None:
    """Write what skerry.toml says into one file: pipelines, connectors, and of each model the version that runs."""
    here = session(context)
    from skerry import config
    from skerry.bundle import NONE, build_bundle
    from skerry.node import project_of

    if here.file is None:
        here.config()  # says that there is none
    answer = build_bundle(project_of(config.load(here.file, bundle=NONE)), file, name, version, needs)

    def draw(paper: Paper) -> None:
        _draw(paper, answer)
        paper.line(f"next: skerry bundle sign {clean(file)} --key KEY")

    here.show(answer, draw)


@app.command()
def sign(
    context: typer.Context,
    file: _FILE,
    key: Annotated[Path, typer.Option("--key", metavar="KEY", help="An Ed25519 private key, PEM.")],
) -> None:
    """Sign a bundle, beside those who have signed it already. All of it is read and checked first."""
    here = session(context)
    from skerry.node import Bundle

    bundle = Bundle(file)
    who = bundle.sign(key)
    here.show({"file": str(file), **bundle.facts}, lambda paper: paper.line(f"signed {clean(file)} with key {who}"))


@app.command()
def verify(
    context: typer.Context,
    file: _FILE,
    key: Annotated[
        list[Path] | None, typer.Option("--key", metavar="PUB", help="A public key to trust (PEM); default: bundles.trusted.")
    ] = None,
) -> None:
    """Check a bundle without a node: who signed it, and every digest to its end. Exit 0: somebody who is trusted did."""
    here = session(context)
    from skerry.node import Bundle

    trusted = list(key or [])
    if not trusted:
        found = here.config(with_models=False)
        trusted = [found.base / each for each in found.bundles.trusted]
    bundle = Bundle(file)
    who = bundle.verify(trusted)
    answer = {"file": str(file), "ok": True, "signer": who, **bundle.facts}

    def draw(paper: Paper) -> None:
        _draw(paper, answer)
        paper.line(f"whole, and signed with key {who}")

    here.show(answer, draw)


@app.command()
def apply(
    context: typer.Context,
    bundle: Annotated[str, typer.Argument(metavar="FILE|ID", help="A bundle file, or one that the node has (id or name).")],
    probation: Annotated[str, typer.Option(help="How long it is watched, such as 30s; default: bundles.probation.")] = "",
    dead_letters: Annotated[int, typer.Option("--dead-letters", min=0, help="How many are let pass meanwhile.")] = 0,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is kept or rolled back.")] = True,
) -> None:
    """Have the running node check a bundle, switch to it and watch it: it is kept, or what ran before runs again."""
    here = session(context)
    from urllib.parse import quote

    from skerry.bundle import apply_bundle, send_bundle

    client = here.client(timeout=60)
    file = Path(bundle)
    wanted = str(send_bundle(client, file, local=not here.url)["id"]) if file.is_file() else bundle
    if not wait:
        begun = client.post(f"{_AT}/{quote(wanted, safe='')}/apply", {"probation": probation, "dead_letters": dead_letters})
        here.show(begun, lambda paper: paper.line(f"bundle {clean(begun['bundle'])} is {begun['phase']}"))
        return
    row = apply_bundle(client, wanted, probation, dead_letters, _Progress(here))
    here.show(row, lambda paper: paper.line(f"bundle {clean(row['bundle'])} is kept"))


class _Progress:
    """Says each phase once, on stderr."""

    def __init__(self, here: Session) -> None:
        self._here = here
        self._phase = ""

    def __call__(self, trial: dict[str, Any]) -> None:
        if trial["phase"] != self._phase:
            self._phase = trial["phase"]
            left = trial.get("seconds_left")
            bound = f", {left:.0f} s at most" if left is not None and self._phase == "coming up" else ""
            bound = f" for {left:.0f} s" if left is not None and self._phase == "on probation" else bound
            why = f": {clean(trial['reason'])}" if trial.get("reason") else ""
            self._here.note(f"bundle {clean(trial['bundle'])} is {self._phase}{bound}{why}")


@app.command()
def rollback(context: typer.Context) -> None:
    """Go back to the bundle that was active before, or to skerry.toml alone. Works on a stopped node too."""
    here = session(context)
    answer = here.asked(lambda: here.client(timeout=120).post(f"{_AT}/rollback"), lambda: _offline(here))
    active = answer["active"]
    here.show(answer, lambda paper: paper.line(f"active: {f'bundle {active[:12]}' if active else 'skerry.toml alone'}"))


def _offline(here: Session) -> dict[str, Any]:
    from skerry import config
    from skerry.bundle import BUNDLES, NONE, Shelf
    from skerry.runtime import DirectoryLock

    data = config.load(here.file, with_models=False, bundle=NONE).data_dir
    if not data.is_dir():
        raise RejectedError("no bundle is active here", where=str(data), mend="check node.data_dir")
    lock = DirectoryLock(data)
    lock.take()
    try:
        return {"active": Shelf(data / BUNDLES).rollback("a person asked for it, with the node stopped")}
    finally:
        lock.release()


@app.command("list")
def list_(context: typer.Context) -> None:
    """Show the bundles of a node, which one is active, and what happened to them."""
    here = session(context)
    answer = here.asked(lambda: here.client().get(_AT), lambda: _stored(here))

    def draw(paper: Paper) -> None:
        rows = [
            (row["id"][:12], row["name"], row["version"], row["state"], _some(row["models"]), _some(row["pipelines"]),
             ", ".join(each[:12] for each in row["signers"]))
            for row in answer["bundles"]
        ]  # fmt: skip
        paper.table(["id", "name", "version", "state", "models", "pipelines", "signed by"], rows)
        if answer.get("nodes"):
            paper.line()
            shown = [(node["node"], node["status"], *_on(node)) for node in answer["nodes"]]
            paper.table(["node", "status", "bundle", "is"], shown)
        for row in answer["history"][-10:]:
            paper.line(clean(f"{row['at']}  {row['bundle']}  {row['what']}{': ' + row['reason'] if row['reason'] else ''}"))
        if not answer["bundles"]:
            paper.line("no bundle: skerry.toml alone counts")

    here.show(answer, draw)


def _on(node: dict[str, Any]) -> tuple[str, str]:
    """Which bundle a node of a cluster is on, and how it is doing with it."""
    bundle = f"{node['title']} ({node['active'][:12]})" if node["active"] else "skerry.toml alone"
    return bundle, f"did not take it: {node['failed']}" if node["failed"] else node["phase"] or "settled"


def _stored(here: Session) -> dict[str, Any]:
    from skerry import config
    from skerry.bundle import BUNDLES, NONE, Shelf

    shelf = Shelf(config.load(here.file, with_models=False, bundle=NONE).data_dir / BUNDLES)
    state = shelf.read()
    return {"bundles": shelf.rows(), "active": state.active or None, "trial": None, "history": state.history}


def _draw(paper: Paper, facts: dict[str, Any]) -> None:
    paper.line(f"{clean(facts['file'])}: {clean(facts['name'])} {clean(facts['version'])}, id {facts['id']}")
    for kind in ("models", "pipelines", "connectors"):
        if facts[kind]:
            paper.line(f"{kind}: {clean(_some(facts[kind], 20))}")


def _some(names: list[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"
