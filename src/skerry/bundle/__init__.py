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
    from skerry.bundle.rollout import Rollout, Word, advance, duty, taken_back
    from skerry.bundle.shelf import CUT_SHORT, Shelf, State, Trial
    from skerry.bundle.signing import Signatures, fingerprint, read_private, read_trusted, sign_manifest, signer_of, signers

__getattr__ = lazy(
    __name__,
    {
        "BundleFile": "archive",
        "CUT_SHORT": "shelf",
        "Manifest": "manifest",
        "Marks": "gates",
        "Phase": "gates",
        "Project": "build",
        "Rollout": "rollout",
        "Shelf": "shelf",
        "Signatures": "signing",
        "State": "shelf",
        "Trial": "shelf",
        "Verdict": "gates",
        "Word": "rollout",
        "advance": "rollout",
        "apply_bundle": "remote",
        "build_bundle": "build",
        "check_needs": "manifest",
        "check_probation": "config",
        "duty": "rollout",
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
        "taken_back": "rollout",
    },
)

__all__ = [
    "BUNDLES", "CUT_SHORT", "NONE", "BundleFile", "BundlesConfig", "Manifest", "Marks", "Phase", "Project", "Rollout",
    "Shelf", "Signatures", "State", "Trial", "Verdict", "Word", "advance", "apply_bundle", "build_bundle", "check_needs",
    "check_probation", "duty", "fingerprint", "judge", "lay_over", "outcome", "read_private", "read_trusted", "send_bundle",
    "sign_manifest", "signer_of", "signers", "summary", "taken_back",
]  # fmt: skip
