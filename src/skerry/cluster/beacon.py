"""What a node says of itself by mDNS, and what is made of what others say (RFC 6763). Pure."""

import hashlib
import re
from collections.abc import Mapping

import msgspec

SERVICE = "_skerry._tcp.local."
_LONGEST = 63
_TEXT = re.compile(r"[^\x00-\x1f\x7f]{0,200}")


class Found(msgspec.Struct, frozen=True):
    """A node that was found, which is no reason to trust it. `address`: `host:port` of its join port."""

    id: str
    site: str
    version: str
    address: str
    addresses: tuple[str, ...] = ()


def instance(node: str, site: str) -> str:
    """The name of the service: the same node of two sites on one network has two."""
    mark = hashlib.sha256(site.encode()).hexdigest()[:8]
    return f"{node[: _LONGEST - 9]}-{mark}.{SERVICE}"


def text_of(found: Found) -> dict[str, str]:
    """The TXT record."""
    return {"id": found.id, "site": found.site, "version": found.version, "address": found.address}


def read_text(text: Mapping[str, str | None], addresses: tuple[str, ...], port: int) -> Found | None:
    """What a TXT record says; None for one that no node writes. Without an address in it, the first one that answered is taken."""
    values = {key: text.get(key) or "" for key in ("id", "site", "version", "address")}
    if not values["id"] or any(_TEXT.fullmatch(value) is None for value in values.values()):
        return None
    if not values["address"] and addresses:
        host = addresses[0]
        values["address"] = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return Found(values["id"], values["site"], values["version"], values["address"], addresses)
