"""A real nats-server with the node's own configuration, the call-out on it, and MQTT clients that tell what they were answered."""

import asyncio
import contextlib
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from skerry.broker import Callout, WireClient, ensure, log_plan
from skerry.broker.callout import Decide
from skerry.broker.config import AGENT, RELAY, SYSTEM, ServerPlan, render
from skerry.core.clock import SystemClock
from skerry.trust import KeyPair, Role, TokenSigner

T = TypeVar("T")
NATS_SERVER = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or shutil.which("nats-server")
PASSWORDS = {AGENT: "agent-password", RELAY: "relay-password", SYSTEM: "sys-password"}


async def within(seconds: float, look: Callable[[], T | None]) -> T:
    """What `look` answers as soon as it answers something."""
    async with asyncio.timeout(seconds):
        while not (found := look()):  # noqa: ASYNC110 - what is looked at is a server's or another thread's
            await asyncio.sleep(0.01)
    return found


class Mqtt:
    """One MQTT 3.1.1 connection; its answers are kept. Use with `async with`; leaving it says goodbye."""

    def __init__(
        self, port: int, client_id: str, user: str | None = None, password: str | None = None, *, clean: bool = True
    ) -> None:
        self.port = port
        self.code: int | None = None
        self.ended = False
        self.messages: list[tuple[str, bytes, int]] = []
        self._subscribed: dict[int, list[int]] = {}
        self._acked: set[int] = set()
        self.client = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=clean, reconnect_on_failure=False)
        if user is not None:
            self.client.username_pw_set(user, password)
        self.client.on_connect = self._on_connect
        self.client.on_disconnect = self._on_disconnect
        self.client.on_subscribe = self._on_subscribe
        self.client.on_publish = self._on_publish
        self.client.on_message = self._on_message

    def _on_connect(self, client: object, data: object, flags: object, code: Any, properties: object) -> None:
        self.code = code.value

    def _on_disconnect(self, client: object, data: object, flags: object, code: object, properties: object) -> None:
        self.ended = True

    def _on_subscribe(self, client: object, data: object, mid: int, granted: Any, properties: object) -> None:
        self._subscribed[mid] = [code.value for code in granted]

    def _on_publish(self, client: object, data: object, mid: int, code: object, properties: object) -> None:
        self._acked.add(mid)

    def _on_message(self, client: object, data: object, message: paho.MQTTMessage) -> None:
        self.messages.append((message.topic, bytes(message.payload), message.qos))

    async def __aenter__(self) -> "Mqtt":
        try:
            await asyncio.to_thread(self.client.connect, "127.0.0.1", self.port)
        except BaseException:
            self.client._reset_sockets()
            raise
        self.client.loop_start()
        await within(8, lambda: self.code is not None or self.ended)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.client.disconnect()
        await asyncio.to_thread(self.client.loop_stop)
        self.client._reset_sockets()  # paho does it when it is collected, which may come after its sockets were

    async def publish(self, topic: str, payload: bytes = b"x", qos: int = 1) -> None:
        """Wait until it is acknowledged (QoS 0: written)."""
        mid = self.client.publish(topic, payload, qos).mid
        await within(5, lambda: mid in self._acked)

    async def subscribe(self, topic: str, qos: int = 1) -> int:
        """The granted QoS, or 0x80."""
        mid = self.client.subscribe(topic, qos)[1]
        assert mid is not None
        return (await within(5, lambda: self._subscribed.get(mid)))[0]

    async def received(self, count: int) -> None:
        """Wait until that many messages have come."""
        await within(5, lambda: len(self.messages) >= count)

    async def break_off(self) -> None:
        """End as a cut cable does: without goodbye."""
        self.client.loop_stop()
        found = self.client.socket()
        assert found is not None
        found.close()


class Rig:
    """The server, the node's connection `agent` to it, and the call-out."""

    def __init__(self, directory: Path, plan: ServerPlan, agent: WireClient, callout: Callout) -> None:
        self.directory = directory
        self.plan = plan
        self.agent = agent
        self.callout = callout

    def mqtt(self, client_id: str, user: str | None = None, password: str | None = None, *, clean: bool = True) -> Mqtt:
        return Mqtt(self.plan.mqtt_port, client_id, user, password, clean=clean)

    async def nats(self, user: str, password: str) -> WireClient:
        return await WireClient.connect("127.0.0.1", self.plan.client_port, user, password, "test")

    def log(self, part: str) -> list[str]:
        """Lines of the server's log that hold the part."""
        return [line for line in (self.directory / "server.log").read_text().splitlines() if part in line]


@contextlib.asynccontextmanager
async def rig(directory: Path, ports: list[int], decide: Decide, **more: Any) -> AsyncIterator[Rig]:
    """Start all of it, with the log made before the first client; end all of it."""
    pair = KeyPair.new(Role.ACCOUNT)
    plan = ServerPlan(
        name="test", client_port=ports[0], monitor_port=ports[1], mqtt_host="127.0.0.1", mqtt_port=ports[2],
        store_dir=str(directory / "store"), max_store=1 << 30, sync="1s", max_connections=1000,
        log_file=str(directory / "server.log"), pid_file=str(directory / "server.pid"), issuer=pair.public,
        agent_password=PASSWORDS[AGENT], relay_password=PASSWORDS[RELAY], sys_password=PASSWORDS[SYSTEM],
    )  # fmt: skip
    (directory / "server.conf").write_text(render(plan))
    assert NATS_SERVER
    server = await asyncio.to_thread(subprocess.Popen, [NATS_SERVER, "-c", str(directory / "server.conf")])
    try:
        await within(10, lambda: server.poll() is None and _accepts(plan.mqtt_port) and _accepts(plan.client_port))
        agent = await WireClient.connect("127.0.0.1", plan.client_port, AGENT, PASSWORDS[AGENT], "agent")
        await ensure(agent, log_plan(1 << 28))
        callout = Callout(agent, TokenSigner(pair), decide, SystemClock(), **more)
        serving = asyncio.create_task(callout.run())
        await callout.ready.wait()
        try:
            yield Rig(directory, plan, agent, callout)
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            agent.close()
            await asyncio.wait_for(asyncio.shield(agent.closed), 5)
    finally:
        server.terminate()
        await asyncio.to_thread(server.wait, 10)


def _accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.5):
        return True
    return False
