"""The web page: a process of its own that asks the API as any other client does, and nothing else of the node."""

from typing import TYPE_CHECKING

from skerry.core.lazy import lazy
from skerry.dashboard.config import DashboardConfig, installed

if TYPE_CHECKING:
    from skerry.dashboard.link import DashboardProcess
    from skerry.dashboard.protocol import Assignment, Report

__getattr__ = lazy(__name__, {"Assignment": "protocol", "DashboardProcess": "link", "Report": "protocol"})

__all__ = ["Assignment", "DashboardConfig", "DashboardProcess", "Report", "installed"]
