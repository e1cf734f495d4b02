"""The bundle file: its manifest, the signatures over that, and a tar of models compressed with zstd (docs/adr/0020-bundles.md).

    skippable zstd frame   "skerry-bundle\\n" and the manifest (JSON)
    skippable zstd frame   "skerry-signatures\\n" and the signatures (JSON)
    zstd frame             tar (POSIX ustar) of models/<sha256>.onnx, in the order of their names

Any zstd and tar can read it. The same tables and models give the same bytes: no time, owner or path of the machine is in it. The
reader parses no tar: it makes each header that the manifest asks for and compares, so that nothing else can be in it.
"""

import hashlib
import os
import struct
import tarfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import zstandard

from skerry.bundle.manifest import MOST_MANIFEST, Manifest, Member, bundle_id, check_manifest
from skerry.bundle.signing import Signatures, decode_signatures
from skerry.core.errors import CorruptError, RejectedError, SkerryError, UnavailableError
from skerry.core.files import sync_names

LEVEL = 9
MOST_SIGNED = 64 * 1024
_MOST_WINDOW = 128 << 20
_CHUNK = 1 << 20
_BLOCK = 512
_END = bytes(2 * _BLOCK)
_FRAME = struct.Struct("<II")
_SKIPPABLE = 0x184D2A5E
_BEGIN, _SIGNED = b"skerry-bundle\n", b"skerry-signatures\n"
Sink = Callable[[bytes], object]


def write_bundle(path: Path, manifest: bytes, signatures: Signatures, files: Mapping[str, Path]) -> None:
    """Write a bundle beside its place, sync it, and give it its name. `files`: the model file of each digest.

    Raises `RejectedError`: it cannot be made there, what is there is no bundle, or a model changed meanwhile; then that stays."""
    if path.exists():
        try:
            BundleFile(path)
        except SkerryError as error:
            raise RejectedError("is there already, and is no bundle", where=str(path), mend="name another file") from error

    def body(out: Sink) -> None:
        packer = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True, write_content_size=False).compressobj()
        for member in check_manifest(manifest).members:
            out(packer.compress(_header(member)))
            for chunk in _chunks(files[member.sha256], member):
                out(packer.compress(chunk))
            out(packer.compress(bytes(-member.size % _BLOCK)))
        out(packer.compress(_END))
        out(packer.flush())

    _replace(path, manifest, signatures, body)


def _chunks(file: Path, member: Member) -> Any:
    sha, size = hashlib.sha256(), 0
    with file.open("rb") as source:
        while chunk := source.read(_CHUNK):
            sha.update(chunk)
            size += len(chunk)
            if size > member.size:
                break
            yield chunk
    if size != member.size or sha.hexdigest() != member.sha256:
        raise RejectedError("changed while the bundle was made", where=str(file), mend="build it again")


def _replace(path: Path, manifest: bytes, signatures: Signatures, body: Callable[[Sink], None]) -> None:
    part = path.with_name(f".{path.name}.part")
    try:
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o644), "wb") as file:
            file.write(_skippable(_BEGIN + manifest))
            file.write(_skippable(_SIGNED + msgspec.json.encode(signatures)))
            body(file.write)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        sync_names(path.parent)
    except OSError as error:
        where = str(error.filename or path)
        raise RejectedError(f"cannot be made: {error.strerror}", where=where, mend="name another file") from error
    finally:
        with suppress(OSError):
            part.unlink()


class BundleFile:
    """A bundle on disk. Opening it reads its head; `check` and `unpack` read all of it.

    Attributes:
        data: the bytes of the manifest, which are what is signed.
        id: what the bundle is known by.
    """

    def __init__(self, path: Path) -> None:
        """Raises `RejectedError`: it cannot be read, or is no bundle of this format; `CorruptError`."""
        self.path = path
        try:
            with path.open("rb") as file:
                self.data = self._frame(file, _BEGIN, MOST_MANIFEST, "is no bundle of skerry")
                signed = self._frame(file, _SIGNED, MOST_SIGNED, "is a bundle without a place for signatures")
                self._body = file.tell()
            self.manifest: Manifest = check_manifest(self.data)
            self.signatures = decode_signatures(signed)
        except OSError as error:
            raise RejectedError(f"cannot be read: {error.strerror}", where=str(path), mend="name a bundle") from error
        except SkerryError as error:
            error.where = error.where or str(path)
            raise
        self.id = bundle_id(self.data)

    @staticmethod
    def _frame(file: BinaryIO, mark: bytes, most: int, otherwise: str) -> bytes:
        head = file.read(_FRAME.size)
        magic, size = _FRAME.unpack(head) if len(head) == _FRAME.size else (0, 0)
        content = file.read(size) if magic == _SKIPPABLE and len(mark) < size <= most + len(mark) else b""
        if not content.startswith(mark) or len(content) != size:
            raise RejectedError(otherwise, mend="name a file of `skerry bundle build`")
        return content[len(mark) :]

    def check(self) -> None:
        """Read it to its end: every digest, and that there is nothing else. Raises `CorruptError`."""
        self._read(lambda _: lambda _: None)

    def unpack(self, folder: Path) -> None:
        """Put its models below a directory, each synced. Raises `CorruptError`, `UnavailableError` (the disk); parts may stay."""

        def made(member: Member) -> Sink:
            file = opened.enter_context((folder / member.name).open("xb"))
            left = member.size

            def write(chunk: bytes) -> None:
                nonlocal left
                file.write(chunk)
                left -= len(chunk)
                if not left:
                    file.flush()
                    os.fsync(file.fileno())
                    file.close()

            if not member.size:
                write(b"")
            return write

        try:
            (folder / "models").mkdir()
            with ExitStack() as opened:
                self._read(made)
            sync_names(folder / "models")
        except OSError as error:
            raise UnavailableError(f"cannot be written: {error.strerror}", where=str(folder), mend="make room") from error

    def signed(self, signatures: Signatures) -> None:
        """Write the file anew with these signatures; the rest stays byte for byte. Raises `RejectedError`, `CorruptError`."""
        self.check()

        def body(out: Sink) -> None:
            with self.path.open("rb") as source:
                source.seek(self._body)
                while chunk := source.read(_CHUNK):
                    out(chunk)

        _replace(self.path, self.data, signatures, body)
        self._body = sum(len(_skippable(each)) for each in (_BEGIN + self.data, _SIGNED + msgspec.json.encode(signatures)))
        self.signatures = signatures

    def _read(self, made: Callable[[Member], Sink]) -> None:
        with self.path.open("rb") as file:
            file.seek(self._body)
            reader = zstandard.ZstdDecompressor(max_window_size=_MOST_WINDOW).stream_reader(
                file, read_size=_CHUNK, read_across_frames=True, closefd=False
            )
            try:
                for member in self.manifest.members:
                    self._member(reader, member, made(member))
                if self._exactly(reader, len(_END)) != _END or reader.read(1):
                    raise self._corrupt("something is behind its end")
            except zstandard.ZstdError as error:
                raise self._corrupt("it cannot be unpacked") from error

    def _member(self, reader: Any, member: Member, sink: Sink) -> None:
        if self._exactly(reader, _BLOCK) != _header(member):
            raise self._corrupt("it holds what its manifest does not name")
        sha, left = hashlib.sha256(), member.size
        while left:
            chunk = self._exactly(reader, min(_CHUNK, left))
            sha.update(chunk)
            sink(chunk)
            left -= len(chunk)
        if any(self._exactly(reader, -member.size % _BLOCK)) or sha.hexdigest() != member.sha256:
            raise self._corrupt(f"{member.name} is not what was packed")

    def _exactly(self, reader: Any, size: int) -> bytes:
        parts: list[bytes] = []
        while size:
            part = reader.read(size)
            if not part:
                raise self._corrupt("it is cut off")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _corrupt(self, why: str) -> CorruptError:
        return CorruptError(f"the bundle is damaged, or was changed: {why}", where=str(self.path), mend="take another copy")


def _header(member: Member) -> bytes:
    info = tarfile.TarInfo(member.name)
    info.size, info.mode = member.size, 0o644
    return info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")


def _skippable(content: bytes) -> bytes:
    return _FRAME.pack(_SKIPPABLE, len(content)) + content
