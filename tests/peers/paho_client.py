"""paho-mqtt as a process, with the arguments of client.mjs: what most Python devices use."""

import sys
import threading
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

port, client_id, clean, will, action, *rest = sys.argv[1:]
client = Client(CallbackAPIVersion.VERSION2, client_id, clean_session=clean == "true")
if will:
    client.will_set(will, "gone", 1)
up = threading.Event()


def say(line: str) -> None:
    print(line, flush=True)


def connected(*_: Any) -> None:
    up.set()
    if action == "subscribe":
        client.subscribe(rest[0], int(rest[1]))
    elif action == "stay":
        say("connected")


client.on_connect = connected
client.on_subscribe = lambda *found: say("refused" if found[3][0].is_failure else "subscribed")
client.on_message = lambda _, __, m: say(f"{m.topic} {m.payload.decode()} {m.qos} {str(m.retain).lower()}")
client.connect("127.0.0.1", int(port))
client.loop_start()
assert up.wait(20)
if action == "publish":
    client.publish(rest[0], rest[1], int(rest[2]), rest[3] == "true").wait_for_publish(20)
    client.disconnect()
else:
    threading.Event().wait()
