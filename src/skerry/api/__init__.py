"""The management API over HTTP: health, metrics, status, pipelines, events, devices, configuration."""

from typing import TYPE_CHECKING

from skerry.api.config import ApiConfig
from skerry.core.lazy import lazy

if TYPE_CHECKING:
    from skerry.api.service import Api
    from skerry.api.tokens import TokenStore
    from skerry.api.view import NodeView

__getattr__ = lazy(
    __name__,
    {
        "Api": "service",
        "NodeView": "view",
        "TokenStore": "tokens",
    },
)

__all__ = [
    "Api", "ApiConfig", "NodeView", "TokenStore",
]  # fmt: skip
