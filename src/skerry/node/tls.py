"""The node's TLS: certificates checked at the start, renewed, and taken anew when their files change; the broker's TLS ports."""

import asyncio
import ssl
from contextlib import suppress
from pathlib import Path

from skerry.broker import Callers, ConnectRequest, NatsServer, TlsPort, parse_address
from skerry.config import NodeConfig
from skerry.core import log
from skerry.core.clock import Clock, to_rfc3339
from skerry.core.errors import SkerryError
from skerry.core.service import cancel_and_wait
from skerry.core.settings import place
from skerry.runtime import allow_open_files, machine_names
from skerry.trust import RENEW_DAYS, CertificateFacts, ServerTls, SiteAuthority, TlsFiles

LOOK_S = 2.0
RENEW_EVERY = 900
NEARLY = 0.8
FILES_EACH, FILES_ELSE = 2, 512
"""Open files of a TLS connection (its two ends), and of all else in the agent."""
_log = log.get("tls")


def site_authority(config: NodeConfig) -> SiteAuthority:
    """The site's own authority, whether it has been made or not."""
    return SiteAuthority(config.data_dir / "tls")


def tls_files(config: NodeConfig) -> dict[str, TlsFiles]:
    """The PEM files of the configuration by section: of `broker`, of `api`, of both, or none."""
    found: dict[str, TlsFiles] = {}
    broker, api = config.broker.tls, config.api.tls
    if broker is not None:
        ca = _path(config, broker.ca) if broker.ca else None
        found["broker"] = TlsFiles(f"{place(config.path)}: broker.tls", _path(config, broker.cert), _path(config, broker.key), ca)
    if api is not None:
        found["api"] = TlsFiles(f"{place(config.path)}: api.tls", _path(config, api.cert), _path(config, api.key))
    return found


def is_own(config: NodeConfig, files: TlsFiles) -> bool:
    """Whether the node signs this certificate itself, and so renews it."""
    own = site_authority(config)
    return own.exists and files.cert.resolve() == own.server[0].resolve()


def make_certificates(config: NodeConfig, clock: Clock, hosts: tuple[str, ...] = ()) -> list[Path]:
    """Make the site's authority where there is none, and sign the node's certificate; the files that were written.

    Raises `RejectedError` for a name that is none, `UnavailableError` when they cannot be written.
    """
    authority = site_authority(config)
    written: list[Path] = []
    with suppress(OSError):  # what hinders here hinders below, and is told there
        config.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not authority.exists:
        authority.create(config.node.site, clock.now())
        written.append(authority.certificate)
    authority.renew((*machine_names(), *hosts), clock.now())
    return [*written, *authority.server]


def _path(config: NodeConfig, text: str) -> Path:
    return config.base / Path(text).expanduser()


class NodeTls:
    """All of a node's TLS. `run` works until cancelled; it looks at the files every `look_s` seconds, and whether the node's own
    certificate has to be signed anew after so many looks.

    Raises `ConfigError` when made: the first thing that is wrong with the files, before anything listens.
    """

    def __init__(
        self, config: NodeConfig, server: NatsServer, clock: Clock, *, look_s: float = LOOK_S, renew_every: int = RENEW_EVERY
    ) -> None:
        self._look_s, self._renew_every = look_s, renew_every
        self._config = config
        self._server = server
        self._clock = clock
        self._authority = site_authority(config)
        self._renewal = self._bound = ""
        self._room = 0
        files = tls_files(config)
        self._own = any(is_own(config, each) for each in files.values())
        self._renew()
        self._served = {section: ServerTls(each, clock) for section, each in files.items()}
        self._callers = Callers()
        self._ports = self._made_ports()

    def _made_ports(self) -> dict[str, TlsPort]:
        broker, served = self._config.broker, self._served.get("broker")
        ports: dict[str, TlsPort] = {}
        if served is None:
            return ports
        files = allow_open_files(FILES_EACH * broker.max_connections + FILES_ELSE)
        most = self._room = room_for(files, broker.max_connections)
        fewer = most < broker.max_connections
        self._bound = "raise the limit of open files (LimitNOFILE)" if fewer else "raise broker.max_connections"

        def context() -> ssl.SSLContext:
            return served.context

        if broker.mqtts:
            listen = parse_address(broker.mqtts, "mqtts")
            ports["mqtts"] = TlsPort("mqtts", listen, self._server.mqtt_listener, context, self._callers, most)
        if broker.websocket:
            listen = parse_address(broker.websocket, "websocket")
            target = self._server.websocket_listener
            ports["websocket"] = TlsPort("websocket", listen, target, context, self._callers, most, websocket=True)
        return ports

    @property
    def api_context(self) -> ssl.SSLContext | None:
        """What HTTP listens with."""
        served = self._served.get("api")
        return served.context if served is not None else None

    @property
    def api_names(self) -> tuple[str, ...]:
        """What HTTP's certificate is for: names by which clients reach it."""
        served = self._served.get("api")
        return served.facts.names if served is not None else ()

    @property
    def addresses(self) -> dict[str, str]:
        """`host:port` by key: of the broker's TLS ports, and of WebSockets without TLS; empty until one listens."""
        found = {name: port.address for name, port in self._ports.items()}
        if self._config.broker.websocket and not found:
            host, port = self._server.websocket_listener()
            found["websocket"] = f"{f'[{host}]' if ':' in host else host}:{port}" if port else ""
        return found

    def resolve(self, request: ConnectRequest) -> ConnectRequest | None:
        """The request as the client made it: what came over TLS reaches the broker with other credentials. None: it has gone."""
        return self._callers.resolve(request)

    async def run(self) -> None:
        """Listen, renew, and look at the files, until cancelled."""
        ports = [asyncio.create_task(port.run()) for port in self._ports.values()]
        looks = 0
        try:
            while True:
                await asyncio.sleep(self._look_s)
                looks += 1
                try:
                    await asyncio.to_thread(self._look, looks % self._renew_every == 0)
                except Exception as error:  # noqa: BLE001 - what cannot be looked at must not end the ports
                    _log.error(f"the certificates could not be looked at: {error}", kind=type(error).__name__)
        finally:
            await cancel_and_wait(*ports)

    def _look(self, renew: bool) -> None:
        if renew:
            self._renew()
        for section, served in self._served.items():
            before = served.trouble
            if served.refresh():
                until = to_rfc3339(served.facts.not_after)
                _log.info(f"the certificate of {section}.tls is another one now: good until {until}")
            elif served.trouble and served.trouble != before:
                _log.error(f"newer files of {section}.tls are not used: {served.trouble}")

    def _renew(self) -> None:
        """Sign the node's own certificate anew where that is due; what hinders it is told, and tried again."""
        if not self._own:
            return
        names, now = machine_names(), self._clock.now()
        try:
            why = self._authority.due(names, now)
            if why:
                self._authority.renew(names, now)
                _log.info(f"the node's certificate was signed anew: {why}")
            self._renewal = ""
        except SkerryError as error:
            self._renewal = f"the node's certificate cannot be renewed: {error}"
            _log.error(self._renewal)

    def warnings(self) -> list[str]:
        """What a person should look at, one sentence each."""
        found = [port.status for port in self._ports.values() if not port.ready.is_set()]
        found += [self._renewal] if self._renewal else []
        up = sum(len(port.open) for port in self._ports.values())
        if self._ports and up > NEARLY * self._room:
            found.append(f"{up} of at most {self._room} TLS connections are up: {self._bound}")
        for section, served in self._served.items():
            if served.trouble:
                found.append(f"newer files of {section}.tls are not used: {served.trouble}")
            if sentence := judge(served.facts, self._clock.now(), RENEW_DAYS):
                found.append(f"the certificate of {section}.tls {sentence}")
        return found


def room_for(files: int, most: int) -> int:
    """How many TLS connections so many open files are enough for; no more than `most`."""
    return max(16, min(most, (files - FILES_ELSE) // FILES_EACH))


def judge(facts: CertificateFacts, now: int, days: int) -> str:
    """What is wrong with the dates of a certificate: a sentence without its subject; empty while it is good for so many days."""
    left = facts.days_left(now)
    if now < facts.not_before:
        return f"is good from {to_rfc3339(facts.not_before)[:10]} only: is this machine's clock right?"
    if left < 0:
        return f"ended on {to_rfc3339(facts.not_after)[:10]}: nobody can connect"
    return f"ends on {to_rfc3339(facts.not_after)[:10]}, in {left} day{'' if left == 1 else 's'}" if left < days else ""
