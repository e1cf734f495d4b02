"""The errors that every public call raises, by what the caller has to do about them."""

from skerry.core.errors import (
    ConfigError,
    CorruptError,
    FencedError,
    InsufficientResources,
    OverloadedError,
    RejectedError,
    SkerryError,
    StoreFull,
    UnavailableError,
)

__all__ = [
    "ConfigError", "CorruptError", "FencedError", "InsufficientResources", "OverloadedError", "RejectedError", "SkerryError",
    "StoreFull", "UnavailableError",
]  # fmt: skip
