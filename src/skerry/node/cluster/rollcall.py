"""What each node says of itself to the others: where devices reach it, and digests of what all nodes must have alike. Pure."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from skerry.config import NodeConfig

PREFIX = "node."


class Said(msgspec.Struct, frozen=True):
    """One node.

    Attributes:
        doors: `host:port` by name: `mqtt`, `mqtts`, `websocket`, `http`; those that there are.
        alike: digest by what it is of: `pipeline levels`, `model levels@1`.
    """

    node: str
    doors: dict[str, str] = {}
    alike: dict[str, str] = {}


def alike_of(config: NodeConfig, digests: Mapping[Path, str]) -> dict[str, str]:
    """Of a configuration: each pipeline with its sinks, and each model with its file. `digests`: of the models' files."""
    found = {f"pipeline {table.get('name')}": _digest(table) for table in config.pipeline_tables()}
    for model in config.models:
        table = msgspec.to_builtins(model) | {"file": digests.get(config.base / model.file, "")}
        found[f"model {model.name}@{model.version}"] = _digest(table)
    return found


def said_by(others: Mapping[str, bytes]) -> dict[str, Said]:
    """By node, what can be read of what they say."""
    found = {}
    for key, data in others.items():
        if not key.startswith(PREFIX):
            continue
        try:
            said = msgspec.json.decode(data, type=Said)
        except msgspec.MsgspecError:
            continue  # of a later version
        found[said.node] = said
    return found


def differences(own: Said, others: Mapping[str, Said]) -> list[str]:
    """A sentence for each node that has something else than this one."""
    sentences = []
    for name, said in sorted(others.items()):
        if name == own.node:
            continue
        words = [
            _named("does not have", own.alike.keys() - said.alike.keys()),
            _named("has besides", said.alike.keys() - own.alike.keys()),
            _named("has another", {each for each in own.alike.keys() & said.alike.keys() if own.alike[each] != said.alike[each]}),
        ]
        if any(words):
            sentences.append(f"{name} {' and '.join(filter(None, words))}: give all nodes the same configuration")
    return sentences


def _named(verb: str, names: set[str]) -> str:
    shown = sorted(names)
    more = f" and {len(shown) - 5} more" if len(shown) > 5 else ""
    return f"{verb} {', '.join(shown[:5])}{more}" if names else ""


def _digest(table: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(table, order="deterministic")).hexdigest()[:16]
