"""One node: all rooms wired together, run, watched and ended."""

from skerry.node.check import check_pipelines, offline_test
from skerry.node.library import Pipeline
from skerry.node.life import Node, serve
from skerry.node.view import sum_books

__all__ = ["Node", "Pipeline", "check_pipelines", "offline_test", "serve", "sum_books"]
