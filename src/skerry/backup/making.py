"""Making a backup, of a node that runs or of one that does not."""

import asyncio
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import msgspec

from skerry.backup.archive import FORMAT, Header, Writer
from skerry.backup.contents import APART, is_engines, is_kept, is_secret, stream_order
from skerry.broker import AGENT, LOG, WireClient, read_kept, stream_names, take_snapshot
from skerry.config import NodeConfig
from skerry.core.clock import Clock, SystemClock, to_rfc3339
from skerry.core.errors import RejectedError, UnavailableError
from skerry.inference import copy_catalogue
from skerry.node import COPIES
from skerry.runtime import DirectoryLock
from skerry.trust import seal

PIECE = 8 * 1024 * 1024
SEALED = "secrets/sealed"
MOST_SECRETS = 16 * 1024 * 1024
Told = Callable[[int, int], None]


class Running(Protocol):
    """The node that runs, as a backup needs it."""

    def begin(self) -> dict[str, Any]:
        """Hold the log, copy store and history: `{place, copied, seconds}`."""
        ...

    def end(self) -> None:
        """Let go of both."""
        ...


def create_backup(
    config: NodeConfig,
    file: Path,
    running: Running | None = None,
    *,
    passphrase: str | None = None,
    told: Told = lambda _done, _all: None,
    clock: Clock | None = None,
) -> dict[str, Any]:
    """Write a backup; what is in it: `{file, bytes, files, streams, secrets, left_out}`. Blocks, and runs a loop of its own.

    Args:
        running: the node of this data directory while one runs; without it the directory is locked meanwhile.
        passphrase: seals the secrets, which are left out without one.
        told: bytes done and bytes in all, as far as they are known, again and again.

    Raises `RejectedError`, `UnavailableError`; then there is no file.
    """
    if not config.data_dir.is_dir():
        raise RejectedError("there is nothing to back up", where=str(config.data_dir), mend="check node.data_dir")
    clock = clock or SystemClock()
    header = Header(FORMAT, config.node.name, config.node.site, version("skerry"), to_rfc3339(clock.now()))
    making = _Making(config, running, told, clock)
    with ExitStack() as held:
        if running is not None:
            held.callback(running.end)
        if passphrase is not None:
            seal(b"", passphrase)  # one that will not do is refused before anything is done
        writer = held.enter_context(Writer(file, header, making.note))
        try:
            making.fill(writer, held, passphrase)
        except OSError as error:
            where, mend = str(error.filename or config.data_dir), "run this as the user of the node"
            raise UnavailableError(f"cannot be read: {error.strerror}", where=where, mend=mend) from error
        size = writer.close()
    manifest = writer.manifest
    return {
        "file": str(file),
        "bytes": size,
        "files": len(manifest.members),
        "streams": sorted(manifest.streams),
        "secrets": manifest.sealed,
        "left_out": manifest.left_out,
    }


class _Making:
    def __init__(self, config: NodeConfig, running: Running | None, told: Told, clock: Clock) -> None:
        self._config = config
        self._running = running
        self._told = told
        self._clock = clock
        self._done = 0
        self._all = 0

    def note(self, size: int) -> None:
        self._done += size
        self._told(self._done, max(self._done, self._all))

    def fill(self, writer: Writer, held: ExitStack, passphrase: str | None) -> None:
        config, data = self._config, self._config.data_dir
        place = data / COPIES
        if self._running is not None:
            began = self._clock.monotonic()
            answer = self._running.begin()
            _lock(place, held)  # tells the node that this process lives
            copied = set(answer["copied"])
            self._configuration(writer)
            asyncio.run(self._streams(writer, data / "broker"))
            if self._clock.monotonic() - began > float(answer["seconds"]):
                raise UnavailableError("the log took longer to copy than the node holds it", mend="stop the node for the backup")
        else:
            copied = set()
            _lock(data, held)
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(mode=0o700)
            held.callback(shutil.rmtree, place, ignore_errors=True)
            self._configuration(writer)
        if (data / "models").is_dir():
            copy_catalogue(data / "models", place / "models")
        trees = [("store", place / "store" if "store" in copied else self._config.store_path, "store" not in copied)]
        trees += [("history", place / "history" if "history" in copied else config.history_path, "history" not in copied)]
        trees += [("data/models", place / "models", False)]
        for _, root, ours in trees:
            if ours and root.is_dir():
                _lock(root, held)
        self._trees(writer, trees, passphrase)

    def _trees(self, writer: Writer, trees: list[tuple[str, Path, bool]], passphrase: str | None) -> None:
        secrets: dict[str, bytes] = {}
        found = [(f"{name}/{at}", path) for name, root, _ in trees for at, path in _files(root) if not is_engines(at)]
        needed = {name for name, _ in found}
        for at, path in _files(self._config.data_dir):
            if not is_kept(at) or path.is_relative_to(self._config.store_path):
                continue
            if is_secret(at):
                secrets[at] = path.read_bytes()
            elif at.partition("/")[0] not in APART or (self._running is None and at.startswith("broker/")):
                found.append((f"data/{at}", path))
        self._all = self._done + sum(path.stat().st_size for _, path in found if path.exists())
        for name, path in found:
            writer.file(name, path, needed=name in needed)
        self._secrets(writer, secrets, passphrase)

    def _secrets(self, writer: Writer, secrets: dict[str, bytes], passphrase: str | None) -> None:
        token_file = self._config.token_file
        if not token_file.is_relative_to(self._config.data_dir) and token_file.is_file():
            writer.manifest.left_out.append(str(token_file))
        if passphrase is None:
            writer.manifest.left_out += sorted(secrets)
            return
        plain = msgspec.msgpack.encode(secrets)
        if len(plain) > MOST_SECRETS:
            raise RejectedError(f"the secrets are {len(plain)} bytes, {MOST_SECRETS} are allowed")
        writer.data(SEALED, seal(plain, passphrase))
        writer.manifest.sealed = True

    def _configuration(self, writer: Writer) -> None:
        """The file, and the models and functions that it names beside it; what lies elsewhere is named as left out."""
        config = self._config
        if config.path is not None:
            writer.file("config/skerry.toml", config.path)
        named = [config.base / model.file for model in config.models]
        functions = [spec.features for spec in config.pipelines if isinstance(spec.features, str)]
        named += [config.base / Path(*each.partition(":")[0].split(".")).with_suffix(".py") for each in functions]
        for path in dict.fromkeys(path.resolve() for path in named):
            if path.is_relative_to(config.base) and not path.is_relative_to(config.data_dir) and path.is_file():
                writer.file(f"base/{path.relative_to(config.base).as_posix()}", path)
            elif not path.is_relative_to(config.data_dir):
                writer.manifest.left_out.append(str(path))

    async def _streams(self, writer: Writer, broker: Path) -> None:
        kept = read_kept(broker)
        client = await WireClient.connect("127.0.0.1", kept.client_port, AGENT, kept.agent, "backup")
        try:
            for name in stream_order(await stream_names(client), LOG):
                pieces = _Pieces(writer, name)
                writer.manifest.streams[name] = await take_snapshot(client, name, pieces.take)
                pieces.flush()
        finally:
            client.close()


class _Pieces:
    """Chunks of a stream, gathered into members of some MiB, since a tar wants to know sizes beforehand."""

    def __init__(self, writer: Writer, name: str) -> None:
        self._writer, self._name = writer, name
        self._held = bytearray()
        self._count = 0

    def take(self, chunk: bytes) -> None:
        # what the server acknowledges as one chunk is restored as one chunk
        self._held += len(chunk).to_bytes(4, "big") + chunk
        if len(self._held) >= PIECE:
            self.flush()

    def flush(self) -> None:
        if self._held:
            self._writer.data(f"streams/{self._name}/{self._count:06d}", bytes(self._held))
            self._held.clear()
            self._count += 1


def _files(root: Path) -> Iterator[tuple[str, Path]]:
    """Regular files below a directory, in order, by their path in it; links are not followed and not taken."""
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            try:
                if stat.S_ISREG(path.lstat().st_mode):
                    yield path.relative_to(root).as_posix(), path
            except FileNotFoundError:
                continue


def _lock(directory: Path, held: ExitStack) -> None:
    lock = DirectoryLock(directory)
    lock.take()
    held.callback(lock.release)
