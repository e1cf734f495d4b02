"""Sparkplug B over someone else's broker: births, data and deaths become messages, and missed births are asked for."""

from collections.abc import Sequence

import msgspec

from skerry.connector.contract import Message, Place
from skerry.connector.kinds.mqtt import LinkSettings, MqttReader
from skerry.connector.mapping import check_template, fill
from skerry.connector.sparkplug.nodes import NAMESPACE, Nodes, Row
from skerry.connector.sparkplug.payload import rebirth
from skerry.core.clock import SystemClock
from skerry.core.errors import ConfigError, SkerryError
from skerry.mqtt import Message as Arrived

FIELDS = ("group", "edge", "device")


class SparkplugSettings(LinkSettings, frozen=True, forbid_unknown_fields=True):
    """Which groups, and what topics their devices have here; `{device}` of a node itself is the node's name.

    Attributes:
        status: where `{"online": …}` goes at births and deaths; empty: nowhere.
        rebirth: whether nodes are asked for their birth where one was missed.
    """

    groups: tuple[str, ...] = ("+",)
    topic: str = "devices/{device}/sparkplug"
    status: str = "devices/{device}/status"
    rebirth: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_template(self.topic, "topic", FIELDS)
        if self.status:
            check_template(self.status, "status", FIELDS)
        if not self.groups or any(not each or (each != "+" and set("+#/") & set(each)) for each in self.groups):
            raise ConfigError("say which groups", where="groups", allowed='names, or ["+"] for all')


class SparkplugIn(MqttReader):
    """Reads the messages of a host application: it knows aliases from births, and asks for those that it missed."""

    Settings = SparkplugSettings

    def __init__(self, settings: SparkplugSettings, place: Place) -> None:
        super().__init__(settings, place)
        self.settings: SparkplugSettings = settings
        self._nodes = Nodes()
        self._clock = SystemClock()

    def filters(self) -> list[str]:
        return [f"{NAMESPACE}/{group}/#" for group in dict.fromkeys(self.settings.groups)]

    async def begin(self) -> None:
        """A new session has missed births: what is known of aliases may be wrong."""
        self._nodes = Nodes()

    async def messages(self, arrived: Arrived) -> Sequence[Message]:
        if arrived.topic.startswith(f"{NAMESPACE}/STATE/") or "/NCMD/" in arrived.topic or "/DCMD/" in arrived.topic:
            return ()
        outcome = self._nodes.take(arrived.topic, arrived.payload, self._clock.monotonic())
        for reason, count in outcome.refused.items():
            self.drop(reason, count)
        if outcome.ask and self.settings.rebirth:
            _, group, _, edge = arrived.topic.split("/")[:4]
            await self._ask(group, edge)
        found = [self._message(row) for row in outcome.rows]
        for *place, online in outcome.online if self.settings.status else ():
            topic = fill(self.settings.status, _named(*place))
            found.append(None if topic is None else Message(topic, msgspec.json.encode({"online": online})))
        return [each for each in found if each is not None]

    def _message(self, row: Row) -> Message | None:
        topic = fill(self.settings.topic, _named(row.group, row.edge, row.device))
        time = {} if row.timestamp is None else {"ts": row.timestamp}
        return None if topic is None else Message(topic, msgspec.json.encode({**time, **row.values}))

    async def _ask(self, group: str, edge: str) -> None:
        try:
            await self.publish(f"{NAMESPACE}/{group}/NCMD/{edge}", rebirth(self._clock.now() // 1000))
        except SkerryError:
            self.drop("a birth could not be asked for")


def _named(group: str, edge: str, device: str) -> dict[str, str]:
    return {"group": group, "edge": edge, "device": device or edge}
