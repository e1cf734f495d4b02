"""Two nodes, one the centre of the other, over a bad link, with processes of both killed: once in effect, in order."""

import base64
import json
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skerry.core.clock import SystemClock
from skerry.core.errors import RejectedError
from skerry.http import Client, RefusedError
from skerry.trust import SigningKey
from skerry.uplink import decode, encode_envelope, sign_command
from tests.fixtures.node import RunningNode, until
from tests.system.fleet import connected
from tests.system.sites import CENTRE, SITE, TOPICS, Pump, port_of, rough_link


def test_once_in_effect_over_a_bad_link_and_kills_at_both_ends(tmp_path: Path) -> None:
    (tmp_path / "centre").mkdir()
    (tmp_path / "site").mkdir()
    pump = Pump("d1")
    locked = {"SKERRY_API__LOOPBACK": "none"}
    with (
        RunningNode(tmp_path / "centre", CENTRE, env=locked) as centre,
        rough_link(port_of(centre.status()["broker"]["http"])) as link,
    ):
        link.delay, link.loss = 0.15, 0.05
        credentials = tmp_path / "site" / "token"
        credentials.touch(0o600)
        credentials.write_text(token(centre, "rock@sea"))
        for name in ("other", "rock@isle"):
            with Client(centre.status()["broker"]["url"], token=token(centre, name)) as client:
                with pytest.raises(RejectedError, match="each node sends its own"):
                    client.upload(
                        "/api/v1/uplink/receive", encode_envelope("rock", "sea", "q", "alarm", []), "application/octet-stream"
                    )
                with pytest.raises(RefusedError, match="needs the scope"):
                    client.get("/api/v1/node")
        with RunningNode(tmp_path / "site", SITE % ("http", f"http://127.0.0.1:{link.port}", 'credentials = "token"')) as site:
            pump.send(site, 100)
            until(lambda: pump.arrived(centre), 30, "something has arrived")
            site.kill("uplink")
            pump.send(site, 100)
            link.cut()
            pump.send(site, 100)
            site.kill("agent")
            site.start()
            link.mend()
            pump.send(site, 100)
            centre.kill("agent")
            centre.start()
            link.aim(port_of(centre.status()["broker"]["http"]))
            pump.send(site, 100)
            until(lambda: len(pump.arrived(centre)) >= pump.sent, 60, "all has arrived")
            until(lambda: (site.status()["uplink"] or {}).get("waiting") == 0, 30, "all is acknowledged")
            assert pump.arrived(centre) == [float(at) for at in range(pump.sent)]
            assert site.pipeline("p")["ledger"]["difference"] == 0
            sent = site.status()["uplink"]["bytes_sent"]
            until(lambda: f'skerry_uplink_bytes_total{{stage="sent"}} {sent}.0' in metrics(site), 20, "the metrics say so")


def token(node: RunningNode, name: str) -> str:
    with node.client() as client:
        return str(client.post("/api/v1/tokens", {"name": name, "scopes": ["uplink"]})["token"])


def metrics(node: RunningNode) -> str:
    with urllib.request.urlopen(f"http://{node.status()['broker']['http']}/metrics") as answer:
        return str(answer.read().decode())


@pytest.mark.parametrize("kind", ["mqtt", "http"])
def test_a_signed_command_goes_down_once_and_is_answered(tmp_path: Path, kind: str) -> None:
    (tmp_path / "centre").mkdir()
    (tmp_path / "site").mkdir()
    key, other = SigningKey.new(), SigningKey.new()
    (tmp_path / "site" / "centre.pub").write_text(key.public_pem())
    with RunningNode(tmp_path / "centre", CENTRE) as centre:
        credentials = tmp_path / "site" / "credentials"
        credentials.touch(0o600)
        if kind == "mqtt":
            with centre.client() as client:
                account = {"id": "rock", "password": "rock-password", "topics": TOPICS}
                client.post("/api/v1/devices", account)
            credentials.write_text('username = "rock"\npassword = "rock-password"\n')
            url = f"mqtt://127.0.0.1:{centre.mqtt[1]}"
        else:
            credentials.write_text(token(centre, "rock@sea"))
            url = f"http://{centre.status()['broker']['http']}"
        commands = (
            'credentials = "credentials"\ncommands = { key = "centre.pub", allow = ["commands/+/set", "node/pipelines/+/pause"] }'
        )
        with RunningNode(tmp_path / "site", SITE % (kind, url, commands)) as site:
            pump = Pump("d1")
            pump.send(site, 20)
            until(lambda: len(pump.arrived(centre)) == 20, 40, "envelopes arrive")
            heard: list[bytes] = []
            valve = connected("valve", site.mqtt)
            valve.on_message = lambda client, data, message: heard.append(message.payload)
            until(valve.is_connected, 20, "the valve is connected")
            valve.subscribe("commands/valve/#", qos=1)

            def command(signer: SigningKey, topic: str, identity: str, node: str = "rock") -> None:
                frame = sign_command(signer, "sea", node, topic, b"42", SystemClock().now(), 600_000_000, identity)
                for _ in range(2):
                    with centre.client() as client:
                        client.post("/api/v1/uplink/command", {"command": base64.b64encode(frame).decode()})

            command(key, "commands/valve/set", "good")
            command(key, "commands/valve/open", "not-allowed")
            command(other, "commands/valve/set", "forged")
            command(key, "node/pipelines/p/pause", "pause")
            if kind == "http":
                pump.send(site, 1)  # commands come with the answer to the next envelope; without one they wait for half a minute

            def answers() -> dict[str, Any]:
                with centre.client() as client:
                    waiting = client.get("/api/v1/uplink")["received"]["commands"]
                return {row["id"]: row for row in waiting}

            until(lambda: set(answers()) == {"forged"}, 40, "all but the forged one are answered")
            with centre.client() as client:
                told = [client.get(f"/api/v1/uplink/command/{each}")["outcome"] for each in ("good", "not-allowed", "pause")]
                assert client.get("/api/v1/uplink/command/forged")["waiting"]
            assert told == ["done", "refused: 'commands/valve/open' is not in uplink.commands.allow", "done"]
            until(lambda: site.pipeline("p")["state"] == "paused", 20, "the node has done what it was told")
            assert heard == [b"42"]
            told = audit(site)
            assert told.count("command carried out") == 2
            assert "is not in uplink.commands.allow" in told
            assert "not signed with the centre's key" in told
            assert "takes no commands" not in told
            site.stop()
            site.write(SITE % (kind, url, 'credentials = "credentials"'))  # nothing is allowed
            site.start()
            until(valve.is_connected, 20, "the valve is connected again")
            command(key, "commands/valve/set", "unasked")
            if kind == "http":
                pump.send(site, 1)
                until(lambda: "this node takes no commands" in audit(site), 40, "it is refused")
            assert heard == [b"42"]
            valve.disconnect()
            valve.loop_stop()


def audit(node: RunningNode) -> str:
    return "".join(path.read_text() for path in (node.data / "logs").glob("audit*"))


@pytest.mark.parametrize("old", [False, True])
def test_it_begins_with_the_first_message_after_the_start_that_brought_it(
    tmp_path: Path, free_ports: Callable[[int], list[int]], old: bool
) -> None:
    """The first one comes as soon as the broker lets anybody in, when the uplink's process is not there yet."""
    stick = tmp_path / "stick"
    stick.mkdir()
    port = free_ports(1)[0]
    settings = SITE % ("file", str(stick), "")
    node = RunningNode(tmp_path, settings, mqtt=f"127.0.0.1:{port}")
    if old:
        node.write(settings[settings.index("[[pipelines]]") :].replace(', { kind = "uplink", select = ["raw", "event"] }', ""))
        with node:
            Pump("d1").send(node, 3)
            until(lambda: node.pipeline("p")["ledger"]["scored"] == 3, 30, "what came before is processed")
        node.write(settings)
    early = connected("early", ("127.0.0.1", port))
    early.reconnect_delay_set(0.02, 0.02)  # type: ignore[arg-type]  # paho sleeps for any number, and says int
    early.publish("devices/early/v", json.dumps({"ts": time.time(), "x": 7}), qos=1)
    try:
        with node:

            def left() -> list[tuple[str, object]]:
                found = [record for path in sorted(stick.glob("*.skup")) for record in decode(path.read_bytes())]
                return [(record.key, record.values["x"]) for record in found if record.kind == "raw"]

            until(left, 30, "something has left")
            assert left() == [("early", 7.0)]
    finally:
        early.disconnect()
        early.loop_stop()
