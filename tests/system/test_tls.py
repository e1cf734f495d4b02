"""TLS on a real node: every way in, the node's own publishing, HTTPS, certificates replaced while devices are connected."""

import asyncio
import os
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from skerry.core.clock import SystemClock
from skerry.http import Client
from skerry.trust import certificate_fingerprint
from tests.broker.callout_rig import within
from tests.broker.tls_rig import TlsMqtt
from tests.fixtures.certificates import Site
from tests.fixtures.node import RunningNode, until

PIPELINE = """
[[pipelines]]
name = "p"
source = { topic = "devices/+/x", format = "json", values = ["v"] }
window = { kind = "none" }
sinks = ["event", { kind = "mqtt", topic = "alarms/{device}" }]
"""
FILES = 'cert = "data/tls/server.pem", key = "data/tls/server.key"'


class TlsNode(RunningNode):
    """A node with TLS only, and its site."""

    def __init__(self, folder: Path) -> None:
        self.site = Site(folder / "data" / "tls", SystemClock().now())
        broker = f'mqtts = "127.0.0.1:0"\nwebsocket = "127.0.0.1:0"\ntls = {{ {FILES}, ca = "data/tls/ca.pem" }}'
        super().__init__(folder, broker=broker, mqtt="")
        self._head = self._head.replace("[api]\n", f"[api]\ntls = {{ {FILES} }}\n").replace("anonymous = true\n", "")
        self.write(PIPELINE)

    def device(self, client_id: str, *, ws: bool = False, **more: Any) -> TlsMqtt:
        address: str = self.status()["broker"]["websocket" if ws else "mqtts"]
        return TlsMqtt(int(address.rpartition(":")[2]), client_id, self.site.ca, ws=ws, **more)

    def add(self, **device: object) -> dict[str, Any]:
        with self.client() as client:
            found: dict[str, Any] = client.post("/api/v1/devices", device)
        return found

    def shown(self) -> str:
        """Fingerprint of the certificate that HTTP shows now."""
        _, _, port = str(self.status()["broker"]["http"]).rpartition(":")
        return certificate_fingerprint(ssl.get_server_certificate(("127.0.0.1", int(port)), ca_certs=str(self.site.ca)))

    def cli(self, *arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
        argv = [sys.executable, "-m", "skerry.cli", "--config", str(self.file), *arguments]
        return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **env})


@pytest.mark.asyncio
async def test_every_way_in_and_a_renewal_that_cuts_nobody(tmp_path: Path) -> None:
    with TlsNode(tmp_path) as node:
        status = node.status()
        assert (status["broker"]["mqtt"], status["warnings"]) == ("", [])
        password = node.add(id="listener", topics=["sub:alarms/#"])["password"]
        node.add(id="pump-1", certificate="ca")
        own = node.site.device("pump-1")
        listener = node.device("listener", user="listener", password=password)
        browser = node.device("browser", ws=True, user="listener", password=password)
        async with listener, browser, node.device("pump-1", own=own) as pump:
            assert (listener.code, browser.code, pump.code) == (0, 0, 0)
            assert await listener.subscribe("alarms/#") == 1
            await pump.publish("devices/pump-1/x", b'{"v": 1}')
            await listener.received(1)
            assert listener.messages[0][0] == "alarms/pump-1", "what the node publishes goes in without TLS, on loopback"

            before = node.shown()
            node.site.renew()
            await asyncio.to_thread(until, lambda: node.shown() != before, 10, "HTTPS shows the new certificate")
            for each, topic in ((pump, "devices/pump-1/x"), (listener, "devices/listener/x"), (browser, "devices/listener/x")):
                await each.publish(topic, b'{"v": 2}')
            await listener.received(4)
            assert not any(each.ended for each in (listener, browser, pump))

            for name, more in (("stranger", {"own": node.site.stranger("pump-1")}), ("nobody", {})):
                async with node.device(name, **more) as refused:
                    assert refused.code != 0
            with node.client() as client:
                client.post("/api/v1/devices/pump-1/revoke")
            await within(5, lambda: pump.ended)
            async with node.device("pump-1", own=own) as revoked:
                assert revoked.code != 0
        await asyncio.to_thread(_the_command_line_over_https_and_the_doctor, node)
        assert node.status()["warnings"] == []
        assert node.stop()[0] == 0
        assert node.left() == []


def _the_command_line_over_https_and_the_doctor(node: TlsNode) -> None:
    _, _, port = str(node.status()["broker"]["http"]).rpartition(":")
    url = f"https://localhost:{port}"
    with Client(url, ca=node.site.ca) as client:
        assert client.get("/readyz")["ready"] is True
    done = node.cli("--url", url, "--ca", str(node.site.ca), "status")
    assert done.returncode == 0, done.stderr
    assert "ready" in done.stdout
    doctor = node.cli("doctor")
    assert doctor.returncode == 0, doctor.stdout
    assert "ok    node: runs and is ready" in doctor.stdout
    assert "ok    broker.tls: good for 823 days more (renewed by the node)" in doctor.stdout


def test_a_certificate_that_ended_stops_the_start_with_one_sentence(tmp_path: Path) -> None:
    node = TlsNode(tmp_path)
    node.file.write_text(node.file.read_text().replace(FILES, 'cert = "data/tls/expired.pem", key = "data/tls/expired.key"'))
    node.site.expired_server()
    done = node.cli("run")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"error: {node.file}: broker.tls.cert: {node.site.directory / 'expired.pem'} ended on " in done.stderr
    assert done.stderr.endswith("have it renewed, or set the clock if that is wrong\n")
    doctor = node.cli("doctor")
    assert doctor.returncode == 1
    assert f"fail  broker.tls: {node.file}: broker.tls.cert: " in doctor.stdout
