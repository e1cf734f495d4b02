"""Envelopes over MQTT at QoS 1; the acknowledgement is the central broker's PUBACK.

Some brokers acknowledge a publish that they do not permit, and drop it (MQTT 3.1.1 has no other answer). So at each connection a
probe goes out on a topic below and has to come back, where the broker lets this client subscribe to it.
"""

import asyncio
import secrets

from skerry.core import log
from skerry.core.errors import RejectedError, SkerryError, UnavailableError
from skerry.core.service import cancel_and_wait
from skerry.mqtt import MqttClient, MqttConfig
from skerry.uplink.credentials import read_credentials
from skerry.uplink.targets.target import TIMEOUT_S, Place, TakeCommand

PROBE_S = 10.0
KEEP_ALIVE_S = 60
"""A link that is half open is noticed by the next envelope too; pings cost more than envelopes where little leaves."""
_log = log.get("uplink")


class MqttTarget:
    """One broker; `take` gets the commands that come on the node's own topic."""

    def __init__(self, place: Place, take: TakeCommand) -> None:
        self._place = place
        self._take = take
        self._connecting = asyncio.Lock()
        self._client: MqttClient | None = None
        self._listening: asyncio.Task[None] | None = None
        self.where = MqttConfig(place.url).address().url
        self.permission = "not looked at"

    async def send(self, envelope: bytes) -> None:
        client = await self._connected()
        try:
            await client.publish(self._place.subject, envelope, 1, timeout=TIMEOUT_S)
        except RejectedError as error:  # MQTT 5 tells what is not permitted: somebody may mend that, and nothing is lost till then
            await self._end(client)
            raise UnavailableError(error.message, where=error.where, mend=error.mend) from error
        except SkerryError:
            await self._end(client)
            raise

    async def _connected(self) -> MqttClient:
        async with self._connecting:
            if self._client is None:
                client = await self._connect()
                try:
                    await self._probe(client)
                    await self._listen(client)
                except BaseException:
                    await client.close()
                    raise
                self._client = client
            return self._client

    async def _connect(self) -> MqttClient:
        place = self._place
        known = await asyncio.to_thread(read_credentials, place.credentials)
        secret = known.password or known.token or None
        config = MqttConfig(
            place.url,
            client_id=f"skerry-uplink-{place.site}-{place.node}"[:64],
            username=known.username or (place.node if known.token else None),
            password=secret,
            keep_alive=KEEP_ALIVE_S,
            clean_session=not place.commands,
            connect_timeout=TIMEOUT_S / 2,
            max_in_flight=16,
            ca=place.ca,
            cert=known.cert,
            key=known.key,
        )
        return await MqttClient(config).__aenter__()

    async def _probe(self, client: MqttClient) -> None:
        topic, mark = f"{self._place.subject}/probe", secrets.token_bytes(8)
        try:
            async with asyncio.timeout(PROBE_S), client.subscribe(topic, 1) as answers:
                await client.publish(topic, mark, 1)
                async for message in answers:
                    await message.ack()
                    if message.payload == mark:
                        self.permission = "the broker hands on what is published"
                        return
        except RejectedError:
            self.permission = "the broker does not let it be seen whether it hands on what is published"
        except TimeoutError as error:
            raise UnavailableError(
                f"the broker acknowledges what is published on {topic!r}, and does not hand it on",
                where=self.where,
                mend=f"permit this client to publish and to subscribe on {self._place.subject}/#",
            ) from error

    async def _listen(self, client: MqttClient) -> None:
        if not self._place.commands:
            return
        listening = asyncio.Event()

        async def listen() -> None:
            try:
                async with client.subscribe(self._place.orders, 1) as commands:
                    listening.set()
                    async for message in commands:
                        self._take(message.payload)
                        await message.ack()
            except SkerryError as error:
                _log.warning(f"no commands can be read: {error}")
            finally:
                listening.set()

        self._listening = asyncio.create_task(listen())
        await listening.wait()

    async def _end(self, client: MqttClient) -> None:
        """Connect anew with the next envelope: this one is not acknowledged, whatever becomes of it."""
        async with self._connecting:
            if self._client is client:
                await self.close()

    async def close(self) -> None:
        client, self._client = self._client, None
        if self._listening is not None:
            await cancel_and_wait(self._listening)
            self._listening = None
        if client is not None:
            await client.close()
