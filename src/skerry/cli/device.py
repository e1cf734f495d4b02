"""`skerry device`: who may connect to the broker."""

import json
import os
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from urllib.parse import quote

import typer

from skerry.cli import device_side
from skerry.cli.session import Paper, Session, clean, session
from skerry.core.errors import ConfigError, RejectedError, SkerryError

app = typer.Typer(help="Devices that may connect to the broker.", no_args_is_help=True)
_DEVICES = "/api/v1/devices"
_COLUMNS = ("id", "kind", "created", "rotated", "revoked")
_LONGEST = 64 * 1024
_Id = Annotated[str, typer.Argument(metavar="ID", help="The device; its user name in MQTT.")]


_Key = Annotated[Path | None, typer.Option(metavar="FILE", help="Log in with this Ed25519 key: its public half, PEM.")]
_Password = Annotated[bool, typer.Option("--password", help="Log in with a password, which is made and shown once.")]
_Cert = Annotated[
    str, typer.Option(metavar="FILE|ca", help="Log in with this client certificate (PEM), or any that the site's CA signs for ID.")
]
_Out = Annotated[Path | None, typer.Option(help="Write the password or private key that is made to this new file (0600).")]


@app.command()
def add(
    context: typer.Context,
    id: _Id,
    key: _Key = None,
    password: _Password = False,
    cert: _Cert = "",
    out: _Out = None,
    topics: Annotated[
        list[str] | None, typer.Option(help="pub:TOPIC or sub:TOPIC beyond its own, {device} for its id; may be repeated.")
    ] = None,
) -> None:
    """Let a device in. Without --key, --password and --cert a key pair is made, and its private half written to --out."""
    here = session(context)
    made = _credential(key, password, cert, out)
    wanted = [topic.strip() for each in topics or [] for topic in each.split(",") if topic.strip()]
    answer = _send(here, _DEVICES, {"id": id, "topics": wanted, **made.body}, made.private, out)
    _show(here, answer, f"added {clean(answer.get('id'))}", made.private, out)


@app.command()
def rotate(
    context: typer.Context, id: _Id, key: _Key = None, password: _Password = False, cert: _Cert = "", out: _Out = None
) -> None:  # fmt: skip
    """Give a device another password, key or certificate; the old one is out at once, and its connections end.

    Without an option a device with a password gets a new one, and one with a key a new pair, its private half in --out."""
    here = session(context)
    if key is None and not cert and not password:
        password = here.client().get(_path(id)).get("kind") == "password"
    made = _credential(key, password, cert, out)
    answer = _send(here, f"{_path(id)}/rotate", made.body, made.private, out)
    _show(here, answer, f"rotated {clean(id)}: what it had is out", made.private, out)


class _Made(NamedTuple):
    """What the node is told, and the private key (PEM) that it is not told."""

    body: dict[str, str]
    private: str = ""


def _credential(key: Path | None, password: bool, cert: str, out: Path | None) -> _Made:
    if (key is not None) + password + bool(cert) > 1:
        raise ConfigError("a device has one of them", where="--key, --password, --cert", mend="choose one")
    if out is not None and (key is not None or cert):
        raise ConfigError("with --key and --cert nothing is made that could be written", where="--out", mend="leave it out")
    if password:
        return _Made({})
    if cert == "ca" or cert.startswith("sha256:"):
        return _Made({"certificate": cert})
    from skerry.trust import SigningKey, certificate_fingerprint, read_public  # late: --help goes without

    if cert:
        return _Made({"certificate": certificate_fingerprint(_read(Path(cert)))})
    if key is not None:
        text = _read(key)
        read_public(text.decode("utf-8", "replace"), str(key))
        return _Made({"key": text.decode("utf-8", "replace")})
    if out is None:
        raise ConfigError(
            "a key pair is made, and its private half needs a place", where="--out",
            mend="add --out FILE, or name a public key with --key, or choose --password",
        )  # fmt: skip
    pair = SigningKey.new()
    return _Made({"key": pair.public_pem()}, pair.pem())


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(_LONGEST)
    except OSError as error:
        raise RejectedError(f"cannot be read: {error.strerror}", where=str(file), mend="name a PEM file") from error


def _send(here: Session, path: str, body: dict[str, Any], private: str, out: Path | None) -> dict[str, Any]:
    """Ask the node. What is to be kept is on the disk before: a private key that was lost would lock the device out."""
    secret = _open_new(out) if out is not None else None
    try:
        if secret is not None and private:
            os.write(secret, private.encode())
            os.fsync(secret)
        answer: dict[str, Any] = here.client().post(path, body)
        if secret is not None and not private:
            os.write(secret, f"{answer.pop('password')}\n".encode())
    except SkerryError:
        if out is not None:
            out.unlink()
        raise
    finally:
        if secret is not None:
            os.close(secret)
    return answer


def _open_new(out: Path) -> int:
    try:
        return os.open(out, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except OSError as error:
        raise RejectedError(f"cannot be made: {error.strerror}", where=str(out), mend="name a new file") from error


def _write_nodes(out: Path, nodes: list[dict[str, str]]) -> Path:
    """Beside what was made: where a device finds the nodes of the cluster (`skerry.DeviceConfig.nodes`). No secret."""
    file = out.with_name(f"{out.name}.nodes")
    try:
        file.write_text(json.dumps({"nodes": nodes}, indent=1) + "\n", "utf-8")
    except OSError as error:
        raise RejectedError(f"cannot be written: {error.strerror}", where=str(file), mend="make room") from error
    return file


def _show(here: Session, answer: dict[str, Any], done: str, private: str, out: Path | None) -> None:
    secret = "private key" if private else "password"

    def draw(paper: Paper) -> None:
        paper.line(done)
        if out is not None:
            paper.line(f"{secret}: in {out}")
            if "nodes_file" in answer:
                paper.line(f"where the nodes of the cluster are: in {answer['nodes_file']}")
        elif "password" in answer:
            paper.line(f"password: {clean(answer['password'])}   (not shown again)")

    if out is not None and "nodes" in answer:
        answer["nodes_file"] = str(_write_nodes(out, answer["nodes"]))
    if out is not None:
        answer = {**answer, "key_file" if private else "password_file": str(out)}
    if here.quiet and not here.json and "password" in answer:
        # quiet or not: the password is shown this once or lost
        print(answer["password"])
    here.show(answer, draw)


@app.command("list")
def list_devices(context: typer.Context) -> None:
    """List all devices."""
    here = session(context)
    answer = here.client().get(_DEVICES)

    def draw(paper: Paper) -> None:
        rows = answer["devices"]
        if not rows:
            paper.line("no devices: add one with `skerry device add ID --password`")
            return
        columns = [name for name in _COLUMNS if any(name in row for row in rows)]
        paper.table([*columns, "topics"], [[*[row.get(name) for name in columns], _topics(row)] for row in rows])

    here.show(answer, draw)


@app.command()
def show(context: typer.Context, id: _Id) -> None:
    """Show one device."""
    here = session(context)
    answer = here.client().get(_path(id))

    def draw(paper: Paper) -> None:
        for name, value in answer.items():
            paper.line(f"{name}: {_topics(answer) if name == 'topics' else _in_words(value)}")

    here.show(answer, draw)


@app.command()
def revoke(context: typer.Context, id: _Id) -> None:
    """Refuse a device from now on; it stays in the list."""
    here = session(context)
    answer = here.client().post(f"{_path(id)}/revoke")
    here.show(answer, lambda paper: paper.line(f"revoked {clean(id)}: it is refused from now on"))


@app.command()
def remove(context: typer.Context, id: _Id) -> None:
    """Forget a device."""
    here = session(context)
    answer = here.client().delete(_path(id))
    here.show(answer, lambda paper: paper.line(f"removed {clean(id)}"))


device_side.register(app)


def _path(id: str) -> str:
    return f"{_DEVICES}/{quote(id, safe='')}"


def _in_words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_in_words(each)}" for name, each in value.items()) or "-"
    if isinstance(value, list):
        return ", ".join(map(_in_words, value)) or "-"
    return clean(value)


def _topics(row: dict[str, Any]) -> str:
    return ", ".join(map(clean, row.get("topics") or [])) or "its own"
