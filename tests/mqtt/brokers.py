"""Real brokers for the client: nats-server and mosquitto, whose stores outlive a kill, and aedes, which keeps all in memory."""

import asyncio
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from skerry.mqtt import MqttConfig

NATS = """
server_name: t
listen: "127.0.0.1:{other}"
jetstream {{ store_dir: "{store}", sync_interval: 1s }}
mqtt {{ listen: "127.0.0.1:{port}", ack_wait: 2s, max_ack_pending: 1024 }}
{login}
"""
MOSQUITTO = """
listener {port} 127.0.0.1
persistence true
persistence_location {store}/
autosave_on_changes true
autosave_interval 1
max_queued_messages 0
max_inflight_messages 50
{login}
"""


DURABLE = ["nats", "mosquitto"]
"""Those that keep sessions over a death, send QoS 2 as the subscription asks, and mark what they have retained; aedes does not."""
PEERS = Path(__file__).parents[1] / "peers"


class Broker:
    """One broker that can be killed and started again on its port and store."""

    def __init__(self, kind: str, folder: Path, ports: list[int], password: str) -> None:
        self.kind = kind
        self.port, other = ports
        self.url = f"mqtt://127.0.0.1:{self.port}"
        store = folder / "store"
        store.mkdir()
        if kind == "nats":
            login = f'authorization {{ user: ann, password: "{password}" }}' if password else ""
            text = NATS.format(port=self.port, other=other, store=store, login=login)
            binary = Path(sys.prefix) / "bin" / "nats-server"
            self._argv = [str(binary), "-c", str(folder / "broker.conf")]
        elif kind == "aedes":
            text = ""
            self._argv = [_program("node"), str(PEERS / "aedes.mjs"), str(modules("aedes")), str(self.port)]
        else:
            login = "allow_anonymous true"
            if password:
                login = f"password_file {folder / 'passwords'}"
                self._passwd = [_program("mosquitto_passwd"), "-b", "-c", str(folder / "passwords"), "ann", password]
            text = "user root\n" * (Path.home() == Path("/root")) + MOSQUITTO.format(port=self.port, store=store, login=login)
            self._argv = [_program("mosquitto"), "-c", str(folder / "broker.conf")]
        (folder / "broker.conf").write_text(text)
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        quiet = asyncio.subprocess.DEVNULL
        if passwd := getattr(self, "_passwd", None):
            await (await asyncio.create_subprocess_exec(*passwd, stdout=quiet, stderr=quiet)).wait()
        self._process = await asyncio.create_subprocess_exec(*self._argv, stdout=quiet, stderr=quiet)
        async with asyncio.timeout(10):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError:
                    assert self._process.returncode is None, f"{self.kind} ended with {self._process.returncode}"
                    await asyncio.sleep(0.02)
                else:
                    writer.close()
                    await writer.wait_closed()
                    return

    async def stop(self, signum: int = signal.SIGKILL) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signum)
            await self._process.wait()

    def config(self, **fields: object) -> MqttConfig:
        known: dict[str, object] = {"broker_url": self.url, "connect_timeout": 5.0, "max_reconnect_delay": 0.5, **fields}
        return MqttConfig(**known)  # type: ignore[arg-type]  # the fields of the struct, by name


def _program(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip(f"optional: {name} is not installed")
    return found


def modules(name: str) -> Path:
    """Where npm's packages are, `name` among them; the test is skipped where it is not."""
    found = Path(sys.prefix) / "npm" / "node_modules"
    if not (found / name).is_dir():
        pytest.skip(f"optional: {name} is not in {found.parent}: `make test` installs it where npm is there")
    return found


async def until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    """Wait for what no event tells of."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)
