"""Subscriptions at QoS 1 and 2: the server keeps one consumer of the log for each, offline sessions too, and has room for so many.

Pipelines read the log with a consumer of their own. So that no device can take the room of all, by many sessions with many
subscriptions, what it has beyond its share is ended, the newest first. That is told by what is subscribed to: by default a device
may subscribe to nothing but `commands/<id>/#`; who was given more is trusted with more.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from skerry.broker.jetstream import api
from skerry.broker.reader import LOG
from skerry.broker.wire import WireClient
from skerry.core.errors import RejectedError

SHARE = 256
"""Consumers of one device."""
AT_ONCE = 64
_COMMANDS = "$MQTT.msgs.commands."


def beyond_share(consumers: Iterable[Mapping[str, Any]], share: int = SHARE) -> dict[str, list[str]]:
    """The names of consumers that a device has too many, by device; `consumers`: as the server lists them. Pure."""
    found: dict[str, list[tuple[str, str]]] = {}
    for consumer in consumers:
        config = consumer.get("config", {})
        subject = str(config.get("filter_subject", ""))
        if config.get("durable_name") and subject.startswith(_COMMANDS):
            device = subject.removeprefix(_COMMANDS).partition(".")[0]
            found.setdefault(device, []).append((str(consumer.get("created", "")), str(consumer["name"])))
    return {device: [name for _, name in sorted(mine)[share:]] for device, mine in found.items() if len(mine) > share}


async def end_crowding(client: WireClient, share: int = SHARE) -> dict[str, int]:
    """End what is beyond a share; how many by device. Raises `UnavailableError`, `RejectedError`."""
    consumers: list[Mapping[str, Any]] = []
    while True:
        page = await api(client, f"CONSUMER.LIST.{LOG}", {"offset": len(consumers)})
        consumers += page.get("consumers") or []
        if not page.get("consumers") or len(consumers) >= int(page.get("total", 0)):
            break
    ended = beyond_share(consumers, share)
    for names in ended.values():
        for at in range(0, len(names), AT_ONCE):
            await asyncio.gather(*[_end(client, name) for name in names[at : at + AT_ONCE]])
    return {device: len(names) for device, names in ended.items()}


async def _end(client: WireClient, name: str) -> None:
    try:
        await api(client, f"CONSUMER.DELETE.{LOG}.{name}")
    except RejectedError:
        return  # its client has ended it
