"""Restoring a backup into an empty data directory, on this machine or another."""

import asyncio
import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from skerry.backup.archive import MANIFEST, Manifest, Reader, safe_name, small
from skerry.backup.making import PIECE, SEALED, Told
from skerry.broker import AGENT, NatsServer, WireClient, restore_stream
from skerry.config import NodeConfig, load
from skerry.core.clock import Clock, SystemClock
from skerry.core.errors import CorruptError, InsufficientResources, RejectedError, UnavailableError
from skerry.core.service import cancel_and_wait
from skerry.core.units import show_size
from skerry.node import RESTORING, make_certificates
from skerry.runtime import DirectoryLock
from skerry.trust import TokenSigner, load_or_create, unseal

READY_S = 60.0
_CONFIG, _BASE, _TLS = "config/skerry.toml", "base/", "tls/"


def restore_backup(
    file: Path,
    target: Path,
    *,
    force: bool = False,
    passphrase: str | None = None,
    without_secrets: bool = False,
    told: Told = lambda _done, _all: None,
    clock: Clock | None = None,
) -> dict[str, Any]:
    """Bring a backup back; what was done: `{node, created, config, data_dir, files, streams, secrets, notes}`.

    Args:
        target: the configuration file. Where there is none the backup's is written; one that is there stays, and says where to.
        force: what is in the data directory and the store is deleted first.
        passphrase: of the sealed secrets; `without_secrets`: new ones are made though there are sealed ones.

    Everything is verified before anything is written. Raises `CorruptError` for a damaged backup, `RejectedError` for a directory
    that is not empty, a wrong passphrase or a newer format, `UnavailableError` where a node runs in the directory.
    """
    reader = Reader(file)
    counted = _Counted(told, 2 * file.stat().st_size)
    manifest = reader.verify(counted.note)
    secrets = _secrets(reader, manifest, passphrase, without_secrets)
    counted.all = 2 * manifest.size
    with _config_of(reader, target) as (config, fresh):
        lock = _claim(config, manifest, force)
        try:
            restoring = _Restoring(config, manifest, reader, target, fresh, force)
            restoring.write(secrets, counted.note)
            asyncio.run(restoring.streams(clock or SystemClock()))
            if any(name.startswith(_TLS) for name in manifest.left_out) and (config.broker.tls or config.api.tls):
                make_certificates(config, clock or SystemClock())
            os.sync()
            (config.data_dir / RESTORING).unlink()
        finally:
            lock.release()
    return {
        "node": reader.header.node,
        "created": reader.header.created,
        "config": str(target),
        "data_dir": str(config.data_dir),
        "files": restoring.count,
        "streams": sorted(manifest.streams),
        "secrets": bool(secrets),
        "notes": restoring.notes + _said(manifest, secrets, config),
    }


class _Counted:
    def __init__(self, told: Told, size: int) -> None:
        self._told, self.all, self._done = told, size, 0

    def note(self, size: int) -> None:
        self._done += size
        self._told(self._done, max(self._done, self.all))


@contextmanager
def _config_of(reader: Reader, target: Path) -> Iterator[tuple[NodeConfig, bool]]:
    """The configuration to restore by, and whether it is the backup's own, which is put in place at the end of the block."""
    if target.exists():
        yield load(target, with_models=False), False
        return
    text = next((small(read, size, name) for name, size, read in reader.members() if name == _CONFIG), None)
    if text is None:
        raise RejectedError("the backup has no configuration", where=str(target), mend="write one there first")
    beside = target.with_name(f".{target.name}.restoring")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside.unlink(missing_ok=True)
        with os.fdopen(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            file.write(text)
    except OSError as error:
        raise RejectedError(f"cannot be written: {error.strerror}", where=str(target)) from error
    try:
        yield load(beside, with_models=False), True
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def _secrets(reader: Reader, manifest: Manifest, passphrase: str | None, without: bool) -> dict[str, bytes]:
    """The secrets by their path in the data directory; none where there are none, or none are wanted."""
    if not manifest.sealed:
        if passphrase is not None:
            raise RejectedError("the backup holds no secrets", where=str(reader.path), mend="leave the passphrase out")
        return {}
    if without:
        return {}
    if passphrase is None:
        raise RejectedError(
            "the backup holds secrets under a passphrase", where=str(reader.path),
            mend="give it with --passphrase-file, or restore with --without-secrets",
        )  # fmt: skip
    sealed = next(small(read, size, name) for name, size, read in reader.members() if name == SEALED)
    found = msgspec.msgpack.decode(unseal(sealed, passphrase), type=dict[str, bytes])
    for name in found:
        safe_name(f"data/{name}")
    return found


def _claim(config: NodeConfig, manifest: Manifest, force: bool) -> DirectoryLock:
    """The data directory, locked, empty and marked; the store's is empty too."""
    data, store = config.data_dir, config.store_path
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        half = (data / RESTORING).exists()
        lock = DirectoryLock(data)
        lock.take()
    except OSError as error:
        raise RejectedError(f"cannot be written: {error.strerror}", where=str(data), mend="check node.data_dir") from error
    try:
        for place in (data, store):
            if not (force or half) and place.is_dir() and any(each.name != "lock" for each in place.iterdir()):
                raise RejectedError(
                    "is not empty", where=str(place), mend="restore into an empty one; --force deletes what is there first"
                )
        free = shutil.disk_usage(data).free
        if free < manifest.size and not force:
            raise InsufficientResources(
                f"the backup needs {show_size(manifest.size)}, {show_size(free)} are free", where=str(data), mend="make room"
            )
        (data / RESTORING).write_bytes(b"")
        for place in (data, store):
            _clear(place)
    except BaseException:
        lock.release()
        raise
    return lock


def _clear(place: Path) -> None:
    if not place.is_dir():
        return
    for each in place.iterdir():
        if each.name in ("lock", RESTORING):
            continue
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each)
        else:
            each.unlink()


class _Restoring:
    def __init__(self, config: NodeConfig, manifest: Manifest, reader: Reader, target: Path, fresh: bool, force: bool) -> None:
        self.count = 0
        self.notes: list[str] = [] if fresh else [f"{target} was there and stays as it is"]
        self._config, self._manifest, self._reader = config, manifest, reader
        self._force = force
        self._pieces = config.data_dir / "run" / "streams"
        self._digests = {member.name: member.sha256 for member in manifest.members}
        self._new_authority = any(name.startswith(_TLS) for name in manifest.left_out)

    def write(self, secrets: dict[str, bytes], told: Callable[[int], None]) -> None:
        """All files to their places, each checked once more as it is written."""
        for name, _, read in self._reader.members(told):
            path = self._place(name)
            if path is None:
                continue
            digest = _write(path, read())
            if digest != self._digests[name]:
                raise CorruptError(f"{name} changed while the backup was read", where=str(self._reader.path))
            self.count += 1
        for name, content in secrets.items():
            _write(self._config.data_dir / name, iter([content]))

    def _place(self, name: str) -> Path | None:
        """Where a member goes; None: nowhere."""
        config = self._config
        root, _, rest = name.partition("/")
        if name in (MANIFEST, SEALED, _CONFIG) or (self._new_authority and name.startswith(f"data/{_TLS}")):
            return None
        if name.startswith(_BASE):
            path = config.base / rest
            if path.exists() and not self._force:
                self.notes.append(f"{path} was there and stays as it is")
                return None
            return path
        places = {"data": config.data_dir, "store": config.store_path, "history": config.history_path, "streams": self._pieces}
        if root not in places:
            return None
        return places[root] / rest

    async def streams(self, clock: Clock) -> None:
        """Let a broker of our own make the streams again; no device reaches it."""
        plans = self._manifest.streams
        if not plans:
            return
        config = self._config
        signer = TokenSigner(load_or_create(config.data_dir / "keys" / "issuer.seed"))
        room = sum(max(0, int(plan["config"].get("max_bytes", 0))) for plan in plans.values()) + self._manifest.size
        quiet = msgspec.structs.replace(config.broker, mqtt="127.0.0.1:0", mqtts="", websocket="", tls=None)
        server = NatsServer(quiet, config.data_dir, signer.public, room + (1 << 30), clock)
        running = asyncio.create_task(server.run())
        try:
            try:
                async with asyncio.timeout(READY_S):
                    await server.ready.wait()
            except TimeoutError as error:
                raise UnavailableError(f"the broker did not start: {server.status}") from error
            client = await WireClient.connect(server.host, server.port, AGENT, server.password, "restore")
            try:
                for name, plan in plans.items():
                    alone = plan | {"config": plan["config"] | {"num_replicas": 1}}
                    await restore_stream(client, alone, _chunks(self._pieces / name))
            finally:
                client.close()
        finally:
            await cancel_and_wait(running)
            shutil.rmtree(self._pieces, ignore_errors=True)


async def _chunks(place: Path) -> AsyncIterator[bytes]:
    for chunk in _read(place):
        yield chunk


def _read(place: Path) -> Iterator[bytes]:
    for path in sorted(place.iterdir()) if place.is_dir() else ():
        with path.open("rb") as file:
            while head := file.read(4):
                size = int.from_bytes(head, "big")
                chunk = file.read(min(size, PIECE + 1))
                if len(chunk) != size:
                    raise CorruptError("a stream in the backup is cut off", where=str(path))
                yield chunk


def _write(path: Path, chunks: Iterator[bytes]) -> str:
    sha = hashlib.sha256()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with suppress(FileNotFoundError):
            path.unlink()
        with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600), "wb") as file:
            for chunk in chunks:
                sha.update(chunk)
                file.write(chunk)
    except OSError as error:
        where, mend = str(path), "make room, then restore again"
        raise UnavailableError(f"cannot be written: {error.strerror}", where=where, mend=mend) from error
    return sha.hexdigest()


def _said(manifest: Manifest, secrets: dict[str, bytes], config: NodeConfig) -> list[str]:
    """What is not as it was, in sentences."""
    found = []
    if not secrets:
        found.append("without secrets: the node makes new keys; tokens of the API have to be made anew, devices log in again")
        if any(name.startswith(_TLS) for name in manifest.left_out) and (config.broker.tls or config.api.tls):
            authority = config.data_dir / "tls" / "ca.pem"
            found.append(f"the site has a new CA: devices need {authority}, and those with a certificate a new one")
        if "uplink.key" in manifest.left_out:
            found.append("the site has a new key for hashed names: what goes up the link hashed has other names from now on")
    outside = [name for name in manifest.left_out if name.startswith("/")]
    found += [f"not in the backup, bring it yourself: {name}" for name in outside]
    return found
