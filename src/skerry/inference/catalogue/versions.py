"""Model versions on disk: files by their content, one index that is replaced whole, and a lock for who writes.

    models/blobs/<sha256>   the model files; never changed
    models/index.json       versions, active pointers, shadows; written beside, synced, renamed
    models/lock             held by who writes

A file is in place before the index names it, and is deleted after the index has let it go. So a crash at any moment leaves an
index that opens and names only whole files; what it does not name is removed by `collect`. Imports no engine and no numpy: the
agent keeps the catalogue, and it must stay small.
"""

import hashlib
import os
import time
from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec

from skerry.core.clock import Clock, SystemClock
from skerry.core.errors import ConfigError, InsufficientResources, RejectedError, suggestion
from skerry.core.files import sync_names
from skerry.inference.catalogue.config import ModelConfig
from skerry.inference.catalogue.index import IndexFile
from skerry.inference.catalogue.version import Index, Version

MOST_VERSIONS = 1000  # in one catalogue
_HISTORY = 20  # earlier active versions that are remembered of a name
_CHUNK = 1 << 20


class Catalogue:
    """All versions of all models: those in the configuration and those that were added.

    Args:
        directory: `models` in the data directory; made when something is first written.
        configs: the `[[models]]` tables; the last of a name is active until another is activated.
        base: directory that their files are relative to.
    """

    def __init__(
        self, directory: Path, configs: Sequence[ModelConfig] = (), base: Path = Path(), clock: Clock | None = None
    ) -> None:
        self.directory, self.index = directory, IndexFile(directory)
        self._configs = list(configs)
        self._base = base
        self._clock = clock or SystemClock()
        self.index.read()  # what cannot be read is told at once

    def versions(self, name: str | None = None) -> list[Version]:
        """All versions, or those of one name; of a name the oldest first. Raises `CorruptError`."""
        index = self.index.read()
        rows = self._rows(index)
        chosen = [self._shown(index, row, rows) for row in rows if name in (None, row.name)]
        return sorted(chosen, key=lambda row: row.name)

    def find(self, reference: str) -> Version:
        """The version that `name`, `name@active` or `name@version` means. Raises `ConfigError`, `CorruptError`."""
        name, _, version = reference.partition("@")
        rows = self.versions()
        found = [row for row in rows if row.name == name]
        if not found:
            known = sorted({row.name for row in rows})
            raise ConfigError(
                f"there is no model {name!r}{suggestion(name, known)}", where="model", allowed=", ".join(known) or "none"
            )
        if version in ("", "active"):
            active = self.active(name)
            if active is None:
                raise ConfigError(
                    f"model {name!r} has no active version", where="model", mend=f"skerry model activate {name} VERSION"
                )
            return active
        for row in found:
            if row.version == version:
                return row
        versions = ", ".join(row.version for row in found)
        raise ConfigError(f"model {name!r} has no version {version!r}", where="model", allowed=f"{versions}, active")

    def active(self, name: str) -> Version | None:
        """The active version of a name, if there is one."""
        index = self.index.read()
        rows = self._rows(index)
        wanted = _active(index, name, rows)
        return next((self._shown(index, row, rows) for row in rows if (row.name, row.version) == (name, wanted)), None)

    def previous(self, name: str) -> Version | None:
        """The version that `rollback` goes to: the last one that was active before, exists, and did not fail."""
        index = self.index.read()
        rows = {row.version: row for row in self.versions(name)}
        now = _active(index, name, list(rows.values()))
        for version in reversed(index.history.get(name, [])):
            if version != now and version in rows and rows[version].state != "failed":
                return rows[version]
        return None

    def path(self, version: Version) -> Path:
        """The model's file."""
        return self._base / version.file if version.file else self.blobs / version.sha256

    def shadow_of(self, name: str) -> Version | None:
        """The version that runs beside the active one, if any."""
        wanted = self.index.read().shadow.get(name)
        return next((row for row in self.versions(name) if row.version == wanted), None)

    def configs(self) -> list[ModelConfig]:
        """All versions as tables with absolute files, as workers and the model server take them."""
        given = {(config.name, config.version): config for config in self._configs}
        last = {config.name: config for config in self._configs}
        rows = []
        for row in self.versions():
            config = given.get((row.name, row.version)) or last.get(row.name) or ModelConfig(row.name, "")
            rows.append(
                msgspec.structs.replace(
                    config, version=row.version, file=str(self.path(row).absolute()),
                    active=row.state == "active",
                    engine=(row.engine or "auto") if config.engine == "auto" else config.engine,
                    labels=row.labels, threshold=row.threshold, features=row.features,
                )
            )  # fmt: skip
        return rows

    def store(self, file: Path) -> tuple[str, int]:
        """Copy a file in: its sha256 and size. Not in the index yet. Raises `RejectedError`, `InsufficientResources`."""
        with self.index.writing():
            self.blobs.mkdir(parents=True, exist_ok=True)
            part = self.blobs / f".{os.getpid()}-{time.monotonic_ns()}.part"
            try:
                digest, size = _copy(file, part)
                part.replace(self.blobs / digest)
                sync_names(self.blobs)
            finally:
                part.unlink(missing_ok=True)
        return digest, size

    def add(self, version: Version) -> Version:
        """Put a version whose file is stored into the index, as STAGED; an empty number becomes the next one.

        Raises `RejectedError`: the version is there, or its file is not.
        """
        with self.index.writing() as index:
            taken = {row.version for row in self._rows(index) if row.name == version.name}
            numbers = [int(each) for each in taken if each.isascii() and each.isdecimal()]
            number = version.version or str(max(numbers, default=0) + 1)
            ModelConfig(version.name, version.sha256, number)  # the same rules for names as in the configuration
            if number == "active":
                raise RejectedError("a version cannot be called active", mend="choose another --version")
            if number in taken:
                raise RejectedError(
                    f"{version.name}@{number} is there already", mend="choose another --version, or remove it first"
                )
            if len(index.versions) >= MOST_VERSIONS:
                raise InsufficientResources(
                    f"the catalogue is full: {MOST_VERSIONS} versions", mend="remove some with `skerry model remove`"
                )
            if not (self.blobs / version.sha256).is_file():
                raise RejectedError(f"its file {version.sha256} is not stored", where=str(self.blobs))
            added = msgspec.structs.replace(version, version=number, state="staged", added=self._clock.now(), file="")
            index.versions.append(added)
            self.index.write(index)
        return added

    def activate(self, name: str, version: str) -> Version:
        """Move the active pointer. Raises `ConfigError` (no such version), `RejectedError` (its file is gone)."""
        with self.index.writing() as index:
            row = self.find(f"{name}@{version}")
            if not self.path(row).is_file():
                raise RejectedError("its file is gone", where=str(self.path(row)), mend="add it again")
            self._point(index, row)
            self.index.write(index)
        return self.find(row.reference)

    def rollback(self, name: str, reason: str = "") -> Version:
        """Back to the previous version; with a reason, the one that is left is marked as failed in the same write.

        Raises `ConfigError` (no such model), `RejectedError` (there is no previous version).
        """
        with self.index.writing() as index:
            self.find(name)
            now, back = self.active(name), self.previous(name)
            if now is None or back is None:
                raise RejectedError(f"model {name!r} has no earlier version to go back to", mend="activate one by its number")
            self._point(index, back, keep=False)
            if reason:
                index.failed[now.reference] = reason
            self.index.write(index)
        return self.find(back.reference)

    def fail(self, name: str, version: str, reason: str) -> None:
        """Mark a version as failed; the active pointer stays. Raises `ConfigError` (no such version)."""
        with self.index.writing() as index:
            index.failed[self.find(f"{name}@{version}").reference] = reason
            self.index.write(index)

    def shadow(self, name: str, version: str | None) -> None:
        """Let a version run beside the active one, or none. Raises `ConfigError`, `RejectedError` (it is the active one)."""
        with self.index.writing() as index:
            active = self.find(name)
            if version is None:
                index.shadow.pop(name, None)
            else:
                row = self.find(f"{name}@{version}")
                if row.version == active.version:
                    raise RejectedError(f"{row.reference} is the active version", mend="shadow another one")
                index.shadow[name] = row.version
            self.index.write(index)

    def remove(self, name: str, version: str) -> None:
        """Forget a version, and its file when no other has it. Raises `ConfigError`, `RejectedError` (active, or configured)."""
        with self.index.writing() as index:
            row = self.find(f"{name}@{version}")
            active = self.active(name)
            if row.file:
                raise RejectedError(f"{row.reference} is in the configuration", mend="take its [[models]] table out there")
            if active is not None and active.version == row.version:
                raise RejectedError(f"{row.reference} is active", mend="activate another version first")
            self._forget(index, {(name, row.version)})
            self.index.write(index)
            self._sweep(index)

    def collect(self, keep: int = 3, pinned: Collection[str] = ()) -> list[str]:
        """Garbage collection: forget all but the last `keep` added versions of each name, and files that no version has.

        Never goes: the active, the shadow, what `rollback` goes to, and `pinned` references. Answers the references that went.
        """
        with self.index.writing() as index:
            gone = set()
            for name in {row.name for row in index.versions}:
                kept = {row.version for row in (self.active(name), self.previous(name), self.shadow_of(name)) if row is not None}
                mine = [row for row in index.versions if row.name == name]
                gone |= {
                    (name, row.version)
                    for row in mine[: max(0, len(mine) - keep)]
                    if not {row.version, row.reference} & {*kept, *pinned}
                }
            if gone:
                self._forget(index, gone)
                self.index.write(index)
            self._sweep(index)
        return sorted(f"{name}@{version}" for name, version in gone)

    @property
    def blobs(self) -> Path:
        """Where the files are, each under its sha256."""
        return self.directory / "blobs"

    def _rows(self, index: Index) -> list[Version]:
        """The configuration's versions, then those added; where both have one, the configuration's counts."""
        rows = [
            Version(
                each.name, each.version, file=each.file, labels=tuple(each.labels), threshold=each.threshold,
                features=tuple(each.features),
            )
            for each in self._configs
        ]  # fmt: skip
        taken = {(row.name, row.version) for row in rows}
        return rows + [row for row in index.versions if (row.name, row.version) not in taken]

    def _shown(self, index: Index, row: Version, rows: Sequence[Version]) -> Version:
        """A row with the state that the index gives it."""
        failed = index.failed.get(row.reference)
        if _active(index, row.name, rows) == row.version:
            state = "active"
        elif failed is not None:
            state = "failed"
        elif row.file or row.version in index.history.get(row.name, ()):
            state = "retired"
        else:
            state = "staged"
        return msgspec.structs.replace(row, state=state, reason=failed or "")

    def _point(self, index: Index, row: Version, keep: bool = True) -> None:
        rows = self._rows(index)
        now = _active(index, row.name, rows)
        past = [version for version in index.history.get(row.name, []) if version != row.version]
        if now is not None and now != row.version:
            past = [version for version in past if version != now]
            # after a rollback the one that was left must not be what the next rollback goes to
            past = [*past, now] if keep else [now, *past]
        index.history[row.name] = past[-_HISTORY:]
        index.active[row.name] = row.version
        index.failed.pop(row.reference, None)
        if index.shadow.get(row.name) == row.version:
            del index.shadow[row.name]

    def _forget(self, index: Index, gone: set[tuple[str, str]]) -> None:
        index.versions = [row for row in index.versions if (row.name, row.version) not in gone]
        for name, version in gone:
            index.failed.pop(f"{name}@{version}", None)
            index.history[name] = [each for each in index.history.get(name, []) if each != version]
            if index.shadow.get(name) == version:
                del index.shadow[name]

    def _sweep(self, index: Index) -> None:
        """Delete what the index does not name. The lock is held: nobody is about to name it but an `add` after its `store`,
        which then is refused in one sentence."""
        named = {row.sha256 for row in index.versions}
        if self.blobs.is_dir():
            for file in self.blobs.iterdir():
                if file.name not in named:
                    file.unlink(missing_ok=True)


def _active(index: Index, name: str, rows: Sequence[Version]) -> str | None:
    """The active version of a name: the pointer's, if that version is there, else the configuration's last."""
    mine = [row for row in rows if row.name == name]
    wanted = index.active.get(name)
    if any(row.version == wanted for row in mine):
        return wanted
    return next((row.version for row in reversed(mine) if row.file), None)


def _copy(file: Path, part: Path) -> tuple[str, int]:
    """Copy and sync a file: its sha256 and size in bytes."""
    digest, size = hashlib.sha256(), 0
    try:
        source = file.open("rb")
    except OSError as error:
        raise RejectedError(f"the model file cannot be read: {error.strerror}", where=str(file), mend="mend the path") from error
    try:
        with source, part.open("wb") as copy:
            while chunk := source.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
                copy.write(chunk)
            copy.flush()
            os.fsync(copy.fileno())
    except IsADirectoryError as error:
        raise RejectedError("the model file is a directory", where=str(file), mend="name the .onnx file") from error
    except OSError as error:
        raise InsufficientResources(
            f"the model cannot be stored: {error.strerror}", where=str(part.parent), mend="make room"
        ) from error
    return digest.hexdigest(), size
