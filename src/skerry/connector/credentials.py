"""Secrets of connectors: read from files of their own, so that the configuration can be shown."""

from pathlib import Path
from urllib.parse import urlsplit

from skerry.core.errors import ConfigError

MOST_SECRET = 64 * 1024


def read_secret(base: Path, file: str) -> str:
    """What a file holds, without the line's end; empty without a file. Raises `ConfigError`."""
    if not file:
        return ""
    path = base / file
    try:
        with path.open("rb") as opened:
            text = opened.read(MOST_SECRET).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not text"
        raise ConfigError(f"cannot be read: {why}", where=str(path), mend="name the file with the secret on one line") from error
    if not text:
        raise ConfigError("is empty", where=str(path), mend="put the secret into it")
    return text


def check_url(url: str, schemes: tuple[str, ...], where: str = "url") -> None:
    """Raises `ConfigError` for another scheme, for no host, and for a URL that carries a log-in."""
    allowed = " or ".join(f"{scheme}://host:port" for scheme in schemes)
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"is no URL: {error}", where=where, allowed=allowed) from error
    if "@" in parts.netloc:
        raise ConfigError("carries a log-in that everybody could see", where=where, mend="use username and password_file")
    if parts.scheme not in schemes or not host:
        raise ConfigError(f"{url!r} is no such address", where=where, allowed=allowed)
