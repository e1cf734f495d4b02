"""A bundle as a library: built of a project, signed, verified, and applied to a node."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from skerry.bundle import (
    NONE,
    BundleFile,
    Project,
    apply_bundle,
    build_bundle,
    fingerprint,
    read_private,
    read_trusted,
    send_bundle,
    sign_manifest,
    signer_of,
    signers,
    summary,
)
from skerry.config import NodeConfig, load, socket_path
from skerry.http import Client


class Bundle:
    """A bundle file: models, pipelines and connectors of a project, signed by who answers for them."""

    def __init__(self, path: str | Path) -> None:
        """Open one. Raises `RejectedError`: it is no bundle, or of a newer format; `CorruptError`."""
        self._file = BundleFile(Path(path))

    @classmethod
    def build(
        cls, config: str | Path | NodeConfig, out: str | Path, *, name: str = "", version: str = "1", needs: str = ""
    ) -> "Bundle":
        """Write an unsigned bundle of a project's skerry.toml; the same project gives the same bytes.

        Args:
            name: that of the file where empty.
            needs: the least version of skerry that may run it; this one where empty.

        Raises `ConfigError`, `RejectedError`; then nothing is written."""
        found = config if isinstance(config, NodeConfig) else load(Path(config), bundle=NONE)
        build_bundle(project_of(found), Path(out), name, version, needs)
        return cls(out)

    @property
    def path(self) -> Path:
        return self._file.path

    @property
    def id(self) -> str:
        """32 hexadecimal digits: the digest of all that is in it."""
        return self._file.id

    @property
    def facts(self) -> dict[str, Any]:
        """`{id, name, version, needs, models, pipelines, connectors, signers}`; who signed it need not be trusted."""
        file = self._file
        return {**summary(file.manifest, file.id), "signers": signers(file.data, file.signatures)}

    def sign(self, key: str | Path) -> str:
        """Sign it with an Ed25519 private key (a PEM file), beside those who did already: the fingerprint of the key.

        Raises `RejectedError`, `CorruptError`: what is not whole is not signed."""
        private = read_private(Path(key))
        self._file.signed(sign_manifest(self._file.data, private, self._file.signatures))
        return fingerprint(private.public)

    def verify(self, trusted: Sequence[str | Path]) -> str:
        """Read it to its end and check every digest: the fingerprint of the trusted key (PEM files) that signed it.

        Raises `RejectedError`: none did; `CorruptError`; `ConfigError`: a file holds no key."""
        who = signer_of(self._file.data, self._file.signatures, read_trusted(trusted, Path(), "trusted"))
        self._file.check()
        return who

    def apply(self, config: str | Path | Client, *, probation: str = "", dead_letters: int = 0) -> dict[str, Any]:
        """Give it to a running node and wait until it is kept: `{at, id, bundle, what, reason}`.

        Args:
            config: the skerry.toml of a node on this computer, or a client of another one.
            probation: how long the node watches it, such as `"30s"`.
            dead_letters: how many further dead letters are let pass meanwhile.

        Raises `RejectedError` with the reason where it is refused or rolled back; then what ran before goes on."""
        own = None if isinstance(config, Client) else Client(socket_path(load(Path(config), with_models=False)), 60.0)
        client = config if isinstance(config, Client) else own
        assert client is not None
        try:
            row = send_bundle(client, self.path, local=own is not None)
            return apply_bundle(client, row["id"], probation, dead_letters)
        finally:
            if own is not None:
                own.close()


def project_of(config: NodeConfig) -> Project:
    """What a bundle is built of, out of a configuration that no bundle is laid over."""
    values = config.tables.values
    return Project(values.get("pipelines", []), values.get("connectors", []), config.catalogue().configs(), config.base)
