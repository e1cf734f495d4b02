"""skerry runs ONNX models on live MQTT device data and keeps working when the link, the power or a process goes."""

from typing import TYPE_CHECKING

from skerry import errors
from skerry.core.lazy import lazy

if TYPE_CHECKING:
    from skerry.cluster import ClusterConfig, ClusterManager, EdgeNode, NodeStatus
    from skerry.device import DeviceAuthenticator, DeviceClient, DeviceConfig
    from skerry.historian import History
    from skerry.inference import EdgeInference, SyncInference
    from skerry.mqtt import MqttClient, MqttConfig
    from skerry.node import Bundle, Node, Pipeline
    from skerry.runtime import EdgeRuntime, MemoryPool, ResourceManager, ResourceUsage, RuntimeConfig
    from skerry.store import KeyValueStore, StorageConfig, SyncKeyValueStore
    from skerry.uplink import Uplink, UplinkConfig

__getattr__ = lazy(
    __name__,
    {
        "Bundle": "node",
        "ClusterConfig": "cluster",
        "ClusterManager": "cluster",
        "DeviceAuthenticator": "device",
        "DeviceClient": "device",
        "DeviceConfig": "device",
        "EdgeNode": "cluster",
        "EdgeInference": "inference",
        "EdgeRuntime": "runtime",
        "History": "historian",
        "KeyValueStore": "store",
        "MemoryPool": "runtime",
        "MqttClient": "mqtt",
        "MqttConfig": "mqtt",
        "Node": "node",
        "NodeStatus": "cluster",
        "Pipeline": "node",
        "ResourceManager": "runtime",
        "ResourceUsage": "runtime",
        "RuntimeConfig": "runtime",
        "StorageConfig": "store",
        "SyncInference": "inference",
        "SyncKeyValueStore": "store",
        "Uplink": "uplink",
        "UplinkConfig": "uplink",
    },
)

__all__ = [
    "Bundle", "ClusterConfig", "ClusterManager", "DeviceAuthenticator", "DeviceClient", "DeviceConfig", "EdgeInference",
    "EdgeNode", "EdgeRuntime", "History", "KeyValueStore", "MemoryPool", "MqttClient", "MqttConfig", "Node", "NodeStatus",
    "Pipeline",
    "ResourceManager", "ResourceUsage", "RuntimeConfig", "StorageConfig", "SyncInference", "SyncKeyValueStore", "Uplink",
    "UplinkConfig", "errors",
]  # fmt: skip
