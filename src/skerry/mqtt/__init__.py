"""The MQTT client for any 3.1.1 broker."""

from skerry.mqtt.client import MqttClient
from skerry.mqtt.config import LastWill, MqttConfig
from skerry.mqtt.subscription import Message, Subscription

__all__ = ["LastWill", "Message", "MqttClient", "MqttConfig", "Subscription"]
