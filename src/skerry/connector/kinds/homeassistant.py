"""Home Assistant's MQTT discovery: each key of a pipeline is a device there, with its score and whether it is in alarm.

Protocol: the MQTT integration of Home Assistant, "MQTT discovery": a retained configuration on
`<prefix>/<component>/<node_id>/<object_id>/config`, an empty one removes the entity.
"""

import asyncio
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from skerry.connector.contract import Outgoing, Place
from skerry.connector.kinds.mqtt import ACKNOWLEDGED_S, LinkSettings, MqttPublisher
from skerry.core.errors import ConfigError
from skerry.mqtt import MqttClient

MOST_DEVICES = 2000
"""Keys that become devices; the events of further ones are counted."""
LOOK_S = 1.5
_OTHER = re.compile(r"[^A-Za-z0-9_-]")
Json = dict[str, Any]


class HomeAssistantSettings(LinkSettings, frozen=True, forbid_unknown_fields=True):
    """Which broker Home Assistant listens on, and under which prefix. `remove`: take all entities away and send nothing."""

    prefix: str = "homeassistant"
    pipelines: tuple[str, ...] = ()
    remove: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.prefix or any(mark in self.prefix for mark in "+#{} \0") or self.prefix.startswith(("$", "/")):
            raise ConfigError(f"{self.prefix!r} is no topic", where="prefix", allowed="such as homeassistant")


class HomeAssistant(MqttPublisher):
    """Publishes entities and their states. What is there already is asked of the broker, so nothing of it has to be kept here."""

    Settings = HomeAssistantSettings

    def __init__(self, settings: HomeAssistantSettings, place: Place) -> None:
        super().__init__(settings, place)
        self.settings: HomeAssistantSettings = settings
        self._told: set[tuple[str, str]] = set()

    @property
    def node_id(self) -> str:
        return f"skerry_{part(self.place.node)}"

    async def begin(self, client: MqttClient) -> None:
        """Remove what is there of pipelines that are not shown any more."""
        self._told.clear()
        for topic in await self._there(client):
            if self.settings.remove or not self._shown(topic):
                await client.publish(topic, b"", 1, True, timeout=ACKNOWLEDGED_S)

    async def _there(self, client: MqttClient) -> list[str]:
        """Configurations of this node that the broker has kept."""
        found: list[str] = []
        async with client.subscribe(f"{self.settings.prefix}/+/{self.node_id}/+/config", 1) as messages:
            try:
                while True:
                    async with asyncio.timeout(LOOK_S):
                        message = await anext(messages)
                    await message.ack()
                    if message.payload:
                        found.append(message.topic)
            except TimeoutError:
                await messages.unsubscribe()
        return found

    def _shown(self, topic: str) -> bool:
        object_id = topic.split("/")[-2]
        return not self.settings.pipelines or any(object_id.startswith(f"{part(each)}__") for each in self.settings.pipelines)

    async def send(self, batch: Sequence[Outgoing]) -> None:
        client = await self.connected()
        if self.settings.remove:
            self.drop("entities are removed", len(batch))
            return
        sending = []
        for each in batch:
            known = (each.pipeline, each.key)
            if known not in self._told:
                if len(self._told) >= MOST_DEVICES:
                    self.drop(f"more than {MOST_DEVICES} devices")
                    continue
                # the entities before their first state: Home Assistant reads what comes after it has subscribed
                await self.until_sent(self._publish(client, topic, config) for topic, config in self.configs(*known))
                self._told.add(known)
            sending.append(client.publish(self.state_topic(*known), each.payload, 1, True, timeout=ACKNOWLEDGED_S))
        await self.until_sent(sending)

    async def _publish(self, client: MqttClient, topic: str, config: Json) -> None:
        await client.publish(topic, msgspec.json.encode(config), 1, True, timeout=ACKNOWLEDGED_S)

    def state_topic(self, pipeline: str, key: str) -> str:
        """Where the last event of a key is, retained, as it is."""
        return f"{self.node_id}/{part(pipeline)}/{part(key)}/event"

    def configs(self, pipeline: str, key: str) -> list[tuple[str, Json]]:
        """The entities of a key: topic and configuration."""
        state = self.state_topic(pipeline, key)
        device = {
            "identifiers": [f"{self.node_id}_{part(pipeline)}__{part(key)}"],
            "name": f"{key} {pipeline}",
            "manufacturer": "skerry",
            "model": pipeline,
            "suggested_area": self.place.site,
        }
        entities: list[tuple[str, str, Json]] = [
            ("sensor", "score", {"value_template": "{{ value_json.score }}", "state_class": "measurement"}),
            ("sensor", "label", {"value_template": "{{ value_json.label }}"}),
            ("sensor", "time", {"value_template": "{{ value_json.end }}", "device_class": "timestamp"}),
            ("binary_sensor", "alarm", {"value_template": "{{ 'ON' if value_json.state == 'firing' else 'OFF' }}",
                                        "device_class": "problem", "json_attributes_topic": state}),
        ]  # fmt: skip
        found = []
        for component, name, more in entities:
            object_id = f"{part(pipeline)}__{part(key)}__{name}"
            config = {"name": name, "unique_id": f"{self.node_id}_{object_id}", "state_topic": state, "device": device, **more}
            found.append((f"{self.settings.prefix}/{component}/{self.node_id}/{object_id}/config", config))
        return found


def part(text: str) -> str:
    """A text as Home Assistant takes it in ids: other characters as `_` and their number, so that two stay two."""
    return _OTHER.sub(lambda match: f"_{ord(match[0]):x}", text)
