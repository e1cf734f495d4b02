"""ONNX models: sessions tuned for a small shared box, and the score and label of a row."""

from typing import TYPE_CHECKING

from skerry.core.lazy import lazy
from skerry.inference.catalogue import ModelConfig, Models

if TYPE_CHECKING:
    from skerry.inference.model import Model, load_model

__getattr__ = lazy(
    __name__,
    {
        "Model": "model",
        "load_model": "model",
    },
)

__all__ = [
    "Model", "ModelConfig", "Models", "load_model",
]  # fmt: skip
