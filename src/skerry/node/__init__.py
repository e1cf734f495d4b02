"""One node: all rooms wired together, run, watched and ended."""

from typing import TYPE_CHECKING

from skerry.core.lazy import lazy

if TYPE_CHECKING:
    from skerry.node.check import check_pipelines, offline_test
    from skerry.node.library import Pipeline
    from skerry.node.life import Node, serve
    from skerry.node.view import sum_books

__getattr__ = lazy(
    __name__,
    {
        "Node": "life",
        "Pipeline": "library",
        "check_pipelines": "check",
        "offline_test": "check",
        "serve": "life",
        "sum_books": "view",
    },
)

__all__ = ["Node", "Pipeline", "check_pipelines", "offline_test", "serve", "sum_books"]
