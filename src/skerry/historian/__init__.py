"""The historian process: keeps samples and events in the history beside the pipelines; the agent's side of it; and who reads it."""

from typing import TYPE_CHECKING

from skerry.core.lazy import lazy
from skerry.historian.link import Historian
from skerry.historian.protocol import MOST_POINTS, Answer, Assignment, Keeping, Place, Question, Report

if TYPE_CHECKING:
    from skerry.historian.export import text_times, text_values, write_csv, write_parquet
    from skerry.historian.history import History, Moment, moment
    from skerry.historian.sources import PAGE, Asked, DirectorySource, NodeSource, Points, Source

__getattr__ = lazy(
    __name__,
    {
        "Asked": "sources",
        "DirectorySource": "sources",
        "History": "history",
        "Moment": "history",
        "NodeSource": "sources",
        "PAGE": "sources",
        "Points": "sources",
        "Source": "sources",
        "moment": "history",
        "text_times": "export",
        "text_values": "export",
        "write_csv": "export",
        "write_parquet": "export",
    },
)

__all__ = [
    "MOST_POINTS", "PAGE", "Answer", "Asked", "Assignment", "DirectorySource", "Historian", "History", "Keeping", "Moment",
    "NodeSource", "Place", "Points", "Question", "Report", "Source", "moment", "text_times", "text_values", "write_csv",
    "write_parquet",
]  # fmt: skip
