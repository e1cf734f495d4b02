"""Nodes of the local network by mDNS: says that this one is there, and listens who else is."""

import asyncio
import ipaddress
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from skerry.cluster.beacon import SERVICE, Found, instance, read_text, text_of
from skerry.cluster.joining import hello_of
from skerry.core import log
from skerry.core.errors import SkerryError, UnavailableError
from skerry.core.service import cancel_and_wait
from skerry.runtime import machine_names

if TYPE_CHECKING:
    from zeroconf import ServiceStateChange, Zeroconf
    from zeroconf.asyncio import AsyncServiceBrowser, AsyncZeroconf

MOST_FOUND = 256
ASK_MS = 1500
QUIET_S = 0.5
_log = log.get("cluster")


class Discovery:
    """Announces a node, and keeps a list of those that are announced, on all interfaces, by IPv4 and IPv6.

    Use as an async context manager. `mine` None: it only listens. At most 256 nodes are kept.

    Attributes:
        found: by name of the service.
    """

    def __init__(self, mine: Found | None = None, port: int = 0) -> None:
        self.found: dict[str, Found] = {}
        self._mine = mine
        self._port = port
        self._zeroconf: AsyncZeroconf | None = None
        self._browser: AsyncServiceBrowser | None = None
        self._asking: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        from zeroconf import IPVersion, NonUniqueNameException  # late: only clusters pay for it
        from zeroconf.asyncio import AsyncServiceBrowser, AsyncZeroconf

        try:
            try:
                self._zeroconf = AsyncZeroconf(ip_version=IPVersion.All)
            except OSError:  # a machine without IPv6
                self._zeroconf = AsyncZeroconf(ip_version=IPVersion.V4Only)
            self._browser = AsyncServiceBrowser(self._zeroconf.zeroconf, SERVICE, handlers=[self._heard])
            if self._mine is not None:
                await self._zeroconf.async_register_service(self._info(self._mine))
        except OSError as error:
            await self.close()
            raise UnavailableError(
                f"mDNS is not possible here: {error.strerror or error}", mend='set discovery = "seeds"'
            ) from error
        except NonUniqueNameException as error:
            await self.close()
            name = self._mine.id if self._mine else ""
            raise UnavailableError(f"another node of this site on the network is called {name}", mend="rename one") from error
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Say goodbye and end."""
        await cancel_and_wait(*self._asking)
        browser, self._browser = self._browser, None
        zeroconf, self._zeroconf = self._zeroconf, None
        if browser is not None:
            await browser.async_cancel()
        if zeroconf is not None:
            with suppress(OSError, TimeoutError):
                await zeroconf.async_unregister_all_services()
            await zeroconf.async_close()

    def nodes(self) -> list[Found]:
        """Those that are announced now, by id and site."""
        return sorted(self.found.values(), key=lambda found: (found.site, found.id))

    async def settled(self, timeout: float) -> list[Found]:
        """`nodes()` after so many seconds, or when another than this one was found and for half a second no more came."""
        loop = asyncio.get_running_loop()
        end, seen, since = loop.time() + timeout, -1, loop.time()
        while loop.time() < end:
            if len(self.found) != seen:
                seen, since = len(self.found), loop.time()
            if seen > (self._mine is not None) and loop.time() - since > QUIET_S:
                break
            await asyncio.sleep(0.05)
        return self.nodes()

    def _info(self, mine: Found) -> Any:
        from zeroconf.asyncio import AsyncServiceInfo

        name = instance(mine.id, mine.site)
        addresses = mine.addresses or _own_addresses()
        server = f"{name.removesuffix('.' + SERVICE)}.local."
        return AsyncServiceInfo(
            SERVICE, name, port=self._port, properties=text_of(mine), parsed_addresses=list(addresses), server=server
        )

    def _heard(self, zeroconf: "Zeroconf", service_type: str, name: str, state_change: "ServiceStateChange") -> None:
        from zeroconf import ServiceStateChange

        if state_change is ServiceStateChange.Removed:
            self.found.pop(name, None)
            return
        if name not in self.found and len(self.found) + len(self._asking) >= MOST_FOUND:
            _log.warning(f"more than {MOST_FOUND} nodes are announced by mDNS; {name} is passed over")
            return
        task = asyncio.get_running_loop().create_task(self._ask(zeroconf, service_type, name))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def _ask(self, zeroconf: "Zeroconf", service_type: str, name: str) -> None:
        from zeroconf import IPVersion
        from zeroconf.asyncio import AsyncServiceInfo

        info = AsyncServiceInfo(service_type, name)
        if not await info.async_request(zeroconf, ASK_MS):
            return
        addresses = tuple(info.parsed_scoped_addresses(IPVersion.All))
        found = read_text(info.decoded_properties, addresses, info.port or 0)
        if found is not None:
            self.found[name] = found


def _own_addresses() -> tuple[str, ...]:
    """Addresses of this machine that others can reach."""
    found = []
    for name in machine_names():
        with suppress(ValueError):
            address = ipaddress.ip_address(name)
            if not address.is_loopback:
                found.append(str(address))
    return tuple(found) or ("127.0.0.1",)


async def ask_seeds(seeds: Sequence[str], timeout: float) -> list[Found]:
    """Nodes that answer at these join ports, of all sites."""

    async def ask(seed: str) -> Found | None:
        with suppress(SkerryError, TimeoutError):
            async with asyncio.timeout(timeout):
                return await hello_of(seed)
        return None

    return [found for found in await asyncio.gather(*(ask(seed) for seed in seeds)) if found is not None]
