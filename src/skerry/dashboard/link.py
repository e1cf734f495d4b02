"""The agent's side of the dashboard: one child that is told where the API is, and its reports."""

from pathlib import Path

from skerry.core import log
from skerry.core.clock import Clock
from skerry.dashboard.protocol import Assignment, Report
from skerry.runtime import Child, Confinement, ReportingChild, Role

ROLE = Role("dashboard", "skerry.dashboard", 384 * 1024 * 1024, nice=8)
_log = log.get("dashboard")


class DashboardProcess(ReportingChild[Assignment, Report]):
    """The dashboard as the agent sees it."""

    stall_s = 60.0

    def __init__(self, run_dir: Path, clock: Clock, confinement: Confinement | None = None) -> None:
        super().__init__(ROLE, Report, run_dir, clock, _log, confinement)
        self._told: Child | None = None

    def heard(self, report: Report) -> None:
        """Where the page is goes into the log, once a child."""
        if report.url and self._told is not self.child:
            self._told = self.child
            _log.info(report.sentence)
