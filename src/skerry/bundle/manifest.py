"""What a bundle says that it is: the one document that is signed, which names every other byte of it by digest. Pure."""

import hashlib
import re
from typing import Any

import msgspec

from skerry.core.errors import CorruptError, RejectedError

FORMAT = 1
MOST_MEMBERS = 256
MOST_BYTES = 4 << 30
"""Bytes of all models of a bundle, unpacked."""
MOST_MANIFEST = 4 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_VERSION = re.compile(r"(\d{1,6})\.(\d{1,6})(?:\.(\d{1,6}))?")
_DIGEST = re.compile(r"[0-9a-f]{64}")
Row = dict[str, Any]


class Member(msgspec.Struct, frozen=True):
    """One model file; its name in the archive follows from its digest."""

    sha256: str
    size: int

    @property
    def name(self) -> str:
        """Its place in the archive, and below the bundle's directory on a node."""
        return f"models/{self.sha256}.onnx"


class Manifest(msgspec.Struct, frozen=True):
    """All of a bundle but the bytes of its models.

    Attributes:
        name, version: for people; a bundle is known by its `id`.
        needs: the least version of skerry that can run it.
        models, pipelines, connectors: the tables as in skerry.toml; `file` of a model is the name of a member, and pipelines
            name the exact version of their model.
    """

    format: int
    name: str
    version: str
    needs: str
    models: list[Row]
    pipelines: list[Row]
    connectors: list[Row]
    members: list[Member]

    @property
    def size(self) -> int:
        """Bytes of all members."""
        return sum(member.size for member in self.members)

    @property
    def title(self) -> str:
        """`name version`."""
        return f"{self.name} {self.version}"


def encode_manifest(manifest: Manifest) -> bytes:
    """The bytes that are signed: JSON with sorted keys. Raises `RejectedError` for a value that JSON has not (dates, infinity)."""
    data = msgspec.json.encode(manifest, order="deterministic")
    if msgspec.json.decode(data, type=Manifest) != manifest:
        raise RejectedError(
            "a table holds a value that a bundle cannot carry", where=manifest.title, mend="write dates and infinities otherwise"
        )
    check_manifest(data)
    return data


def check_manifest(data: bytes) -> Manifest:
    """A manifest out of its bytes. Raises `RejectedError` (another format, or too large), `CorruptError` (it is not sound)."""
    if len(data) > MOST_MANIFEST:
        raise RejectedError(f"its manifest has {len(data)} bytes, {MOST_MANIFEST} are allowed")
    try:
        found = msgspec.json.decode(data, type=dict[str, Any])
        number = found.get("format")
        if number != FORMAT:
            raise RejectedError(
                f"has format {str(number)[:20]}, this version reads {FORMAT}",
                mend=f"use skerry {str(found.get('needs'))[:20]} or later",
            )
        manifest = msgspec.convert(found, Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CorruptError("its manifest cannot be read", mend="build it again") from error
    fault = _fault(manifest)
    if fault:
        raise CorruptError(f"its manifest is not sound: {fault}", mend="build it again")
    return manifest


def _fault(manifest: Manifest) -> str:
    for word in (manifest.name, manifest.version):
        if not _NAME.fullmatch(word):
            return f"{word[:80]!r} is no name"
    if not _VERSION.fullmatch(manifest.needs):
        return f"{manifest.needs[:80]!r} is no version of skerry"
    names = [member.name for member in manifest.members]
    if len(names) > MOST_MEMBERS or names != sorted(set(names)):
        return f"its members are not sorted, or there are more than {MOST_MEMBERS}"
    if any(not _DIGEST.fullmatch(member.sha256) or member.size < 0 for member in manifest.members) or manifest.size > MOST_BYTES:
        return "a member has no digest, or a size that none may have"
    if {table.get("file") for table in manifest.models} != set(names):
        return "its models are not its members"
    return ""


def check_word(word: str, what: str) -> str:
    """A name or a version of a bundle. Raises `RejectedError`."""
    if not _NAME.fullmatch(word):
        raise RejectedError(f"{word!r} will not do", where=what, mend="letters, digits, dots, - and _, at most 63")
    return word


def bundle_id(data: bytes) -> str:
    """The bundle of a manifest's bytes: 32 hexadecimal digits of their SHA-256."""
    return hashlib.sha256(data).hexdigest()[:32]


def summary(manifest: Manifest, id: str) -> Row:
    """What is shown of a bundle."""
    return {
        "id": id,
        "name": manifest.name,
        "version": manifest.version,
        "needs": manifest.needs,
        "models": [f"{table['name']}@{table['version']}" for table in manifest.models],
        "pipelines": [table["name"] for table in manifest.pipelines],
        "connectors": [table["name"] for table in manifest.connectors],
    }


def check_needs(needs: str, running: str) -> None:
    """Raise `RejectedError` where this skerry is older than the bundle needs."""
    mine, wanted = _numbers(running), _numbers(needs)
    if mine < wanted:
        raise RejectedError(f"it needs skerry {needs} or later, this is {running}", mend="update skerry first")


def _numbers(text: str) -> tuple[int, ...]:
    found = _VERSION.match(text)
    return tuple(int(part or 0) for part in found.groups()) if found else ()
