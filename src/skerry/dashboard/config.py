"""`[dashboard]`: whether there is a web page, and where it listens."""

from importlib.util import find_spec

import msgspec

from skerry.broker import parse_address


class DashboardConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table `[dashboard]`.

    Attributes:
        enabled: left out: shown where the extra is installed.
        listen: `host:port`; port 0 asks the kernel. Beyond loopback everybody logs in with a token of the API.
    """

    enabled: bool | None = None
    listen: str = "127.0.0.1:8081"

    def __post_init__(self) -> None:
        parse_address(self.listen, "listen")

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of `listen`."""
        return parse_address(self.listen, "listen")


def installed() -> bool:
    """Whether the extra `skerry[dashboard]` is there."""
    return find_spec("nicegui") is not None
