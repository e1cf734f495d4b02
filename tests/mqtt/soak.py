"""The client's long test, for `tests.soak`: a broker that is killed and started again under load, twenty times by default."""

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from skerry import KeyValueStore, StorageConfig
from skerry.mqtt import MqttClient, Subscription
from skerry.runtime import free_ports
from tests.mqtt.brokers import DURABLE, Broker, until

Say = Callable[[str], None]
AT_ONCE = 30


class Load:
    """Numbers published at QoS 1 through an outbox, and the numbers read back."""

    def __init__(self) -> None:
        self.acknowledged: set[int] = set()
        self.read: list[int] = []
        self.stop = asyncio.Event()
        self._next = 0

    async def publish(self, client: MqttClient) -> None:
        while not self.stop.is_set():
            number, self._next = self._next, self._next + 1
            await client.publish("soak/1", b"%d" % number)
            self.acknowledged.add(number)

    async def take(self, messages: Subscription) -> None:
        async for message in messages:
            self.read.append(int(message.payload))
            await message.ack()

    async def grows(self) -> None:
        before = len(self.acknowledged)
        await until(lambda: len(self.acknowledged) > before + 100, 120)

    def turned(self) -> int:
        """How many numbers came for the first time after a higher one."""
        highest, found = -1, 0
        for number in dict.fromkeys(self.read):
            found += number < highest
            highest = max(highest, number)
        return found


async def _one(kind: str, folder: Path, chance: random.Random, kills: int) -> Counter[str]:
    broker, load = Broker(kind, folder, free_ports("127.0.0.1", [0, 0]), ""), Load()
    await broker.start()
    # mosquitto writes its sessions down when it ends in good order, not when it is killed
    number = signal.SIGKILL if kind == "nats" else signal.SIGTERM
    try:
        async with (
            KeyValueStore(StorageConfig(path=folder / "outbox")) as kv,
            MqttClient(broker.config(client_id="reader")) as reader,
            reader.subscribe("soak/#") as messages,
            MqttClient(broker.config(client_id="writer"), outbox=kv) as writer,
        ):
            taking = asyncio.create_task(load.take(messages))
            publishing = [asyncio.create_task(load.publish(writer)) for _ in range(AT_ONCE)]
            for _ in range(kills):
                await load.grows()
                await asyncio.sleep(chance.uniform(0, 0.5))
                await broker.stop(number)
                await asyncio.sleep(chance.choice((0.0, 0.3, 2.0)))
                await broker.start()
            await load.grows()
            load.stop.set()
            await asyncio.wait_for(asyncio.gather(*publishing), 120)
            await until(lambda: load.acknowledged <= set(load.read), 120)
            assert writer.waiting == 0, f"{writer.waiting} messages stay in the outbox"
            taking.cancel()
            await asyncio.gather(taking, return_exceptions=True)
    finally:
        await broker.stop()
    again = len(load.read) - len(set(load.read))
    return Counter({"kills": kills, "acknowledged": len(load.acknowledged), "read again": again, "out of order": load.turned()})


def kills(folder: Path, seed: int, count: int, say: Say) -> str:
    """Each broker killed so many times; the counts. Raises where an acknowledged message does not arrive."""
    chance, told = random.Random(seed), []
    for kind in DURABLE:
        (folder / kind).mkdir()
        found = asyncio.run(_one(kind, folder / kind, chance, count))
        told.append(f"{kind:>10}: " + ", ".join(f"{number} {name}" for name, number in found.items()) + ", 0 lost")
        say(told[-1])
    return "\n".join(told)
