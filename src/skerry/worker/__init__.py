"""The worker process: runs pipelines over the log, checkpoints them, reports to the agent that started it."""

from skerry.worker.merge import merge_reports
from skerry.worker.pool import WorkerPlan, WorkerPool
from skerry.worker.protocol import Assignment, PipelineReport, Report
from skerry.worker.trace import Doing, read_trace

__all__ = ["Assignment", "Doing", "PipelineReport", "Report", "WorkerPlan", "WorkerPool", "merge_reports", "read_trace"]
