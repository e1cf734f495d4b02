"""The worker process: runs pipelines over the log, checkpoints them, reports to the agent that started it."""

from skerry.worker.merge import add_models, add_shadows, merge_reports
from skerry.worker.plan import WorkerPlan
from skerry.worker.pool import WorkerPool
from skerry.worker.protocol import Assignment, ModelReport, PipelineReport, Report, ShadowReport
from skerry.worker.sharing import partitions_of
from skerry.worker.trace import Doing, read_trace
from skerry.worker.tracing import ask_for_trace

__all__ = [
    "Assignment", "Doing", "ModelReport", "PipelineReport", "Report", "ShadowReport", "WorkerPlan", "WorkerPool", "add_models",
    "add_shadows", "ask_for_trace", "merge_reports", "partitions_of", "read_trace",
]  # fmt: skip
