"""The node's dashboard: whether there is one, what it is told, and what `status` says of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from skerry.api import Api
from skerry.config import NodeConfig
from skerry.core.clock import Clock
from skerry.core.errors import ConfigError
from skerry.core.settings import place
from skerry.dashboard import Assignment, DashboardProcess, installed
from skerry.node.tls import site_authority, tls_files
from skerry.runtime import Confinement, machine_names

Row = dict[str, Any]
_MISSING = "the extra is not installed"
_MEND = "pip install 'skerry[dashboard]', or set dashboard.enabled to false"


class NodeDashboard(DashboardProcess):
    """The dashboard with what a node's configuration says; off where it says so, and where the extra is not installed.

    Raises `ConfigError` when made, where the configuration asks for a dashboard by name and the extra is missing.
    """

    def __init__(
        self, config: NodeConfig, clock: Clock, confinement: Confinement | None = None, there: Callable[[], bool] = installed
    ) -> None:
        super().__init__(config.data_dir / "run", clock, confinement)
        self._config = config
        section = config.dashboard
        self.missing = section.enabled is not False and not there()
        if self.missing and section.enabled:
            raise ConfigError(_MISSING, where=f"{place(config.path)}: dashboard.enabled", mend=_MEND)
        self.on = section.enabled is not False and not self.missing

    async def serve(self, api: Api) -> None:
        """Wait until the API listens, then keep the dashboard running until cancelled."""
        if not self.on:
            return
        await api.listening.wait()
        self.assign(self._assignment(api))
        await self.run()

    def _assignment(self, api: Api) -> Assignment:
        config = self._config
        host, port = config.dashboard.address
        tls = tls_files(config).get("api")
        ca = site_authority(config).certificate if tls is not None else None
        names = [*config.api.hosts, *(machine_names() if tls is not None else ())]
        return Assignment(
            host=host,
            port=port,
            api=_near(config, api),
            ca=str(ca) if ca is not None and Path(ca).exists() else "",
            names=[name.lower().rstrip(".") for name in names],
            cert=str(tls.cert) if tls is not None else "",
            key=str(tls.key) if tls is not None else "",
        )

    @property
    def url(self) -> str:
        """Where it is; empty until it listens."""
        return self.report.url if self.report is not None else ""

    @property
    def expected_url(self) -> str:
        """Where it is or will be, as the configuration has it; empty where it is off."""
        return "" if not self.on else self.url or f"{'https' if self._config.api.tls else 'http'}://{self._config.dashboard.listen}"

    def status(self) -> Row | None:
        """`{url, sentence}`; None where it is off."""
        if self.missing:
            return {"url": "", "sentence": f"{_MISSING}: {_MEND}"}
        if not self.on:
            return None
        words = self.report.sentence if self.report is not None else "starting"
        return {"url": self.url, "sentence": words}

    def warnings(self) -> list[str]:
        """What a person should look at, one sentence each."""
        found: list[str] = []
        if self.restarts.total:
            found.append(self.restarts.sentence("the dashboard", self.last_words))
        if self.report is not None and not self.report.url:
            found.append(f"dashboard: {self.report.sentence}")
        return found


def _near(config: NodeConfig, api: Api) -> str:
    """The API's address as seen from this machine: one that listens on all addresses is asked on loopback."""
    host, port = config.api.address[0], api.port
    scheme = api.url.partition(":")[0]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
