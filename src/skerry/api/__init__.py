"""The management API over HTTP: health, metrics, status, pipelines, events, devices, configuration."""

from typing import TYPE_CHECKING

from skerry.api.config import ApiConfig
from skerry.core.lazy import lazy

if TYPE_CHECKING:
    from skerry.api.service import Api
    from skerry.api.tokens import TokenStore
    from skerry.api.view import BundlesView, ClusterView, NodeView
    from skerry.api.witness import WitnessHandlers

__getattr__ = lazy(
    __name__,
    {
        "Api": "service",
        "BundlesView": "view",
        "ClusterView": "view",
        "NodeView": "view",
        "WitnessHandlers": "witness",
        "TokenStore": "tokens",
    },
)

__all__ = [
    "Api", "ApiConfig", "BundlesView", "ClusterView", "NodeView", "TokenStore", "WitnessHandlers",
]  # fmt: skip
