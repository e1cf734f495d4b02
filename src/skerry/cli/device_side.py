"""`skerry device login | simulate`: what a device does, done from a shell."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skerry.cli.session import Paper, Session, clean, session
from skerry.core.errors import ConfigError, RejectedError

if TYPE_CHECKING:
    from skerry.device import DeviceConfig

_Id = Annotated[str, typer.Argument(metavar="ID", help="The device; its user name in MQTT.")]
_Key = Annotated[Path | None, typer.Option(metavar="FILE", help="Its private key, Ed25519 in PEM.")]


def register(app: typer.Typer) -> None:
    """Add both commands to `skerry device`."""
    app.command()(login)
    app.command()(simulate)


def login(
    context: typer.Context, id: _Id, key: Annotated[Path, typer.Option(metavar="FILE", help="Its private key, Ed25519 in PEM.")]
) -> None:
    """Answer a challenge of the node and print a token, which is the device's MQTT password until it expires."""
    from skerry.device import CHALLENGE_PATH, TOKEN_PATH, answer_to, read_key, token_of  # late: --help goes without

    here, signing = session(context), read_key(key)
    with here.client() as client:
        signed = answer_to(id, signing, client.post(CHALLENGE_PATH, {"device": id}))
        try:
            token, life = token_of(client.post(TOKEN_PATH, signed))
        except RejectedError as error:
            raise RejectedError(error.message, where=id, mend=f"look on the node: skerry device show {id}") from error
    if here.json:
        here.show({"token": token, "expires_in": int(life)}, lambda paper: None)
        return
    print(token)
    here.note(f"valid for {life:.0f} s: mosquitto_pub -u {clean(id)} -P TOKEN -q 1 -t devices/{clean(id)}/readings -m …")


def simulate(
    context: typer.Context,
    id: _Id,
    key: _Key = None,
    password_file: Annotated[Path | None, typer.Option(metavar="FILE", help="A file that holds its password.")] = None,
    rate: Annotated[float, typer.Option(min=0.001, max=10_000.0, help="Readings a second.")] = 1.0,
    channel: Annotated[str, typer.Option(help="The topic is devices/ID/CHANNEL; `vibration` has x, y and z.")] = "readings",
    seconds: Annotated[float, typer.Option(min=0.0, help="End after so many seconds; 0: on Ctrl-C or at the file's end.")] = 0.0,
    file: Annotated[
        Path | None, typer.Option("--file", "--csv", metavar="FILE", help="Publish this recording instead: .csv, or .jsonl.")
    ] = None,
    broker: Annotated[str, typer.Option(metavar="URL", help="Such as mqtts://box:8883; default: where the node says.")] = "",
) -> None:
    """Publish plausible readings as this device, and print how many were acknowledged. --ca counts for an encrypted broker too."""
    import asyncio  # late: --help goes without
    import random

    from skerry.core import log
    from skerry.core.clock import SystemClock
    from skerry.device import DeviceClient, Recording, Simulated, check_channel, made_up
    from skerry.device import simulate as run
    from skerry.runtime import run_loop

    here = session(context)
    check_channel(channel)
    log.configure("info" if here.verbose else "error")
    client = DeviceClient(_config(here, id, key, password_file, broker))
    recording = None if file is None else Recording(file, id)
    readings = made_up(channel, random.randrange(1 << 30)) if recording is None else recording
    lasts = 0.0 if recording is None else recording.count / rate

    async def work() -> Simulated:
        async with client:
            here.note(f"connected; {rate:g} readings a second on devices/{clean(id)}/{clean(channel)}, Ctrl-C ends it")
            limit = seconds or float("inf")
            return await run(client, id, channel, readings, SystemClock(), rate=rate, seconds=limit, lasts=lasts)

    try:
        found = run_loop(work())
    except asyncio.CancelledError as error:
        raise KeyboardInterrupt from error
    here.show(found, lambda paper: _draw(paper, found.sent, found.acknowledged, found.failed, found.seconds, found.reconnects))


def _draw(paper: Paper, sent: int, acknowledged: int, failed: int, seconds: float, reconnects: int) -> None:
    more = (f", {failed} refused" if failed else "") + (f", {reconnects} reconnects" if reconnects else "")
    paper.line(f"sent {sent}, acknowledged {acknowledged}{more} in {seconds:.1f} s")


def _config(here: Session, id: str, key: Path | None, password_file: Path | None, broker: str) -> "DeviceConfig":
    from skerry.device import DeviceConfig  # late: --help goes without

    if (key is None) == (password_file is None):
        raise ConfigError("needs one credential", where="device simulate", allowed="--key FILE or --password-file FILE")
    password = "" if password_file is None else _password(password_file)
    api = here.url or (str(here.socket()) if key is not None else "")
    return DeviceConfig(
        id, key_file=str(key or ""), password=password, url=broker or _broker_of(here), api=api, ca=str(here.ca or "")
    )


def _broker_of(here: Session) -> str:
    """Where the node takes MQTT: without TLS, where it does that and no CA was named."""
    with here.client() as client:
        found = client.get("/api/v1/node")["broker"]
    plain, encrypted = found["mqtt"], found.get("mqtts", "")
    return f"mqtts://{encrypted}" if encrypted and (here.ca or not plain) else f"mqtt://{plain}"


def _password(file: Path) -> str:
    try:
        found = file.read_text(encoding="utf-8").strip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigError(f"cannot be read: {why}", where=str(file), mend="name the file of `skerry device add --out`") from error
    if not found:
        raise ConfigError("holds no password", where=str(file), mend="name the file of `skerry device add --out`")
    return found
