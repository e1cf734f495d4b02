"""The file of `[uplink] credentials`: a token on one line, user and password in TOML, or NATS credentials (JWT and seed)."""

import re
import stat
import tomllib
from pathlib import Path

import msgspec

from skerry.core import log
from skerry.core.errors import ConfigError
from skerry.core.settings import build

_MOST = 64 * 1024
_NATS = re.compile(r"-----BEGIN ([A-Z ]+)-----\s*(\S+)\s*-+END ")
_TOKEN = re.compile(r"[\x21-\x7e]{8,4096}")
_log = log.get("uplink")


class Credentials(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the node proves itself to the centre; what is empty is not used. `cert`, `key`: PEM files, for MQTT with TLS."""

    username: str = ""
    password: str = ""
    token: str = ""
    cert: str = ""
    key: str = ""
    jwt: str = ""
    seed: str = ""

    def __repr__(self) -> str:
        """Without any secret."""
        return "Credentials(…)"


def read_credentials(path: Path | None) -> Credentials:
    """What the file holds; nothing without one. Raises `ConfigError` for one that cannot be read or holds something else."""
    if path is None:
        return Credentials()
    try:
        with path.open("rb") as file:
            text = file.read(_MOST).decode().strip()
        open_to_others = path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not text"
        raise ConfigError(f"cannot be read: {why}", where=str(path), mend="name a file that this user may read") from error
    if open_to_others:
        _log.warning(f"{path} can be read by others on this machine; chmod 600 mends that")
    found = dict(_NATS.findall(text))
    if found:
        return Credentials(jwt=found.get("NATS USER JWT", ""), seed=found.get("USER NKEY SEED", ""))
    if _TOKEN.fullmatch(text) and "=" not in text.rstrip("="):
        return Credentials(token=text)
    try:
        return build(Credentials, tomllib.loads(text), str(path))
    except tomllib.TOMLDecodeError as error:
        allowed = 'a token on one line, or username = "…" and password = "…"'
        raise ConfigError("holds no credentials", where=str(path), allowed=allowed) from error
