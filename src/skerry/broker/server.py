"""nats-server as a supervised child: configured, started, watched, and ended with the node."""

import asyncio
import errno
import secrets
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

from skerry.broker.binary import find_binary
from skerry.broker.config import AGENT, RELAY, SYSTEM, BrokerConfig, ServerPlan, render
from skerry.broker.health import listens, look
from skerry.broker.kept import Kept, read_kept, write_kept, write_private
from skerry.broker.listening import check_free, shown
from skerry.broker.routes import ALONE, Place
from skerry.broker.server_log import Lonely, ServerLog, Violation, explain, is_refusal, is_store_failure
from skerry.core import log
from skerry.core.clock import Clock
from skerry.core.errors import CorruptError, SkerryError, UnavailableError
from skerry.core.service import Backoff, Restarts, beat, cancel_and_wait
from skerry.runtime import Child, ChildSpec, Exit, end_left_over, free_ports

ROLE = "nats-server"
PATIENT_S = 600.0
UNHEALTHY_S = 15.0
HANGS_S = 20.0
STOP_S = 4.0
FOLLOW_S = 0.25
WATCH_S = 1.0
ASK_EVERY = 5
"""Looks at the process and the disk between two questions whether it answers."""
NO_ROOM = 1024 * 1024
ROOM = 8 * 1024 * 1024
TOLD = 5
_PLAIN_WEBSOCKET = "Websocket not configured with TLS"
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_log = log.get("broker")


class NatsServer:
    """The broker and the log. `run` never raises: what hinders it is in `status`, and it tries again.

    Args:
        issuer: public key that signs the answers of the log-in call-out.
        max_store: bytes that all its streams may hold.
        place: where it stands among other servers, asked at each start.
        devices: whether it takes MQTT; without it only keeps what the others keep.

    Attributes:
        ready: set while MQTT and the log answer.
        status: one sentence for people.
        listeners: called with each warning and error of the server.
        refusals: called with what the server refused to clients that are in, such as a publish.
        version: of the program that runs, empty before the first start.
        warning: one sentence on what does not hinder but will, empty if there is nothing.
        last: how the program ended the last time.
        place: where it stood among other servers when it was started.
    """

    def __init__(
        self,
        config: BrokerConfig,
        data_dir: Path,
        issuer: str,
        max_store: int,
        clock: Clock,
        place: Callable[[], Place] = lambda: ALONE,
        *,
        devices: bool = True,
    ) -> None:
        self.ready = asyncio.Event()
        self.status = "the broker is starting"
        self.host = "127.0.0.1"
        self.listeners: list[Callable[[str], None]] = []
        self.refusals: list[Callable[[list[Violation]], None]] = []
        self.version = ""
        self.warning = ""
        self.last: Exit | None = None
        self._config = config
        self._dir = data_dir / "broker"
        self._run_dir = data_dir / "run"
        self._issuer = issuer
        self._max_store = max_store
        self._clock = clock
        self._place_now = place
        self._devices = devices
        self.place = ALONE
        self._restarts = Restarts(clock)
        self._child: Child | None = None
        self._kept: Kept | None = None
        self._start_again = ""
        self._store_failed = ""
        self._lonely = Lonely()

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
    def system_user(self) -> str:
        return SYSTEM

    @property
    def system_password(self) -> str:
        return self._kept.system if self._kept else ""

    @property
    def nats_url(self) -> str:
        return f"nats://{self.host}:{self.port}"

    @property
    def monitor_url(self) -> str:
        return f"http://{self.host}:{self._kept.monitor_port if self._kept else 0}"

    @property
    def mqtt_address(self) -> str:
        """`host:port` that takes MQTT without TLS, from the node itself too; an address of this machine where it listens on all."""
        return shown(*self.mqtt_listener())

    def mqtt_listener(self) -> tuple[str, int]:
        """Host and port of `mqtt_address`."""
        host, port = self._config.address
        return _ANY.get(host, host), port or (self._kept.mqtt_port if self._kept else 0)

    def websocket_listener(self) -> tuple[str, int]:
        """Host and port that take WebSockets without TLS; port 0 where there are none."""
        host, port = self._config.websocket_address or (self.host, 0)
        return _ANY.get(host, host), port or (self._kept.websocket_port if self._kept else 0)

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child is not None and self._child.running else None

    @property
    def restarts(self) -> int:
        return self._restarts.total

    async def run(self) -> None:
        """Keep the server running until cancelled."""
        backoff = Backoff(0.1, 10.0)
        try:
            while True:
                began = self._clock.monotonic()
                try:
                    await self._live()
                except (SkerryError, OSError) as error:
                    self._say(f"the broker does not run: {_words(error)}")
                except Exception as error:  # noqa: BLE001 - a broker that does not start must not end the node
                    self._say(f"the broker does not run: {type(error).__name__}: {error}")
                if self._clock.monotonic() - began > 30:
                    backoff.reset()
                await asyncio.sleep(backoff.next())
        finally:
            self.status = "the broker is stopped"

    def start_again(self, why: str) -> None:
        """End the server and start it again, within some seconds."""
        self._start_again = why

    def _say(self, sentence: str) -> None:
        if sentence != self.status:
            self.status = sentence
            _log.error(sentence)

    async def _live(self) -> None:
        """One life of the server."""
        binary = await asyncio.to_thread(find_binary)
        ended = await end_left_over(self._run_dir, ROLE)
        if ended is not None:
            _log.warning(f"a nats-server that a killed agent had left (pid {ended}) was stopped")
        plan = await asyncio.to_thread(self._prepare)
        check_free(plan)
        if self._child is not None:
            self._restarts.note()
        self._start_again = ""
        self._store_failed = ""
        server_log = ServerLog(Path(plan.log_file))
        argv = [str(binary.path), "-c", str(self._dir / "nats.conf")]
        spec = ChildSpec(ROLE, argv, self._run_dir, stop_s=STOP_S, death_signal=signal.SIGTERM)
        child = self._child = Child(spec)
        await child.start()
        self.version = binary.shown
        following = asyncio.create_task(self._follow(server_log))
        try:
            await self._await_ready(child, plan, server_log)
            serves = f"serves MQTT on {self.mqtt_address}" if plan.mqtt_port else "keeps the log with the others"
            self.status = f"nats-server {self.version} {serves}"
            _log.info(self.status)
            self.ready.set()
            why = await self._watch(child, plan)
            self._say(f"the broker is started again: {why or self._last_words(await child.wait(), server_log)}")
        finally:
            self.ready.clear()
            await cancel_and_wait(following)
            self.last = await (child.stop() if child.running else child.wait())
            server_log.close()

    def _prepare(self) -> ServerPlan:
        """Directories, ports and the configuration file; 0700 and 0600."""
        self.place = place = self._place_now()
        for directory in (self._dir, self._run_dir, self._dir / place.store, self._dir / "log"):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._kept = kept = self._keep()
        host, port = self._config.address
        if place.quiet:
            host, (port,) = self.host, free_ports(self.host, [0], (kept.client_port, kept.monitor_port))
        plan = ServerPlan(
            name=place.name,
            client_port=kept.client_port,
            monitor_port=kept.monitor_port,
            mqtt_host=host,
            mqtt_port=(port or kept.mqtt_port) if self._devices else 0,
            store_dir=str(self._dir / place.store),
            max_store=self._max_store,
            sync=self._config.sync_of(place),
            max_connections=self._config.max_connections,
            log_file=str(self._dir / "log" / "nats.log"),
            pid_file=str(self._dir / "nats.pid"),
            issuer=self._issuer,
            agent_password=kept.agent,
            relay_password=kept.relay,
            sys_password=kept.system,
            websocket_host=(self._config.websocket_address or ("", 0))[0],
            websocket_port=self.websocket_listener()[1] if self._devices and not place.quiet else 0,
            websocket_pages=not self._config.anonymous,
            max_consumers=max(20_000, 2 * self._config.max_connections),
            routes=place.routes,
            replicas=place.replicas,
        )
        self._compare_with_disk(Path(plan.store_dir))
        write_private(self._dir / "nats.conf", render(plan).encode(errors="surrogateescape"))
        return plan

    def _compare_with_disk(self, store: Path) -> None:
        """Warn, once, where the disk is smaller than what may be stored."""
        room = shutil.disk_usage(store).free + sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
        warned, self.warning = self.warning, ""
        if room < self._max_store:
            self.warning = (
                f"the broker may come to store {self._max_store >> 20} MiB and the disk has room for {room >> 20} MiB: "
                "set a smaller broker.retention.size, or make room"
            )
            if not warned:
                _log.warning(self.warning)

    def _keep(self) -> Kept:
        """Ports and passwords of before where they still do, else new ones."""
        kept = read_kept(self._dir)
        if self.place.quiet:
            kept.agent = secrets.token_hex(24)
        host, wanted = self._config.address
        kept.client_port, kept.monitor_port = free_ports(self.host, [kept.client_port, kept.monitor_port])
        ours = (kept.client_port, kept.monitor_port)
        if wanted == 0:
            (kept.mqtt_port,) = free_ports(host, [kept.mqtt_port], ours)
        host, wanted = self._config.websocket_address or ("", 1)
        if wanted == 0:
            (kept.websocket_port,) = free_ports(host, [kept.websocket_port], (*ours, kept.mqtt_port))
        elif not host:
            kept.websocket_port = 0
        write_kept(self._dir, kept)
        return kept

    async def _await_ready(self, child: Child, plan: ServerPlan, server_log: ServerLog) -> None:
        """Until MQTT answers and the server says it is healthy. Raises `UnavailableError`, `CorruptError` in its own words.

        It listens only after its store is recovered, which may take minutes after a power cut; so what counts against it is being
        unhealthy once it listens."""
        began = self._clock.monotonic()
        listening_since: float | None = None
        door = (_ANY.get(plan.mqtt_host, plan.mqtt_host), plan.mqtt_port) if plan.mqtt_port else (self.host, plan.client_port)
        delay = 0.01
        while True:
            if not child.running:
                raise UnavailableError(self._last_words(await child.wait(), server_log))
            if self._start_again:
                raise UnavailableError(self._start_again)
            now = self._clock.monotonic()
            if listening_since is None and await listens(*door):
                listening_since = now
            if listening_since is not None:
                health = await look(plan.monitor_port)
                if health.ok:
                    return
                if plan.routes is not None:
                    # it is not healthy as long as it does not find the others, and then it takes back from them what it lost
                    if now - listening_since > 3:
                        self._say(f"the broker waits for the others of the cluster: {health.error or 'it does not answer'}")
                elif health.lost_stream:
                    raise damaged(health.lost_stream, plan.store_dir)
                elif now - listening_since > UNHEALTHY_S:
                    raise UnavailableError(f"it is not healthy: {health.error or 'it does not answer'}")
            elif now - began > PATIENT_S:
                raise UnavailableError(f"it was not ready within {PATIENT_S:g} s")
            elif now - began > 3:
                self.status = f"nats-server has been reading its store for {now - began:.0f} s"
            await asyncio.sleep(delay)
            delay = min(0.25, delay * 1.3)

    async def _watch(self, child: Child, plan: ServerPlan) -> str:
        """Until it ends (empty), or has to be ended: why."""
        answered, looks = self._clock.monotonic(), 0
        ended = asyncio.create_task(child.wait())
        try:
            while not (await asyncio.wait([ended], timeout=WATCH_S))[0]:
                why = self._start_again or self._look_at_store(Path(plan.store_dir))
                if why:
                    return why
                looks += 1
                if looks % ASK_EVERY:
                    continue
                if (await look(plan.monitor_port, server_only=True)).answered:
                    answered = self._clock.monotonic()
                elif self._clock.monotonic() - answered > HANGS_S:
                    await child.kill()
                    return f"it did not answer for {HANGS_S:g} s and was killed"
        finally:
            await cancel_and_wait(ended)
        return ""

    def _look_at_store(self, store: Path) -> str:
        """Why to start the server again: after a failed write it stores nothing more, also when there is room again."""
        free = shutil.disk_usage(store).free
        if free < NO_ROOM and not self._store_failed:
            self._store_failed = f"{free >> 10} KiB are free"
        if not self._store_failed:
            return ""
        self.ready.clear()
        if free >= ROOM:
            return f"its store could not be written ({self._store_failed}); the disk has room"
        self._say(f"the disk is full: devices get no acknowledgement until {ROOM >> 20} MiB are free for {store}")
        return ""

    async def _follow(self, server_log: ServerLog) -> None:
        """The server's own warnings into our log (a few a second), all of them to `listeners`."""
        behind_tls = self._config.tls is not None
        while True:
            await beat(FOLLOW_S)
            if not server_log.grown:
                continue
            found = await asyncio.to_thread(server_log.read_on)
            if violations := server_log.take_violations():
                for taker in self.refusals:
                    taker(violations)
            for text in found:
                if is_store_failure(text) and not self._store_failed:
                    self._store_failed = text
                for listener in self.listeners:
                    listener(text)
            told = [text for text in found if not (is_refusal(text) or (behind_tls and _PLAIN_WEBSOCKET in text))]
            told = self._lonely.sift(told, self._clock.monotonic())
            for text in told[:TOLD]:
                _log.warning(f"nats-server: {text}")
            if len(told) > TOLD:
                _log.warning(f"nats-server: {len(told) - TOLD} more warnings in {server_log.path}")

    def _last_words(self, exit_: Exit, server_log: ServerLog) -> str:
        server_log.read_on()
        how = exit_.sentence if exit_.code else "it ended by itself"
        why = explain([*exit_.tail.splitlines(), *(text for text in server_log.complaints if _PLAIN_WEBSOCKET not in text)])
        return why if exit_.code > 0 and why else f"{how}{f' ({why})' if why and why not in how else ''}"


def damaged(stream: str, store_dir: str) -> CorruptError:
    """`stream`: `ACCOUNT > NAME`, as the server names it."""
    account, _, name = stream.partition(" > ")
    place = Path(store_dir, "jetstream", account, "streams", name)
    return CorruptError(
        f"the stream {name} cannot be recovered; nothing was deleted, it is in {place}",
        mend="restore the broker directory from a backup, or move that one away to go on without what it holds",
    )


def _words(error: SkerryError | OSError) -> str:
    if isinstance(error, SkerryError):
        return str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full; make room"
    return f"{error.filename or 'its directory'} cannot be written: {error.strerror or error}; check node.data_dir"
