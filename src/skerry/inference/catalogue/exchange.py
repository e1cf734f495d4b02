"""The catalogue as one node gives it to another: the index as text, and which of its files are not here. Imports no engine."""

import hashlib
import os
from pathlib import Path

import msgspec

from skerry.core.errors import CorruptError, InsufficientResources, RejectedError, UnavailableError
from skerry.core.files import sync_names
from skerry.inference.catalogue.version import FORMAT, Index
from skerry.inference.catalogue.versions import Catalogue

_CHUNK = 1 << 20


def export_index(catalogue: Catalogue) -> bytes | None:
    """The index for others; None where nothing was ever added. Raises `CorruptError`."""
    index = catalogue.index.read()
    return None if index == Index() else msgspec.json.encode(index)


def index_files(data: bytes) -> dict[str, int]:
    """Size by sha256 of the files that an index names. Raises `CorruptError` for what is no index of this version."""
    return {row.sha256: row.size for row in _decoded(data).versions}


def missing_files(catalogue: Catalogue, data: bytes) -> dict[str, int]:
    """As `index_files`, but only those that are not here."""
    return {name: size for name, size in index_files(data).items() if not (catalogue.blobs / name).is_file()}


def take_model_file(catalogue: Catalogue, part: Path, sha256: str) -> None:
    """Move a file into its place that has come from elsewhere. Raises `CorruptError` where it is not what its name says."""
    try:
        with part.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
        if found != sha256:
            raise CorruptError(f"the file of a model came with the sha256 {found}", where=sha256, mend="add the model again")
        with catalogue.index.writing():
            part.replace(catalogue.blobs / sha256)
            sync_names(catalogue.blobs)
    except OSError as error:
        raise InsufficientResources(f"the model cannot be stored: {error.strerror}", where=str(part), mend="make room") from error


def adopt_index(catalogue: Catalogue, data: bytes) -> None:
    """Have another node's index from now on; its files must be here. Raises `RejectedError` where one is not."""
    index = _decoded(data)
    with catalogue.index.writing():
        for row in index.versions:
            if not (catalogue.blobs / row.sha256).is_file():
                raise RejectedError(f"its file {row.sha256} is not here", where=row.reference, mend="fetch it first")
        catalogue.index.write(index)


def coming_folder(catalogue: Catalogue) -> Path:
    """Where files may lie that are not whole yet; on the same disk. Raises `UnavailableError`."""
    folder = catalogue.directory / "coming"
    try:
        catalogue.blobs.mkdir(parents=True, exist_ok=True)
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise UnavailableError(f"cannot be made: {error.strerror}", where=str(folder), mend="see the disk") from error
    return folder


def _decoded(data: bytes) -> Index:
    try:
        index = msgspec.json.decode(data, type=Index)
    except msgspec.MsgspecError as error:
        raise CorruptError(f"the index of models of another node cannot be read: {error}") from error
    if index.format != FORMAT:
        raise CorruptError(f"the index of models of another node has format {index.format}, this skerry reads {FORMAT}")
    return index
