"""What stays the same over restarts of nats-server: its ports, and the passwords of the node's own users there."""

import os
import secrets
from pathlib import Path

import msgspec


class Kept(msgspec.Struct):
    """Ports (0: none yet) and passwords."""

    client_port: int
    monitor_port: int
    mqtt_port: int
    agent: str
    relay: str
    system: str
    websocket_port: int = 0


def read_kept(directory: Path) -> Kept:
    """What the broker's directory keeps; new passwords and no ports where it keeps nothing, or nothing that can be read."""
    try:
        return msgspec.json.decode((directory / "kept.json").read_bytes(), type=Kept)
    except (OSError, msgspec.MsgspecError):
        return Kept(0, 0, 0, secrets.token_hex(24), secrets.token_hex(24), secrets.token_hex(24))


def write_kept(directory: Path, kept: Kept) -> None:
    """Keep it; 0600."""
    write_private(directory / "kept.json", msgspec.json.encode(kept))


def write_private(path: Path, data: bytes) -> None:
    """Put a file of mode 0600 in place of what was there."""
    temporary = path.with_suffix(".new")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
    temporary.replace(path)
