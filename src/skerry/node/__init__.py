"""One node: all rooms wired together, run, watched and ended."""

from typing import TYPE_CHECKING

from skerry.core.lazy import lazy

if TYPE_CHECKING:
    from skerry.node.backup import COPIES, RESTORING
    from skerry.node.books import sum_books
    from skerry.node.bundle_library import Bundle, project_of
    from skerry.node.check import check_pipelines, offline_test
    from skerry.node.cluster import join_site
    from skerry.node.doctor import Finding, examine, failed
    from skerry.node.library import Pipeline
    from skerry.node.life import Node
    from skerry.node.process import serve
    from skerry.node.tls import make_certificates, site_authority
    from skerry.node.witness import witness

__getattr__ = lazy(
    __name__,
    {
        "Bundle": "bundle_library",
        "COPIES": "backup",
        "Finding": "doctor",
        "Node": "life",
        "Pipeline": "library",
        "RESTORING": "backup",
        "check_pipelines": "check",
        "examine": "doctor",
        "failed": "doctor",
        "join_site": "cluster",
        "make_certificates": "tls",
        "offline_test": "check",
        "project_of": "bundle_library",
        "serve": "process",
        "site_authority": "tls",
        "sum_books": "books",
        "witness": "witness",
    },
)

__all__ = [
    "COPIES", "RESTORING", "Bundle", "Finding", "Node", "Pipeline", "check_pipelines", "examine", "failed", "join_site",
    "make_certificates", "offline_test", "project_of", "serve", "site_authority", "sum_books", "witness",
]  # fmt: skip
