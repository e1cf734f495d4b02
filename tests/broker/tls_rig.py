"""A real nats-server behind TLS ports, with a call-out that tells what it was asked; and MQTT clients with TLS."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from skerry.broker import (
    Callers,
    Callout,
    ConnectRequest,
    Decision,
    Grant,
    NatsServer,
    Refusal,
    TlsPort,
    WireClient,
    ensure,
    log_plan,
)
from skerry.broker.config import BrokerConfig, BrokerTls
from skerry.core.clock import SystemClock
from skerry.core.service import cancel_and_wait
from skerry.trust import KeyPair, Role, ServerTls, TlsFiles, TokenSigner
from tests.broker.callout_rig import Mqtt, within
from tests.fixtures.certificates import Site

CLOCK = SystemClock()


class TlsMqtt(Mqtt):
    """An MQTT connection with TLS, over TCP or WebSocket; `own` is a file with a key and a certificate."""

    def __init__(
        self, port: int, client_id: str, ca: Path | None, *, own: Path | None = None, ws: bool = False, **more: Any
    ) -> None:
        super().__init__(port, client_id, **more)
        if ws:
            plain = self.client
            self.client = paho.Client(
                CallbackAPIVersion.VERSION2, client_id=client_id, transport="websockets", reconnect_on_failure=False
            )
            self.client.ws_set_options(path="/mqtt")
            if more.get("user") is not None:
                self.client.username_pw_set(more["user"], more.get("password"))
            for name in ("on_connect", "on_disconnect", "on_subscribe", "on_publish", "on_message"):
                setattr(self.client, name, getattr(plain, name))
        if ca is not None:
            context = ssl.create_default_context(cafile=str(ca))
            if own is not None:
                context.load_cert_chain(own)
            self.client.tls_set_context(context)


class TlsRig:
    """The ports, and what the call-out was asked."""

    def __init__(self, site: Site, server: NatsServer, served: ServerTls, callers: Callers, ports: dict[str, TlsPort]) -> None:
        self.site = site
        self.server = server
        self.served = served
        self.callers = callers
        self.ports = ports
        self.asked: list[ConnectRequest] = []

    async def decide(self, request: ConnectRequest) -> Decision:
        """Everyone but who says a wrong password."""
        found = self.callers.resolve(request)
        if found is None:
            return Refusal("gone")
        request = found
        self.asked.append(request)
        if request.password == "wrong":
            return Refusal("bad-password")
        return Grant(request.username or "$anonymous", (">",), (">",))

    def mqtt(self, client_id: str, **more: Any) -> TlsMqtt:
        return TlsMqtt(self.ports["mqtts"].port, client_id, self.site.ca, **more)

    def wss(self, client_id: str, **more: Any) -> TlsMqtt:
        return TlsMqtt(self.ports["websocket"].port, client_id, self.site.ca, ws=True, **more)

    def plain(self, client_id: str, **more: Any) -> Mqtt:
        return Mqtt(self.server.mqtt_listener()[1], client_id, **more)


@contextlib.asynccontextmanager
async def tls_rig(directory: Path, *, most: int = 100, patience: float = 10.0) -> AsyncIterator[TlsRig]:
    """All of it, started and ended."""
    site = Site(directory / "tls", CLOCK.now())
    pair = KeyPair.new(Role.ACCOUNT)
    files = TlsFiles("broker.tls", site.cert, site.key, site.ca)
    config = BrokerConfig(
        mqtt="127.0.0.1:0",
        mqtts="127.0.0.1:0",
        websocket="127.0.0.1:0",
        tls=BrokerTls(str(site.cert), str(site.key), str(site.ca)),
    )
    server = NatsServer(config, directory / "data", pair.public, 1 << 28, CLOCK)
    served, callers = ServerTls(files, CLOCK), Callers()
    ports = {
        "mqtts": TlsPort("mqtts", ("127.0.0.1", 0), server.mqtt_listener, lambda: served.context, callers, most, patience),
        "websocket": TlsPort(
            "websocket", ("127.0.0.1", 0), server.websocket_listener, lambda: served.context, callers, most, websocket=True
        ),
    }
    rig = TlsRig(site, server, served, callers, ports)
    tasks = [asyncio.create_task(server.run()), *(asyncio.create_task(port.run()) for port in ports.values())]
    try:
        async with asyncio.timeout(15):
            await server.ready.wait()
            agent = await WireClient.connect("127.0.0.1", server.port, server.user, server.password, "agent")
            await ensure(agent, log_plan(1 << 27))
            callout = Callout(agent, TokenSigner(pair), rig.decide, CLOCK)
            tasks.append(asyncio.create_task(callout.run()))
            await callout.ready.wait()
            for port in ports.values():
                await port.ready.wait()
        yield rig
        assert not any(task.done() for task in tasks[:3])
        await within(5, lambda: not callers)
    finally:
        await cancel_and_wait(*reversed(tasks))
