"""`skerry model`: the catalogue of models.

Through the node where one runs, else on the catalogue in the data directory, under its lock.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from skerry.cli import model_tools
from skerry.cli.session import Paper, Session, clean, number, session
from skerry.core.errors import RejectedError, UnavailableError, suggestion
from skerry.core.units import counted

if TYPE_CHECKING:
    from skerry.inference import Catalogue, Version

app = typer.Typer(help="Models.", no_args_is_help=True)
_MODELS = "/api/v1/models"
_Name = Annotated[str, typer.Argument(metavar="NAME")]
_Version = Annotated[str, typer.Argument(metavar="VERSION")]


@app.command()
def add(
    context: typer.Context,
    name: _Name,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An ONNX model on this machine.")],
    version: Annotated[str, typer.Option(help="Default: the next number.")] = "",
    labels: Annotated[str, typer.Option(help="Names of the classes, with commas; default: the model's metadata.")] = "",
    threshold: Annotated[float | None, typer.Option(help="Bound of the score; default: the model's metadata.")] = None,
    features: Annotated[str, typer.Option(help="Names of the inputs' columns, with commas; default: the model's metadata.")] = "",
    convert: Annotated[
        bool, typer.Option("--convert", help="Bring it to opset 13 first; refused unless the outputs agree.")
    ] = False,
) -> None:
    """Try a model in a process of its own and keep it, staged: nothing runs it until it is activated."""
    here = session(context)
    given: dict[str, Any] = {"labels": _split(labels), "threshold": threshold, "features": _split(features)}

    def ask() -> dict[str, Any]:
        more = {key: value for key, value in given.items() if value not in ((), None)}
        body = {"name": name, "file": str(file.absolute()), "version": version or None, "convert": convert, **more}
        answer: dict[str, Any] = here.client(180).post(_MODELS, body)
        return answer

    def locally(catalogue: "Catalogue") -> "Version":
        from skerry.inference import stage  # late: --help goes without

        return stage(catalogue, name, file, version, convert=convert, **given)

    row = _do(here, ask, locally)

    def draw(paper: Paper) -> None:
        called = clean(row["name"]), clean(row["version"])
        paper.line(f"{'@'.join(called)} is staged; it runs after `skerry model activate {' '.join(called)}`")
        _draw_facts(paper, row)

    here.show(row, draw)


@app.command()
def activate(context: typer.Context, name: _Name, version: _Version = "") -> None:
    """Try a version once more, against what the active one showed, and make it the active one."""
    here = session(context)
    name, version = _parts(name, version)

    def locally(catalogue: "Catalogue") -> "Version":
        from skerry.inference import activate  # late: --help goes without

        config = here.config(with_models=False)
        row = activate(catalogue, name, version, cache=config.model_cache)
        catalogue.collect(config.runtime.keep_versions, [spec.model for spec in config.pipelines if spec.model])
        return row

    row = _do(here, lambda: here.client(180).post(f"{_path(name)}/activate", {"version": version}), locally)
    here.show(row, lambda paper: paper.line(f"{name}@{version} is active"))


@app.command()
def rollback(context: typer.Context, name: _Name) -> None:
    """Go back to the version that was active before."""
    here = session(context)
    row = _do(here, lambda: here.client(60).post(f"{_path(name)}/rollback"), lambda catalogue: catalogue.rollback(name))
    # the node answers the model, the catalogue the version
    version = row.get("version") or row.get("active")
    here.show(row, lambda paper: paper.line(f"{clean(name)}@{clean(version)} is active again"))


@app.command()
def shadow(
    context: typer.Context,
    name: _Name,
    version: Annotated[str, typer.Argument(metavar="[VERSION]", help="Without one: end it.")] = "",
) -> None:
    """Run a version beside the active one on the same inputs; its outputs are compared and never emitted."""
    here = session(context)
    if not version:
        name, _, version = name.partition("@")
    row = _do(
        here,
        lambda: here.client(60).post(f"{_path(name)}/shadow", {"version": version or None}),
        lambda catalogue: catalogue.shadow(name, version or None),
    )
    here.show(row, lambda paper: paper.line(f"{name}@{version} runs in the shadow" if version else f"{name} has no shadow"))


@app.command()
def remove(context: typer.Context, name: _Name, version: _Version = "") -> None:
    """Forget a version that is not active, and its file."""
    here = session(context)
    name, version = _parts(name, version)
    row = _do(
        here,
        lambda: here.client().delete(f"{_path(name)}/versions/{quote(version, safe='')}"),
        lambda catalogue: catalogue.remove(name, version),
    )
    here.show(row, lambda paper: paper.line(f"removed {name}@{version}"))


def _do(here: Session, ask: Callable[[], dict[str, Any]], act: "Callable[[Catalogue], Version | None]") -> dict[str, Any]:
    """What the node answers; where none runs, the same done on the catalogue of this data directory."""

    def alone() -> dict[str, Any]:
        _stand_alone(here.config(with_models=False).data_dir)
        row = act(_catalogue(here))
        return {} if row is None else _row(row)

    return here.asked(lambda: ask() or {}, alone)


def _stand_alone(data_dir: Path) -> None:
    """Raise `UnavailableError` where a node runs and only does not answer: its workers would not know of the change."""
    from skerry.runtime import DirectoryLock  # late: --help goes without

    if not data_dir.is_dir():
        return
    lock = DirectoryLock(data_dir)
    try:
        lock.take()
    except UnavailableError as error:
        told = f"{error.message}, which does not answer; nothing was changed"
        raise UnavailableError(told, where=str(data_dir), mend="try again; `skerry logs` says what it does") from error
    lock.release()


def _catalogue(here: Session) -> "Catalogue":
    return here.config(with_models=False).catalogue()


def _row(version: "Version") -> dict[str, Any]:
    import msgspec  # late: --help goes without

    return {**msgspec.to_builtins(version), "state": version.state, "active": version.state == "active"}


def _split(text: str) -> tuple[str, ...]:
    return tuple(each.strip() for each in text.split(",") if each.strip())


def _parts(name: str, version: str) -> tuple[str, str]:
    """Name and version, also where they came as one word, NAME@VERSION."""
    if not version:
        name, _, version = name.partition("@")
    if not name or version in ("", "active"):
        raise RejectedError(f"{name!r} without a version", mend=f"write {name or 'NAME'} VERSION; `skerry model list` has them")
    return name, version


def _path(name: str) -> str:
    return f"{_MODELS}/{quote(name, safe='')}"


def _called(row: dict[str, Any]) -> str:
    return f"{clean(row.get('name'))}@{clean(row.get('version'))}"


@app.command("list")
def list_models(context: typer.Context) -> None:
    """List all models."""
    here = session(context)
    rows = _models(here)

    def draw(paper: Paper) -> None:
        if not rows:
            paper.line("no models: name one in [[models]] of skerry.toml")
            return
        columns = ("model", "version", "active", "file", "input")
        paper.table(columns, [[row["name"], row["version"], _active(row), row.get("file") or "added", _input(row)] for row in rows])

    here.show({"models": rows}, draw)


@app.command()
def show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="The active version where none is named.")],
) -> None:
    """Show one model: inputs, outputs, metadata."""
    here = session(context)
    rows = _models(here)
    wanted, _, version = name.partition("@")
    found = [row for row in rows if row["name"] == wanted and (version in ("", "active") or row["version"] == version)]
    chosen = next((row for row in found if row.get("active")), found[-1] if found else None)
    if chosen is None:
        known = [f"{row['name']}@{row['version']}" for row in rows]
        raise RejectedError(f"there is no model {name!r}{suggestion(name, known)}", mend=f"there are {', '.join(known) or 'none'}")
    row: dict[str, Any] = {**chosen, **_live(here, wanted)}

    def draw(paper: Paper) -> None:
        state = " (active)" if row.get("active") else f" ({clean(row['state'])})" if row.get("state") else ""
        paper.line(f"{_called(row)}{state}: {clean(row.get('file') or row.get('sha256'))}")
        if row.get("reason"):
            paper.line(f"it failed: {clean(row['reason'])}")
        if row.get("error"):
            paper.line(f"it does not load: {clean(row['error'])}")
        _draw_facts(paper, row)
        for key, value in (row.get("metadata") or {}).items():
            paper.line(f"{clean(key)}: {clean(value)}")
        _draw_live(paper, row)

    here.show(row, draw)


def _live(here: Session, name: str) -> dict[str, Any]:
    """What a running node knows of a model beside its versions: what they did, the shadow, drift, what happened."""
    from skerry.http import UnreachableError  # late: --help goes without

    try:
        found: dict[str, Any] = here.client().get(_path(name))
    except UnreachableError:
        return {}
    return {key: found[key] for key in ("charged", "running", "shadow", "drift", "history", "on_probation") if key in found}


def _draw_live(paper: Paper, row: dict[str, Any]) -> None:
    for each in row.get("charged") or []:
        memory, seconds = number(each.get("memory", 0) / 2**20, 1, "MiB"), number(each.get("load_seconds", 0.0), 2, "s")
        copies = each.get("copies", 0)
        told = f"{memory} of memory in {copies} {'copy' if copies == 1 else 'copies'}, {seconds} to load"
        paper.line(f"loaded {clean(each.get('version'))}: {told}")
    for each in row.get("running") or []:
        speed = each.get("seconds_per_row")
        cost = f", {number(speed * 1000, 3, 'ms')} a row" if speed else ""
        ran = f"{counted(each.get('runs', 0), 'run')}, {counted(each.get('rows', 0), 'row')}{cost}"
        paper.line(f"ran as {clean(each.get('version'))}: {ran}, {each.get('errors', 0)} errors, {each.get('nan', 0)} NaN")
    shadow = row.get("shadow")
    if isinstance(shadow, dict):
        compared = f"{counted(shadow.get('rows', 0), 'row')}, difference mean {_figure(shadow.get('mean_difference'))}"
        compared += f", most {_figure(shadow.get('max_difference'))}, same label {_figure(shadow.get('label_agreement'))}"
        paper.line(f"shadow {clean(shadow.get('version'))}: {compared}")
    for pipeline, drift in (row.get("drift") or {}).items():
        worst = next(iter((drift.get("psi") or {}).items()), None)
        told = f"most {worst[1]:.2f} ({clean(worst[0])})" if worst else "none judged yet"
        state = "DRIFTED" if drift.get("firing") else clean(drift.get("source") or "not watched")
        paper.line(f"drift in {clean(pipeline)} ({state}): PSI {told}, {counted(drift.get('outside', 0), 'row')} out of range")
    for each in row.get("history") or []:
        reason = f": {clean(each['reason'])}" if each.get("reason") else ""
        paper.line(f"{clean(each.get('at'))} {clean(each.get('version'))} {clean(each.get('what'))}{reason}")


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _draw_facts(paper: Paper, row: dict[str, Any]) -> None:
    """Signature, format and cost, as far as they are known."""
    for side in ("inputs", "outputs"):
        for signature in row.get(side) or []:
            paper.line(f"{side[:-1]:6} {_signature(signature)}")
    if row.get("ir"):
        takes = f" (the engine takes IR {row['most_ir']}, opset {row['most_opset']})" if row.get("most_opset") else ""
        paper.line(f"IR {row['ir']}, opset {row.get('opset', '-')}{takes}")
        paper.line(f"engine {clean(row.get('engine'))}, batch {clean(row.get('batching'))}")
    if row.get("load_ms"):
        cost = f"a row {number(row.get('latency_ms', 0.0), 3, 'ms')}, load {number(row['load_ms'], 1, 'ms')}"
        paper.line(f"{cost}, memory {number(row.get('memory', 0) / 2**20, 1, 'MiB')}")
    for warning in row.get("warnings") or []:
        paper.line(f"warning: {clean(warning)}")


def _models(here: Session) -> list[dict[str, Any]]:
    """What the node says, or, where none runs, what the configuration's files say."""

    def of_node() -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = here.client().get("/api/v1/models")["models"]
        return rows

    def alone() -> list[dict[str, Any]]:
        from skerry.inference import Models  # late: it brings numpy

        config = here.config(with_models=False)
        here.note("no node is running: this is what the configuration says")
        return _with_added(here, Models(config.models, config.base).listing())

    return here.asked(of_node, alone)


def _with_added(here: Session, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The configuration's rows with the state that the catalogue gives them, and the versions that were added."""
    seen = {(row["name"], row["version"]): row for row in rows}
    answer = []
    for version in _catalogue(here).versions():
        found = seen.get((version.name, version.version), {})
        answer.append({**_row(version), **found, "active": version.state == "active"})
    return answer


def _active(row: dict[str, Any]) -> str:
    return "error" if row.get("error") else "yes" if row.get("active") else clean(row.get("state") or "no")


def _input(row: dict[str, Any]) -> str:
    return ", ".join(_signature(each) for each in row.get("inputs") or []) or clean(row.get("error"))


def _signature(signature: dict[str, Any]) -> str:
    shape = ", ".join("N" if size is None else str(size) for size in signature.get("shape") or [])
    return f"{clean(signature.get('name'))} {clean(signature.get('dtype'))} [{shape}]"


model_tools.register(app)
