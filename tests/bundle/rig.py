"""A small project on disk, and keys: what bundles are made of."""

from pathlib import Path
from typing import Any

from skerry.bundle import BundleFile, Project, build_bundle, sign_manifest
from skerry.inference import ModelConfig
from skerry.trust import SigningKey

PIPELINE: dict[str, Any] = {"name": "p", "source": {"topic": "devices/+/x", "values": ["a"]}, "model": "m"}


def project(folder: Path, content: bytes = b"model one", version: str = "2", **more: Any) -> Project:
    """One pipeline on the model `m`, of which there are two versions."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "old.onnx").write_bytes(b"an older model")
    (folder / "m.onnx").write_bytes(content)
    given: dict[str, Any] = {
        "pipelines": [PIPELINE],
        "connectors": [],
        "models": [ModelConfig("m", "old.onnx", "1"), ModelConfig("m", "m.onnx", version, labels=("no", "yes"))],
        "base": folder,
        **more,
    }
    return Project(**given)


def built(folder: Path, content: bytes = b"model one", name: str = "plant", **given: Any) -> BundleFile:
    """A bundle file of that project, not signed."""
    out = folder / f"{name}.bundle"
    build_bundle(project(folder / "project", content, **given), out)
    return BundleFile(out)


def signed(file: BundleFile, key: SigningKey) -> BundleFile:
    """The same file with one signature more."""
    file.signed(sign_manifest(file.data, key, file.signatures))
    return BundleFile(file.path)
