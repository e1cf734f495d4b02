"""A bridge to someone else's MQTT broker, in and out, at least once both ways.

No loop: no `in` may read what an `out` writes on the same broker (checked when the configuration is read); and a message that came
in by a connector carries its name in the log, so that none goes out again to the broker it came from.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec

from skerry.connector.contract import MOST_MESSAGES, Batch, Connector, Message, Outgoing, Place
from skerry.connector.credentials import check_url, read_secret
from skerry.connector.mapping import TopicMap, check_template, fill
from skerry.core.errors import ConfigError, UnavailableError
from skerry.core.service import cancel_and_wait
from skerry.mqtt import Message as Arrived
from skerry.mqtt import MqttClient, MqttConfig
from skerry.pipeline import filter_matches, may_match

SCHEMES = ("mqtt", "mqtts", "ws", "wss")
CONNECT_S, ACKNOWLEDGED_S = 5.0, 30.0
LOOK_S, GONE_S = 0.25, 1.0
EVENT_FIELDS = ("node", "site", "pipeline", "key", "state")
MOST_TOPICS = 100


class LinkSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to get to a broker.

    Attributes:
        client_id: names the session that the broker keeps; by default `skerry-<node>-<connector>`.
        ca, cert, key: PEM files. keep_alive: seconds.
    """

    url: str
    client_id: str = ""
    username: str = ""
    password_file: str = ""
    ca: str = ""
    cert: str = ""
    key: str = ""
    keep_alive: int = 30

    def __post_init__(self) -> None:
        check_url(self.url, SCHEMES)
        if self.password_file and not self.username:
            raise ConfigError("a password needs a username", where="username")
        if not 1 <= self.keep_alive <= 65_535:
            raise ConfigError(f"{self.keep_alive} is out of range", where="keep_alive", allowed="1 to 65535")


class MqttInSettings(LinkSettings, frozen=True, forbid_unknown_fields=True):
    """What to subscribe to, and what it becomes here. `retained`: take also what was there before the subscription."""

    topics: tuple[TopicMap, ...] = ()
    qos: int = 1
    retained: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= len(self.topics) <= MOST_TOPICS:
            raise ConfigError("say what to read", where="topics", allowed='[{ from = "a/+", to = "devices/{2}/state" }], 1 to 100')
        if self.qos not in (0, 1):
            raise ConfigError(f"{self.qos} cannot be received", where="qos", allowed="0, 1")


class MqttOutSettings(LinkSettings, frozen=True, forbid_unknown_fields=True):
    """What to publish there: messages of the log by `topics`, or else events, each on the topic that `events` makes of it."""

    topics: tuple[TopicMap, ...] = ()
    events: str = "skerry/{node}/{pipeline}/{key}"
    pipelines: tuple[str, ...] = ()
    qos: int = 1
    retain: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_template(self.events, "events", EVENT_FIELDS)
        if self.topics and self.pipelines:
            raise ConfigError("topics of the log belong to no pipeline", where="pipelines", mend="leave one of both out")
        if len(self.topics) > MOST_TOPICS:
            raise ConfigError(f"{len(self.topics)} are too many", where="topics", allowed=f"at most {MOST_TOPICS}")
        if self.qos not in (0, 1, 2):
            raise ConfigError(f"{self.qos} is no quality of service", where="qos", allowed="0, 1, 2")


def overlap(reads: dict[str, Any], writes: dict[str, Any]) -> str:
    """A topic filter of `reads` that may match what `writes` publishes, both on the same broker; empty: none."""
    if _broker_of(reads.get("url", "")) != _broker_of(writes.get("url", "")):
        return ""
    topics = writes.get("topics") or ()
    templates = [each.get("to") or each["from"] for each in topics] or [writes.get("events", MqttOutSettings("mqtt://x").events)]
    for each in reads.get("topics", ()):
        if any(may_match(each["from"], template.replace("{rest}", "#")) for template in templates):
            return str(each["from"])
    return ""


def widest(filters: Sequence[str]) -> list[str]:
    """The filters that no other one covers: a broker may send a message once for each subscription that matches it."""
    once = list(dict.fromkeys(filters))
    return [each for each in once if not any(other != each and covers(other, each) for other in once)]


def covers(wide: str, narrow: str) -> bool:
    """Whether all that one filter matches is matched by another."""
    return filter_matches(wide, narrow) and (wide.endswith("#") or not narrow.endswith("#"))


def _broker_of(url: str) -> tuple[str | None, int | None]:
    parts = urlsplit(url)
    return parts.hostname, parts.port


def client_of(settings: LinkSettings, place: Place, **more: Any) -> MqttClient:
    """A client, not yet connected. Raises `ConfigError` for a secret that cannot be read."""
    base = place.base
    return MqttClient(
        MqttConfig(
            settings.url,
            client_id=settings.client_id or f"skerry-{place.node}-{place.name}",
            username=settings.username or None,
            password=read_secret(base, settings.password_file) or None,
            keep_alive=settings.keep_alive,
            connect_timeout=CONNECT_S,
            ca=str(base / settings.ca) if settings.ca else "",
            cert=str(base / settings.cert) if settings.cert else "",
            key=str(base / settings.key) if settings.key else "",
            **more,
        )
    )


async def reach(settings: LinkSettings, place: Place) -> str:
    """One sentence: it can be connected to. A session of its own, so that the one at work is not thrown out."""
    own = msgspec.structs.replace(settings, client_id=f"skerry-test-{place.node}-{place.name}")
    async with client_of(own, place, clean_session=True) as client:
        return client.status


class MqttReader(Connector):
    """Reads topics of a broker; what is stored here is acknowledged there."""

    qos = 1

    def __init__(self, settings: LinkSettings, place: Place) -> None:
        super().__init__(settings, place)
        self._client: MqttClient | None = None

    def filters(self) -> list[str]:
        """What to subscribe to."""
        raise NotImplementedError

    async def begin(self) -> None:
        """What is done first on a new connection."""

    async def messages(self, arrived: Arrived) -> Sequence[Message]:
        """What becomes of a message that came."""
        raise NotImplementedError

    async def publish(self, topic: str, payload: bytes) -> None:
        """Answer something, at QoS 0."""
        if self._client is not None:
            await self._client.publish(topic, payload, 0, timeout=CONNECT_S)

    @property
    def trouble(self) -> str:
        """Why nothing comes: the client connects again by itself and says how it stands."""
        client = self._client
        return "" if client is None or client.connected else client.status

    @trouble.setter
    def trouble(self, _: str) -> None:
        """What the client says counts."""

    async def read(self, cursor: bytes) -> AsyncIterator[Batch]:
        """The session at the broker is the cursor: what was not acknowledged comes again."""
        queue: asyncio.Queue[Arrived] = asyncio.Queue(MOST_MESSAGES)
        pumps: list[asyncio.Task[None]] = []
        async with client_of(self.settings, self.place, clean_session=False) as client:
            self._client = client
            try:
                await self.begin()
                filters = widest(self.filters())
                pumps = [asyncio.create_task(self._pump(client, each, filters, queue)) for each in filters]
                while True:
                    arrived = await _next(queue, pumps)
                    yield Batch([made for each in arrived for made in await self.messages(each)])
                    for each in arrived:
                        await each.ack()
            finally:
                self._client = None
                await cancel_and_wait(*pumps)

    async def _pump(self, client: MqttClient, topic: str, filters: list[str], queue: "asyncio.Queue[Arrived]") -> None:
        """One subscription into the queue; what an earlier filter matches too comes by that one."""
        earlier = filters[: filters.index(topic)]
        async with client.subscribe(topic, self.qos) as messages:
            async for message in messages:
                if any(filter_matches(each, message.topic) for each in earlier):
                    await message.ack()
                else:
                    await queue.put(message)

    async def test(self) -> str:
        return await reach(self.settings, self.place)


class MqttIn(MqttReader):
    """Reads topics of a broker, and gives each the topic that it has here."""

    Settings = MqttInSettings

    def __init__(self, settings: MqttInSettings, place: Place) -> None:
        super().__init__(settings, place)
        self.settings: MqttInSettings = settings
        self.qos = settings.qos

    def filters(self) -> list[str]:
        return [each.source for each in self.settings.topics]

    async def messages(self, arrived: Arrived) -> Sequence[Message]:
        if arrived.retained and not self.settings.retained:
            return ()
        for each in self.settings.topics:
            topic = each.apply(arrived.topic)
            if topic is not None:
                return (Message(topic, arrived.payload),)
        self.drop("no topic for it")
        return ()


async def _next(queue: "asyncio.Queue[Arrived]", pumps: Sequence["asyncio.Task[None]"]) -> list[Arrived]:
    """What has come, at least one; raises what ended a subscription."""
    first = asyncio.ensure_future(queue.get())
    try:
        await asyncio.wait([first, *pumps], return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            if pump.done():
                pump.result()
        found = [await first]
    finally:
        first.cancel()
    while len(found) < MOST_MESSAGES and not queue.empty():
        found.append(queue.get_nowait())
    return found


async def _unless_gone(client: MqttClient, sending: "asyncio.Future[Any]") -> None:
    """Until all is acknowledged. Raises `UnavailableError` where there has been no connection for a while: it is said at once."""
    gone = 0.0
    try:
        while not sending.done():
            await asyncio.wait([sending], timeout=LOOK_S)
            gone = 0.0 if client.connected else gone + LOOK_S
            if gone > GONE_S and not sending.done():
                raise UnavailableError(client.status)
        sending.result()
    finally:
        sending.cancel()


class MqttPublisher(Connector):
    """A connection to a broker to publish on, made when it is first needed."""

    def __init__(self, settings: LinkSettings, place: Place) -> None:
        super().__init__(settings, place)
        self._client: MqttClient | None = None

    async def connected(self) -> MqttClient:
        """The client. Raises `UnavailableError` where there is no connection within some seconds."""
        if self._client is None:
            client = await client_of(self.settings, self.place, clean_session=True).__aenter__()
            try:
                await self.begin(client)
            except BaseException:
                await client.close()
                raise
            self._client = client
        return self._client

    async def begin(self, client: MqttClient) -> None:
        """What is done first on a new connection."""

    async def until_sent(self, sending: Iterable[Coroutine[Any, Any, None]]) -> None:
        """Until the broker has acknowledged all; it is said at once where it has gone."""
        assert self._client is not None
        await _unless_gone(self._client, asyncio.gather(*sending))

    async def test(self) -> str:
        return await reach(self.settings, self.place)

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()


class MqttOut(MqttPublisher):
    """Publishes on a broker; done is what the broker has acknowledged."""

    Settings = MqttOutSettings

    def __init__(self, settings: MqttOutSettings, place: Place) -> None:
        super().__init__(settings, place)
        self.settings: MqttOutSettings = settings

    async def send(self, batch: Sequence[Outgoing]) -> None:
        client = await self.connected()
        sending = []
        for each in batch:
            topic = self.topic_of(each)
            if topic is None:
                self.drop("came from there" if each.via in self.place.twins else "no topic for it")
                continue
            settings = self.settings
            sending.append(client.publish(topic, each.payload, settings.qos, settings.retain, timeout=ACKNOWLEDGED_S))
        await self.until_sent(sending)

    def topic_of(self, outgoing: Outgoing) -> str | None:
        """Where it goes there; None where it does not."""
        if outgoing.pipeline:
            place = self.place
            fields = {"node": place.node, "site": place.site, "pipeline": outgoing.pipeline, "key": outgoing.key}
            return fill(self.settings.events, {**fields, "state": outgoing.state})
        if outgoing.via in self.place.twins:
            return None
        return next((topic for each in self.settings.topics if (topic := each.apply(outgoing.topic)) is not None), None)
