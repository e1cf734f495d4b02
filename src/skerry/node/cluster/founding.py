"""How a node becomes one of a cluster: it has joined, or founds one of its own; its name, address and certificate there."""

import ipaddress
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from skerry.broker import parse_address
from skerry.cluster import (
    CA,
    CERTIFICATE,
    KEY,
    ClusterConfig,
    ClusterManager,
    EdgeNode,
    Joined,
    NodeStatus,
    has_joined,
    join,
    keep_joined,
)
from skerry.config import NodeConfig
from skerry.core import log
from skerry.core.clock import Clock
from skerry.core.errors import ConfigError, RejectedError, UnavailableError
from skerry.core.files import replace_synced
from skerry.core.units import parse_rate, parse_size
from skerry.node.cluster.shared import take
from skerry.node.tls import make_certificates, site_authority
from skerry.runtime import DirectoryLock, ResourceUsage, free_ports, machine_names
from skerry.trust import RENEW_DAYS, SigningKey, TlsFiles, certificate_facts, issue_node, new_request

HEAR_S = 3.0
REMOVED = "removed"
_ALL = ("0.0.0.0", "::")
_log = log.get("cluster")


def cluster_folder(config: NodeConfig) -> Path:
    """Where the node keeps what it knows of its cluster."""
    return config.data_dir / "cluster"


def ticket_file(config: NodeConfig) -> Path:
    """The key that signs join tokens, the same on all members."""
    return config.data_dir / "keys" / "ticket.pem"


def cluster_tls(config: NodeConfig) -> TlsFiles:
    """Certificate and key of the join port, and the authority of the members that show theirs."""
    folder = cluster_folder(config)
    return TlsFiles("cluster", folder / CERTIFICATE, folder / KEY, folder / CA)


def kept_port(folder: Path, name: str, host: str) -> int:
    """A port that the kernel gave once, and that is kept under this name. Raises `UnavailableError`."""
    file = folder / "ports.json"
    ports: dict[str, int] = {}
    with suppress(OSError, msgspec.MsgspecError):
        ports = msgspec.json.decode(file.read_bytes(), type=dict[str, int])
    if name not in ports:
        (ports[name],) = free_ports(host, [0], tuple(ports.values()))
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            replace_synced(file, msgspec.json.encode(ports))
        except OSError as error:
            raise UnavailableError(f"cannot be written: {error.strerror}", where=str(file)) from error
    return ports[name]


def kept_instance(folder: Path) -> str:
    """What tells this data directory from that of another node of the same name; made once. Raises `UnavailableError`.

    A node that starts again with it needs not wait whether the one before it still works: the lock on the directory says so."""
    file = folder / "instance"
    try:
        with suppress(FileNotFoundError):
            return file.read_text("ascii").strip()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        replace_synced(file, secrets.token_hex(8).encode())
        return file.read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise UnavailableError(f"cannot be kept: {error}", where=str(file), mend="see who owns it, and the disk") from error


def listen_address(config: NodeConfig) -> tuple[str, int]:
    """Where the join port listens."""
    host, port = parse_address(config.cluster.listen, "cluster.listen")
    return host, port or kept_port(cluster_folder(config), "listen", host)


def own_address(config: NodeConfig) -> str:
    """`host:port` where the others reach the join port."""
    if config.cluster.advertise:
        return config.cluster.advertise
    host, port = listen_address(config)
    if host in _ALL:
        host = _outer_address(6 if ":" in host else 4)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _outer_address(version: int) -> str:
    """An address of this machine that others reach, of this version of IP where there is one."""
    found = []
    for name in machine_names():
        with suppress(ValueError):
            address = ipaddress.ip_address(name)
            if not address.is_loopback and not address.is_link_local:
                found.append(address)
    found.sort(key=lambda address: address.version != version)
    return str(found[0]) if found else "127.0.0.1"


def cluster_config(config: NodeConfig) -> ClusterConfig:
    """What the node is to the others."""
    resources = config.resources
    network = parse_rate(resources.network) if resources.network else 0
    return ClusterConfig(
        node=config.node.name,
        site=config.node.site,
        address=own_address(config),
        capabilities=config.node.capabilities,
        resources=ResourceUsage(memory=parse_size(resources.memory), cpu=resources.cpu, network=network),
        discovery=config.cluster.discovery,
        seeds=config.cluster.seeds,
        instance=kept_instance(cluster_folder(config)),
    )


def prepare(config: NodeConfig, clock: Clock) -> Joined:
    """What the node knows of its cluster, before anything of it starts; one that has not joined founds a cluster of one.

    Raises `ConfigError` where it joined under another name or site, `UnavailableError` where the files cannot be read or written.
    """
    folder = cluster_folder(config)
    joined = has_joined(folder)
    if (folder / REMOVED).exists():
        note_removal(config)
    if joined is None:
        return _found(config, clock)
    if joined.site != config.node.site:
        raise ConfigError(
            f"this node is in the cluster of {joined.site}",
            where="node.site",
            mend=f'set it to "{joined.site}", or remove {folder}',
        )
    authority = site_authority(config)
    if joined.share and (not authority.exists or authority.certificate.read_bytes() != (folder / CA).read_bytes()):
        _take(config, joined, clock)  # the power went before that was done
    _renew(config, clock)
    return joined


def note_removal(config: NodeConfig) -> None:
    """This node was taken out of its cluster; it does not start again as one of it. Raises `RejectedError`."""
    folder = cluster_folder(config)
    replace_synced(folder / REMOVED, b"")
    raise RejectedError(
        f"{config.node.name} was removed from the cluster", where=str(folder),
        mend=f"to have it join again, remove {folder} and {config.data_dir / 'broker'}, and use a new token",
    )  # fmt: skip


def _found(config: NodeConfig, clock: Clock) -> Joined:
    if not site_authority(config).exists:
        make_certificates(config, clock)
    ticket = ticket_file(config)
    if not ticket.is_file():
        try:
            ticket.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            replace_synced(ticket, SigningKey.new().pem().encode())
        except OSError as error:
            raise UnavailableError(f"cannot be written: {error.strerror}", where=str(ticket)) from error
    own = cluster_config(config)
    me = EdgeNode(own.node, own.address, NodeStatus.JOINING, own.capabilities, own.resources, own.version, own.site)
    joined = Joined(own.site, own.node, (me,), {})
    _issue(config, clock, joined)
    _log.info(f"a cluster of one: others join at {own.address} with a token of `skerry cluster token create`")
    return joined


def _issue(config: NodeConfig, clock: Clock, joined: Joined) -> None:
    """Sign the node's certificate and keep it with what it knows of its cluster."""
    authority = site_authority(config).load()
    asked = new_request(config.node.name)
    certificate = issue_node(authority, asked.certificate, config.node.name, _names(config), clock.now())
    keep_joined(cluster_folder(config), authority.certificate.decode(), certificate.decode(), asked.key, joined)


def _names(config: NodeConfig) -> tuple[str, ...]:
    host = parse_address(own_address(config), "cluster.advertise")[0]
    return tuple(dict.fromkeys((host, *machine_names())))


def _renew(config: NodeConfig, clock: Clock) -> None:
    """Sign the node's certificate anew where it ends soon, or is not for the address or name that the node has now."""
    joined = has_joined(cluster_folder(config))
    assert joined is not None
    facts = certificate_facts(cluster_tls(config).cert.read_bytes())
    host = parse_address(own_address(config), "cluster.advertise")[0]
    if facts.days_left(clock.now()) >= RENEW_DAYS and {host, config.node.name} <= set(facts.names):
        return
    _issue(config, clock, joined)
    _log.info("the node's certificate in the cluster was signed anew")


def _take(config: NodeConfig, joined: Joined, clock: Clock) -> None:
    take(config.data_dir, joined.share)
    make_certificates(config, clock)


async def join_site(
    config: NodeConfig,
    clock: Clock,
    *,
    token: str = "",
    address: str = "",
    tell: Callable[[str], None] = lambda sentence: None,
) -> Joined:
    """Join a cluster as this node, which must not run.

    Raises `RejectedError` with the reason why it was not let in, `UnavailableError` where no member answers or the node runs.
    """
    config.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = DirectoryLock(config.data_dir)
    lock.take()
    try:
        own = cluster_config(config)
        addresses = (address,) if address else () if token or own.seeds else await _heard(own, tell)
        joined = await join(own, cluster_folder(config), token=token, addresses=addresses, tell=tell, clock=clock)
        _take(config, joined, clock)
    finally:
        lock.release()
    return joined


async def _heard(own: ClusterConfig, tell: Callable[[str], None]) -> tuple[str, ...]:
    """Addresses of members of this site that announce themselves by mDNS."""
    if own.discovery == "seeds":
        return ()
    tell("looking for members by mDNS")
    found = await ClusterManager(own).discover_nodes(HEAR_S)
    return tuple(node.address for node in found if node.id != own.node and node.address)
