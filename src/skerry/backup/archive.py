"""The backup file: a header, a tar compressed with zstd, and a SHA-256 over both (docs/adr/0014-backup-file.md).

    skippable zstd frame   "skerry-backup\\n" and JSON: format, node, site, version, created
    zstd frame             tar (POSIX ustar) of regular files; the last one is manifest.json with the SHA-256 of each other
    skippable zstd frame   "skerry-backup-end\\n" and the SHA-256 of all bytes before this frame

Any zstd and tar can read it. It is written beside its place and renamed when it is whole and on the disk. The reader takes nothing
from a tar but regular files under known names, and believes no size before it has counted.
"""

import hashlib
import io
import os
import re
import struct
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import zstandard

from skerry.core.errors import CorruptError, RejectedError, UnavailableError
from skerry.core.files import sync_names

FORMAT = 1
MANIFEST = "manifest.json"
ROOTS = ("config", "base", "data", "store", "history", "streams", "secrets")
MOST_HEADER = 64 * 1024
MOST_SMALL = 64 * 1024 * 1024
"""Bytes of a member that is read into memory: the manifest, the sealed secrets, the configuration."""
MOST_MEMBERS = 1_000_000
_CHUNK = 1024 * 1024
_BLOCK = 512
_FRAME = struct.Struct("<II")
_SKIPPABLE = 0x184D2A5D
_BEGIN, _END = b"skerry-backup\n", b"skerry-backup-end\n"
_FOOTER = _FRAME.size + len(_END) + 32
_PART = re.compile(r"[^\x00-\x1f\x7f/\\]+")


class Header(msgspec.Struct, frozen=True):
    """What stands in front, readable without reading the rest."""

    format: int
    node: str
    site: str
    version: str
    created: str


class Member(msgspec.Struct, frozen=True):
    """One file in the backup."""

    name: str
    size: int
    sha256: str


class Manifest(msgspec.Struct):
    """What is in a backup.

    Attributes:
        streams: what the broker needs to make each stream again, by name; empty where its files are in the backup.
        left_out: secrets and files that are not in it, by their name.
        sealed: whether secrets are in it, under a passphrase.
    """

    members: list[Member] = []
    streams: dict[str, dict[str, Any]] = {}
    left_out: list[str] = []
    sealed: bool = False

    @property
    def size(self) -> int:
        """Bytes of all members."""
        return sum(member.size for member in self.members)


def safe_name(name: str) -> str:
    """The name of a member, checked. Raises `CorruptError` for one that could lead out of the place it is unpacked to."""
    parts = name.split("/")
    good = parts[0] in ROOTS and len(parts) <= 32 and all(_PART.fullmatch(part) and part not in (".", "..") for part in parts)
    if name != MANIFEST and not good:
        raise CorruptError(f"the backup holds a file with a name that no backup has: {name[:80]!r}", mend="do not use it")
    return name


class Writer:
    """A backup that is being written; `close` makes it one. Left by an exception, nothing stays."""

    def __init__(self, path: Path, header: Header, told: Callable[[int], None] = lambda _: None) -> None:
        self.manifest = Manifest()
        self._path = path
        self._told = told
        self._part = path.with_name(f".{path.name}.part")
        self._sha = hashlib.sha256()
        if path.exists():
            raise RejectedError("is there already", where=str(path), mend="name a new file")
        try:
            self._part.unlink(missing_ok=True)
            descriptor = os.open(self._part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise RejectedError(f"cannot be made: {error.strerror}", where=str(path), mend="name another file") from error
        self._file = os.fdopen(descriptor, "wb")
        self._raw(_skippable(_BEGIN + msgspec.json.encode(header)))
        self._zstd = zstandard.ZstdCompressor(level=3, write_checksum=True).compressobj()

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if not self._file.closed:
            self._file.close()
            self._part.unlink(missing_ok=True)

    def file(self, name: str, path: Path, *, needed: bool = True) -> None:
        """Put a file in, as long as it is now: what is appended meanwhile is left out. One that is gone is too, unless needed."""
        try:
            source = path.open("rb")
        except OSError as error:
            if isinstance(error, FileNotFoundError) and not needed:
                return
            raise UnavailableError(f"cannot be read: {error.strerror}", where=str(path)) from error
        with source:
            self._member(name, os.fstat(source.fileno()).st_size, source, str(path))

    def data(self, name: str, content: bytes) -> None:
        """Put bytes in as a file."""
        self._member(name, len(content), io.BytesIO(content), name)

    def _member(self, name: str, size: int, source: BinaryIO, where: str) -> None:
        safe_name(name)
        try:
            info = tarfile.TarInfo(name)
            info.size, info.mode = size, 0o600
            self._write(info.tobuf(tarfile.USTAR_FORMAT, "utf-8", "surrogateescape"))
        except ValueError as error:
            raise RejectedError(f"does not fit into a backup: {error}", where=where, mend="shorten its name") from error
        sha, left = hashlib.sha256(), size
        while left:
            chunk = source.read(min(_CHUNK, left))
            if not chunk:
                raise UnavailableError("became shorter while it was read", where=where, mend="try again")
            left -= len(chunk)
            sha.update(chunk)
            self._write(chunk)
        self._write(bytes(-size % _BLOCK))
        if name != MANIFEST:
            self.manifest.members.append(Member(name, size, sha.hexdigest()))

    def close(self) -> int:
        """Finish it, bring it to the disk and to its name; its size."""
        self.data(MANIFEST, msgspec.json.encode(self.manifest))
        self._write(bytes(2 * _BLOCK))
        self._raw(self._zstd.flush())
        digest = self._sha.digest()
        self._raw(_skippable(_END + digest))
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            size = self._file.tell()
            self._file.close()
            self._part.rename(self._path)
            sync_names(self._path.parent)
        except OSError as error:
            raise UnavailableError(f"cannot be written: {error.strerror}", where=str(self._path)) from error
        return size

    def _write(self, plain: bytes) -> None:
        self._raw(self._zstd.compress(plain))
        self._told(len(plain))

    def _raw(self, data: bytes) -> None:
        self._sha.update(data)
        try:
            self._file.write(data)
        except OSError as error:
            raise UnavailableError(f"cannot be written: {error.strerror}", where=str(self._path)) from error


class Reader:
    """A backup file; `verify` reads all of it and nothing else may be done before."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._size = path.stat().st_size
            with path.open("rb") as file:
                self.header, self._begin = self._head(file)
        except OSError as error:
            raise RejectedError(f"cannot be read: {error.strerror}", where=str(path), mend="name a backup file") from error

    def _head(self, file: BinaryIO) -> tuple[Header, int]:
        head = file.read(_FRAME.size)
        magic, size = _FRAME.unpack(head) if len(head) == _FRAME.size else (0, 0)
        content = file.read(size) if magic == _SKIPPABLE and len(_BEGIN) < size <= MOST_HEADER else b""
        if not content.startswith(_BEGIN):
            raise RejectedError("is no backup of skerry", where=str(self.path), mend="name a file of `skerry backup create`")
        body = content[len(_BEGIN) :]
        try:
            found = msgspec.json.decode(body, type=dict[str, Any])
            if int(found.get("format", 0)) > FORMAT:
                raise RejectedError(
                    f"has format {found['format']}, this version reads {FORMAT}", where=str(self.path),
                    mend=f"restore it with skerry {str(found.get('version'))[:20]} or later",
                )  # fmt: skip
            return msgspec.convert(found, Header), _FRAME.size + size
        except (msgspec.MsgspecError, ValueError, TypeError) as error:
            raise self._corrupt("its header cannot be read") from error

    def _corrupt(self, why: str) -> CorruptError:
        return CorruptError(f"the backup is damaged: {why}", where=str(self.path), mend="take another one")

    def verify(self, told: Callable[[int], None] = lambda _: None) -> Manifest:
        """Read all of it: the whole's digest, every member's, and the names. Raises `CorruptError`."""
        found: dict[str, Member] = {}
        manifest: Manifest | None = None
        for name, size, read in self.members(told):
            if manifest is not None or name in found or len(found) > MOST_MEMBERS:
                raise self._corrupt("it holds what its manifest does not name")
            if name == MANIFEST:
                try:
                    manifest = msgspec.json.decode(small(read, size, name), type=Manifest)
                except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                    raise self._corrupt("its manifest cannot be read") from error
                continue
            sha = hashlib.sha256()
            for chunk in read():
                sha.update(chunk)
            found[name] = Member(name, size, sha.hexdigest())
        if manifest is None or list(found.values()) != manifest.members:
            raise self._corrupt("its members are not those of its manifest")
        return manifest

    def members(self, told: Callable[[int], None] = lambda _: None) -> Iterator[tuple[str, int, Callable[[], Iterator[bytes]]]]:
        """Name, size, and what reads the content chunk by chunk; in order. At the end the digest of the whole has been checked."""
        with self.path.open("rb") as file:
            end = self._size - _FOOTER
            source = _Body(file, end)
            plain = zstandard.ZstdDecompressor().stream_reader(source, read_size=_CHUNK, closefd=False)  # type: ignore[arg-type]  # it needs `read` only
            source.skip(self._begin)
            try:
                yield from self._tar(plain, told)
                if plain.read(1) or source.read(1):
                    raise self._corrupt("there is something behind its end")
            except zstandard.ZstdError as error:
                raise self._corrupt("it cannot be unpacked") from error
            file.seek(max(0, end))
            if file.read() != _skippable(_END + source.sha.digest()):
                raise self._corrupt("it is cut off, or was changed")

    def _tar(self, plain: Any, told: Callable[[int], None]) -> Iterator[tuple[str, int, Callable[[], Iterator[bytes]]]]:
        while True:
            block = self._exactly(plain, _BLOCK)
            if not any(block):
                if any(self._exactly(plain, _BLOCK)):
                    raise self._corrupt("its tar does not end where it should")
                return
            try:
                info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            except tarfile.TarError as error:
                raise self._corrupt("its tar cannot be read") from error
            if info.type != tarfile.REGTYPE or info.size < 0:
                raise self._corrupt("it holds something that is no regular file")
            left = info.size

            def read() -> Iterator[bytes]:
                nonlocal left
                while left:
                    chunk = self._exactly(plain, min(_CHUNK, left))
                    left -= len(chunk)
                    told(len(chunk))
                    yield chunk

            yield safe_name(info.name), info.size, read
            for _ in read():
                continue  # what was not wanted
            self._exactly(plain, -info.size % _BLOCK)

    def _exactly(self, plain: Any, size: int) -> bytes:
        parts: list[bytes] = []
        while size:
            try:
                part = plain.read(size)
            except zstandard.ZstdError as error:
                raise self._corrupt("it cannot be unpacked") from error
            if not part:
                raise self._corrupt("it is cut off")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


def small(read: Callable[[], Iterator[bytes]], size: int, name: str) -> bytes:
    """A whole member. Raises `CorruptError` for one that is too large to be held in memory."""
    if size > MOST_SMALL:
        raise CorruptError(f"{name} in the backup is too large: {size} bytes")
    return b"".join(read())


class _Body:
    """The file up to its footer, with the digest of what was read."""

    def __init__(self, file: BinaryIO, end: int) -> None:
        self.sha = hashlib.sha256()
        self._file = file
        self._left = end

    def skip(self, size: int) -> None:
        self.read(size)

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(min(size, self._left) if size >= 0 else min(_CHUNK, self._left)) if self._left > 0 else b""
        self._left -= len(data)
        self.sha.update(data)
        return data


def _skippable(content: bytes) -> bytes:
    return _FRAME.pack(_SKIPPABLE, len(content)) + content
