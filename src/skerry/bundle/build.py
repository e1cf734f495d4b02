"""From a project to a bundle: its pipelines and connectors, and of each model the version that runs."""

import hashlib
from collections.abc import Sequence
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

import msgspec

from skerry.bundle.archive import write_bundle
from skerry.bundle.manifest import FORMAT, Manifest, Member, bundle_id, check_word, encode_manifest, summary
from skerry.bundle.signing import Signatures
from skerry.core.errors import ConfigError, RejectedError
from skerry.inference import ModelConfig, Models

Row = dict[str, Any]
_CHUNK = 1 << 20


class Project(msgspec.Struct, frozen=True):
    """What a bundle is built of: raw `[[pipelines]]` and `[[connectors]]` tables, and all versions of all models.

    Attributes:
        base: what the files of the models are relative to.
    """

    pipelines: Sequence[Row]
    connectors: Sequence[Row]
    models: Sequence[ModelConfig]
    base: Path


def build_bundle(project: Project, out: Path, name: str = "", version: str = "1", needs: str = "") -> Row:
    """Write an unsigned bundle: `{file, id, name, version, needs, bytes, models, pipelines, connectors}`.

    Args:
        name: that of the file where empty. needs: the least version of skerry; this one where empty.

    The same project gives the same bytes. Raises `RejectedError`, `ConfigError`; then nothing is written.
    """
    name = check_word(name or out.name.partition(".")[0], "--name")
    found = Models(project.models, project.base)
    pinned = [_pinned(table, found) for table in project.pipelines]
    chosen = sorted(_chosen(project.models, pinned, found), key=lambda each: (each.name, each.version))
    if not (pinned or chosen or project.connectors):
        raise RejectedError("there is nothing to put into a bundle", mend="write [[pipelines]] or [[models]] into skerry.toml")
    files = {_digest(project.base / each.file): project.base / each.file for each in chosen}
    digests = {str(file): member.sha256 for member, file in files.items()}
    members = sorted(files, key=lambda member: member.name)
    tables = [_table(each, f"models/{digests[str(project.base / each.file)]}.onnx") for each in chosen]
    version, needs = check_word(version, "--version"), needs or version_of("skerry")
    manifest = Manifest(FORMAT, name, version, needs, tables, pinned, list(project.connectors), members)
    data = encode_manifest(manifest)
    write_bundle(out, data, Signatures(), {member.sha256: file for member, file in files.items()})
    return {"file": str(out), **summary(manifest, bundle_id(data)), "bytes": out.stat().st_size}


def _pinned(table: Row, models: Models) -> Row:
    """A pipeline that names the very version of its model: what was tried is what runs."""
    reference = table.get("model")
    if not reference:
        return table
    try:
        chosen = models.find(str(reference))
    except ConfigError as error:
        raise error.at(f"pipeline {table.get('name')}") from error
    return {**table, "model": f"{chosen.name}@{chosen.version}"}


def _chosen(models: Sequence[ModelConfig], pipelines: Sequence[Row], found: Models) -> list[ModelConfig]:
    """What the pipelines name; and of a model that none of them names, the active version."""
    named = {str(table["model"]) for table in pipelines if table.get("model")}
    free = {each.name for each in models} - {reference.partition("@")[0] for reference in named}
    return [found.find(reference) for reference in sorted(named | free)]


def _table(config: ModelConfig, file: str) -> Row:
    """Its table with the keys that are not at their default; which engine is best is found on each node anew."""
    found = [ModelConfig(config.name, file, config.version), msgspec.structs.replace(config, file=file, active=None, engine="auto")]
    blank, mine = (msgspec.json.decode(msgspec.json.encode(each)) for each in found)
    always = ("name", "version", "file")
    return {key: value for key, value in mine.items() if key in always or value != blank[key]}


def _digest(file: Path) -> Member:
    sha, size = hashlib.sha256(), 0
    try:
        with file.open("rb") as source:
            while chunk := source.read(_CHUNK):
                sha.update(chunk)
                size += len(chunk)
    except OSError as error:
        raise RejectedError(f"the model cannot be read: {error.strerror}", where=str(file), mend="mend the path") from error
    return Member(sha.hexdigest(), size)
