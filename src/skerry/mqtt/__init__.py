"""MQTT: a client for any 3.1.1 broker, and a publisher for the node's own."""

from typing import TYPE_CHECKING

from skerry.core.lazy import lazy
from skerry.mqtt.config import LastWill, MqttConfig
from skerry.mqtt.publisher import Publisher

if TYPE_CHECKING:
    from skerry.mqtt.client import MqttClient
    from skerry.mqtt.subscription import Message, Subscription

__getattr__ = lazy(__name__, {"Message": "subscription", "MqttClient": "client", "Subscription": "subscription"})

__all__ = ["LastWill", "Message", "MqttClient", "MqttConfig", "Publisher", "Subscription"]
