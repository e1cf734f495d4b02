"""Bundles: models, pipelines and connectors as one signed file, and which of them a node runs."""

from typing import TYPE_CHECKING

from skerry.bundle.config import BundlesConfig
from skerry.bundle.overlay import BUNDLES, NONE, lay_over
from skerry.core.lazy import lazy

if TYPE_CHECKING:
    from skerry.bundle.archive import BundleFile
    from skerry.bundle.build import Project, build_bundle
    from skerry.bundle.config import check_probation
    from skerry.bundle.gates import Marks, Phase, Verdict, judge
    from skerry.bundle.manifest import Manifest, check_needs, summary
    from skerry.bundle.remote import apply_bundle, outcome, send_bundle
    from skerry.bundle.shelf import Shelf, State, Trial
    from skerry.bundle.signing import Signatures, fingerprint, read_private, read_trusted, sign_manifest, signer_of, signers

__getattr__ = lazy(
    __name__,
    {
        "BundleFile": "archive",
        "Manifest": "manifest",
        "Marks": "gates",
        "Phase": "gates",
        "Project": "build",
        "Shelf": "shelf",
        "Signatures": "signing",
        "State": "shelf",
        "Trial": "shelf",
        "Verdict": "gates",
        "apply_bundle": "remote",
        "build_bundle": "build",
        "check_needs": "manifest",
        "check_probation": "config",
        "fingerprint": "signing",
        "judge": "gates",
        "outcome": "remote",
        "read_private": "signing",
        "read_trusted": "signing",
        "send_bundle": "remote",
        "sign_manifest": "signing",
        "signer_of": "signing",
        "signers": "signing",
        "summary": "manifest",
    },
)

__all__ = [
    "BUNDLES", "NONE", "BundleFile", "BundlesConfig", "Manifest", "Marks", "Phase", "Project", "Shelf", "Signatures", "State",
    "Trial", "Verdict", "apply_bundle", "build_bundle", "check_needs", "check_probation", "fingerprint", "judge", "lay_over",
    "outcome", "read_private", "read_trusted", "send_bundle", "sign_manifest", "signer_of", "signers", "summary",
]  # fmt: skip
