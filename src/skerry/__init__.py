"""skerry runs ONNX models on live MQTT device data and keeps working when the link, the power or a process goes."""

from typing import TYPE_CHECKING

from skerry import errors
from skerry.core.lazy import lazy

if TYPE_CHECKING:
    from skerry.mqtt import MqttClient, MqttConfig
    from skerry.node import Node, Pipeline

__getattr__ = lazy(__name__, {"MqttClient": "mqtt", "MqttConfig": "mqtt", "Node": "node", "Pipeline": "node"})

__all__ = ["MqttClient", "MqttConfig", "Node", "Pipeline", "errors"]
