"""ONNX models: sessions tuned for a small shared box, and the score and label of a row."""

from skerry.inference.catalogue import ModelConfig, Models
from skerry.inference.model import Model, load_model

__all__ = ["Model", "ModelConfig", "Models", "load_model"]
