"""Devices that number their messages: MQTT clients that keep each message until its PUBACK, over any number of connections."""

import itertools
import json
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from tests.fixtures.node import until

TOPIC = "devices/{}/numbers"
AHEAD_S = 60.0
"""How far ahead of all others a device's last message is, so that all its windows close."""


Addresses = tuple[str, int] | Sequence[tuple[str, int]]
"""Where to connect: host and port, or several of them, of which the next is tried each time."""


class _Roaming(mqtt.Client):
    """Goes on to the next address with each new connection."""

    def __init__(self, client_id: str, addresses: Sequence[tuple[str, int]]) -> None:
        super().__init__(CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=False)
        self._next = itertools.cycle(addresses)

    def reconnect(self) -> mqtt.MQTTErrorCode:
        self.connect_async(*next(self._next), keepalive=10)
        return super().reconnect()


def connected(client_id: str, address: Addresses, username: str = "", password: str = "") -> mqtt.Client:
    """A client with a kept session and its thread; it connects now or as soon as the broker is there, again and again."""
    where = _each(address)
    client = _Roaming(client_id, where)
    client.reconnect_delay_set(0.1, 0.5)  # type: ignore[arg-type]  # paho sleeps for any number, and says int
    # with a limit paho lets new messages pass those that waited for the connection
    client.max_inflight_messages_set(0)
    if username:
        client.username_pw_set(username, password)
    client.connect_async(*where[0], keepalive=10)
    client.loop_start()
    return client


def _each(address: Addresses) -> list[tuple[str, int]]:
    match address:
        case (str(host), int(port)):
            return [(host, port)]
        case _:
            return [(str(host), int(port)) for host, port in address]  # type: ignore[misc]  # mypy does not see that no pair is left


class Device:
    """One device. Its n-th message carries the value n and the time of its making.

    Attributes:
        times: time stamp of each message in microseconds, by serial number.
        acknowledged: serial numbers whose PUBACK has come.
    """

    def __init__(
        self, name: str, address: Addresses, qos: int = 1, *, password: str = "", topic: str = TOPIC, pad: int = 0
    ) -> None:
        self.name = name
        self.qos = qos
        self.times: list[int] = []
        self.acknowledged: set[int] = set()
        self._topic = topic.format(name)
        self._pad = "x" * pad
        self._serials: dict[int, deque[int]] = {}
        self._acks: deque[int] = deque()
        self.client = connected(name, address, name if password else "", password)
        self.client.on_publish = self._on_publish
        # paho sends what was published before the socket was there only after the CONNACK: later messages would pass it
        until(self.client.is_connected, 30, f"{name} is connected")

    def _on_publish(self, client: mqtt.Client, userdata: Any, mid: int, reason: Any, properties: Any) -> None:
        # paho holds a lock of its own here that publish() takes too: nothing may be waited for
        self._acks.append(mid)

    def publish(self, ahead: float = 0.0) -> int:
        """Send the next message; its serial number."""
        serial = len(self.times)
        stamp = time.time_ns() // 1000 + round(ahead * 1e6)
        self.times.append(stamp)
        info = self.client.publish(self._topic, json.dumps({"ts": stamp / 1e6, "n": serial, "pad": self._pad}), qos=self.qos)
        self._serials.setdefault(info.mid, deque()).append(serial)
        return serial

    def settle(self) -> int:
        """Take the acknowledgements in; how many messages have none yet."""
        while self._acks:
            mid = self._acks.popleft()
            self.acknowledged.add(self._serials[mid].popleft())
        return len(self.times) - len(self.acknowledged)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


class Fleet:
    """Several devices and the thread that makes them publish in turn, `rate` messages a second in all."""

    def __init__(self, address: Addresses, devices: int, rate: float, prefix: str = "d", pad: int = 0) -> None:
        self.devices = [Device(f"{prefix}{at}", address, pad=pad) for at in range(devices)]
        self._rate = rate
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Fleet":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        for device in self.devices:
            device.close()

    def _run(self) -> None:
        began, sent = time.monotonic(), 0
        while not self._end.is_set():
            due = int((time.monotonic() - began) * self._rate)
            for at in range(sent, due):
                self.devices[at % len(self.devices)].publish()
            sent = due
            self._end.wait(0.01)

    def stop(self) -> None:
        """End the load; nothing new is published."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join()

    def close_windows(self, ahead_s: float = AHEAD_S) -> None:
        """One message a device, far ahead: all windows before it close."""
        for device in self.devices:
            device.publish(ahead_s)

    @property
    def sent(self) -> int:
        return sum(len(device.times) for device in self.devices)

    @property
    def unacknowledged(self) -> int:
        return sum(device.settle() for device in self.devices)

    @property
    def acknowledged(self) -> int:
        return self.sent - self.unacknowledged
