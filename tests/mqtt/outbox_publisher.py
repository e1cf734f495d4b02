"""A process that publishes through an outbox until it is killed: `outbox_publisher.py URL STORE FIRST COUNT QOS VERSION`.

Says `kept` when all are in the outbox, a number for each acknowledgement, and `empty` when nothing waits any more.
"""

import asyncio
import sys

from skerry import KeyValueStore, MqttClient, MqttConfig, StorageConfig


async def main() -> None:
    url, store, first, count, qos, version = sys.argv[1:]
    config = MqttConfig(url, client_id="publisher", version=version, max_reconnect_delay=0.3)  # type: ignore[arg-type]  # one of three

    async with KeyValueStore(StorageConfig(store)) as kv, MqttClient(config, outbox=kv) as client:
        print("connected", client.waiting, flush=True)
        sys.stdin.readline()

        async def publish(number: int) -> None:
            await client.publish("out/1", b"%d" % number, int(qos))
            print(number, flush=True)

        before = client.waiting
        tasks = [asyncio.create_task(publish(number)) for number in range(int(first), int(first) + int(count))]
        while client.waiting < before + int(count) and not all(task.done() for task in tasks):  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.01)
        print("kept", flush=True)
        await asyncio.gather(*tasks)
        while client.waiting:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.01)
        print("empty", flush=True)


asyncio.run(main())
