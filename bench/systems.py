"""The two systems that are compared: a skerry node, and mosquitto with the script that people write."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import psutil

from bench import load
from bench.model import write_mlp
from skerry.runtime import free_ports

ROOT = Path(__file__).resolve().parent.parent
FEATURES = ["mean", "std", "rms", "peak", "crest", "kurtosis", "min", "max"]
VALUES = ["x", "y", "z"]
PIPELINE = "bench"
TOML = """
[node]
name = "bench"
site = "bench"
data_dir = "{data}"
[broker]
mqtt = "127.0.0.1:{mqtt}"
anonymous = true
[api]
listen = "127.0.0.1:{api}"
[dashboard]
enabled = false
[[models]]
name = "mlp"
file = "mlp.onnx"
[[pipelines]]
name = "{name}"
source = {{ topic = "devices/+/vibration", format = "json", time = "ts", values = {values} }}
window = {{ kind = "count", size = 32 }}
features = {features}
model = "mlp@active"
sinks = ["event"]
dedup = "{dedup}"
"""
MOSQUITTO = """
listener {port} 127.0.0.1
password_file {folder}/passwords
persistence true
persistence_location {folder}/
max_queued_messages 0
max_inflight_messages 1000
log_type none
"""
PASSWORD = "bench-password"


def cpu_of(pid: int) -> float:
    """CPU seconds, user and system, of one process."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


class System:
    """A running system: where devices connect, and how its parts are found and killed.

    Attributes:
        password: of devices and sink; empty: they log in without a name.
        parts: what the kill row kills, one after the other.
    """

    name: str
    port: int
    password = ""
    parts: tuple[str, ...] = ()

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = (folder / "log").open("wb")
        self.children: dict[str, asyncio.subprocess.Process] = {}

    async def start(self) -> None:
        raise NotImplementedError

    async def kill(self, part: str) -> None:
        """`kill -9` one part and see that it comes back."""
        raise NotImplementedError

    def pid(self, part: str) -> int:
        return self.children[part].pid

    def pids(self) -> list[int]:
        """All processes of the system."""
        tops = [psutil.Process(child.pid) for child in self.children.values() if child.returncode is None]
        return [each.pid for top in tops for each in [top, *top.children(recursive=True)]]

    async def stop(self) -> None:
        for child in reversed(self.children.values()):
            await end(child)
        self.log.close()

    async def spawn(self, part: str, *command: str) -> None:
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
        self.children[part] = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=env, cwd=self.folder
        )

    def check(self) -> None:
        for part, child in self.children.items():
            if child.returncode is not None:
                tail = (self.folder / "log").read_text(errors="replace")[-2000:]
                raise SystemExit(f"{self.name}: {part} ended with {child.returncode}\n{tail}")


async def end(child: asyncio.subprocess.Process, patience: float = 10.0) -> None:
    """SIGTERM, and SIGKILL for it and its children where that does not help."""
    if child.returncode is not None:
        return
    family = psutil.Process(child.pid).children(recursive=True)
    child.terminate()
    try:
        await asyncio.wait_for(child.wait(), patience)
    except TimeoutError:
        child.kill()
        await child.wait()
    for each in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()


class Skerry(System):
    """One node with one pipeline."""

    name = "skerry"
    parts = ("worker", "nats-server", "agent")

    def __init__(self, folder: Path, dedup: str = "off") -> None:
        super().__init__(folder)
        self.port, self.api = free_ports("127.0.0.1", [0, 0])
        write_mlp(folder / "mlp.onnx", len(FEATURES) * len(VALUES))
        places = {"data": folder / "data", "mqtt": self.port, "api": self.api}
        text = TOML.format(**places, name=PIPELINE, values=json.dumps(VALUES), features=json.dumps(FEATURES), dedup=dedup)
        (folder / "skerry.toml").write_text(text)

    def configure(self, old: str, new: str) -> None:
        """Put something else in one place of its configuration; ends the bench where that is not there."""
        file = self.folder / "skerry.toml"
        text = file.read_text()
        if old not in text:
            raise SystemExit(f"the bench's configuration has no {old!r}")
        file.write_text(text.replace(old, new))

    async def start(self) -> None:
        await self.spawn("agent", sys.executable, "-m", "skerry.cli", "--config", str(self.folder / "skerry.toml"), "run")
        await self._until_ready()

    async def _until_ready(self) -> None:
        give_up = time.monotonic() + 30
        while time.monotonic() < give_up:
            self.check()
            with contextlib.suppress(OSError):
                await self.call("GET", "/readyz", prefix="")
                return
            await asyncio.sleep(0.05)
        raise SystemExit("skerry: not ready after 30 s\n" + (self.folder / "log").read_text(errors="replace")[-2000:])

    async def call(self, method: str, path: str, prefix: str = "/api/v1") -> Any:
        """One call of the node's API; the JSON that it answers."""

        def ask() -> Any:
            request = urllib.request.Request(f"http://127.0.0.1:{self.api}{prefix}{path}", method=method)
            with urllib.request.urlopen(request, timeout=10) as reply:
                return json.loads(reply.read())

        return await asyncio.to_thread(ask)

    async def pipeline(self) -> dict[str, Any]:
        (found,) = (await self.call("GET", "/pipelines"))["pipelines"]
        return found

    def pid(self, part: str) -> int:
        top = psutil.Process(self.children["agent"].pid)
        if part == "agent":
            return top.pid
        mark = "skerry.worker" if part == "worker" else part
        for child in top.children(recursive=True):
            if mark in " ".join(child.cmdline()):
                return child.pid
        raise SystemExit(f"skerry: no process {part}")

    async def kill(self, part: str) -> None:
        if part != "agent":
            os.kill(self.pid(part), signal.SIGKILL)
            return
        family = psutil.Process(self.children["agent"].pid).children(recursive=True)
        self.children["agent"].kill()
        await self.children["agent"].wait()
        await asyncio.to_thread(psutil.wait_procs, family, 10)
        await self.start()


class Diy(System):
    """mosquitto with persistence, and the script."""

    name = "paho + onnxruntime"
    parts = ("script",)
    password = PASSWORD

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        (self.port,) = free_ports("127.0.0.1", [0])
        write_mlp(folder / "mlp.onnx", len(FEATURES) * len(VALUES))
        names = ["diy", "bench-sink", *(load.name_of(index) for index in range(200))]
        (folder / "passwords").write_text("".join(f"{name}:{PASSWORD}\n" for name in names))
        (folder / "mosquitto.conf").write_text(MOSQUITTO.format(port=self.port, folder=folder))

    async def start(self) -> None:
        # mosquitto gives up root's rights, and could not read its files then
        as_root = ["user root\n"] if os.geteuid() == 0 else []
        config = self.folder / "mosquitto.conf"
        config.write_text("".join(as_root) + config.read_text())
        await self.spawn("passwords", program("mosquitto_passwd"), "-U", str(self.folder / "passwords"))
        await self.children.pop("passwords").wait()
        await self.spawn("mosquitto", program("mosquitto"), "-c", str(config))
        while True:
            self.check()
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                break
            await asyncio.sleep(0.05)
        await self._script()

    async def _script(self) -> None:
        script, model = Path(__file__).parent / "peers" / "diy.py", self.folder / "mlp.onnx"
        await self.spawn("script", sys.executable, str(script), str(self.port), "diy", PASSWORD, str(model))
        await asyncio.sleep(1.0)
        self.check()

    async def kill(self, part: str) -> None:
        self.children[part].kill()
        await self.children[part].wait()
        await self._script()


def program(name: str) -> str:
    """Where an installed program is; sbin is not on every PATH."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise SystemExit(f"{name} is not installed: the peer needs mosquitto (apt-get install mosquitto mosquitto-clients)")
    return found
