"""The worker process: runs pipelines over the log, checkpoints them, reports to the agent that started it."""

from skerry.worker.protocol import Assignment, PipelineReport, Report
from skerry.worker.trace import Doing, read_trace

__all__ = ["Assignment", "Doing", "PipelineReport", "Report", "read_trace"]
