"""The management API over HTTP: health, metrics, status, pipelines, events, devices, configuration."""

from skerry.api.config import ApiConfig
from skerry.api.service import Api
from skerry.api.view import NodeView

__all__ = ["Api", "ApiConfig", "NodeView"]
