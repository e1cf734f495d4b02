"""The model server: a child process that answers the Open Inference Protocol v2, and the agent's side of it."""

from skerry.serving.frames import Answer, Ask
from skerry.serving.link import ModelServer, ServingPlan

__all__ = ["Answer", "Ask", "ModelServer", "ServingPlan"]
