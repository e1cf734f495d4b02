"""What a node writes down of its cluster before anything of it starts."""

import ssl
from pathlib import Path

import pytest

from skerry.cluster import has_joined
from skerry.config import NodeConfig, load
from skerry.core.clock import SECOND, ManualClock, SystemClock
from skerry.core.errors import ConfigError
from skerry.node.cluster import NodeCluster, cluster_config, cluster_folder, kept_port, prepare
from skerry.node.cluster.founding import cluster_tls
from skerry.node.cluster.shared import SHARED, shared, take
from skerry.trust import certificate_facts, signed_by

CLOCK = SystemClock()
DAY = 86_400 * SECOND
PIPELINE = '[[pipelines]]\nname = "levels"\nsource = { topic = "devices/+/level", values = ["x"] }\n'


def written(folder: Path, cluster: str = "", name: str = "a", site: str = "quay") -> NodeConfig:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "skerry.toml"
    listen = "" if "listen" in cluster else 'listen = "127.0.0.1:0"\n'
    node = f'[node]\nname = "{name}"\nsite = "{site}"\n[runtime]\nworkers = 2\n'
    file.write_text(f"{node}[cluster]\nenabled = true\n{listen}{cluster}\n{PIPELINE}")
    return load(file)


def test_a_founder_has_all_that_members_share(tmp_path: Path) -> None:
    config = written(tmp_path)
    joined = prepare(config, CLOCK)
    folder = cluster_folder(config)
    assert joined == has_joined(folder)
    assert (joined.site, joined.by, [node.id for node in joined.members]) == ("quay", "a", ["a"])
    assert joined.members[0].address == cluster_config(config).address
    certificate = (folder / "node.pem").read_bytes()
    assert signed_by(certificate, (config.data_dir / "tls" / "ca.pem").read_bytes())
    assert {"a", "127.0.0.1"} <= set(certificate_facts(certificate).names)
    ssl.create_default_context().load_cert_chain(folder / "node.pem", folder / "node.key")
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in folder.iterdir())
    before = certificate
    assert prepare(config, CLOCK) == joined
    assert (folder / "node.pem").read_bytes() == before


def test_the_certificate_is_signed_anew_before_it_ends_and_for_another_address(tmp_path: Path) -> None:
    config = written(tmp_path)
    prepare(config, CLOCK)
    first = cluster_tls(config).cert.read_bytes()
    prepare(config, ManualClock(CLOCK.now() + 800 * DAY))
    second = cluster_tls(config).cert.read_bytes()
    assert second != first
    prepare(written(tmp_path, 'advertise = "box.example:7443"'), CLOCK)
    assert "box.example" in certificate_facts(cluster_tls(config).cert.read_bytes()).names


def test_a_node_of_another_site_is_told_where_it_belongs(tmp_path: Path) -> None:
    prepare(written(tmp_path), CLOCK)
    with pytest.raises(ConfigError, match='this node is in the cluster of quay; set it to "quay", or remove'):
        prepare(written(tmp_path, site="farm"), CLOCK)


@pytest.mark.parametrize(
    ("cluster", "address"),
    [
        ('listen = "127.0.0.1:7001"', "127.0.0.1:7001"),
        ('listen = "[::1]:7001"', "[::1]:7001"),
        ('listen = "127.0.0.1:7001"\nadvertise = "box:7443"', "box:7443"),
    ],
)
def test_the_address_is_what_others_reach(tmp_path: Path, cluster: str, address: str) -> None:
    assert cluster_config(written(tmp_path, cluster)).address == address


def test_an_address_of_this_machine_stands_for_all_of_them(tmp_path: Path) -> None:
    host, _, port = cluster_config(written(tmp_path, 'listen = "0.0.0.0:7001"')).address.rpartition(":")
    assert port == "7001"
    assert host not in ("0.0.0.0", "")


def test_a_port_of_the_kernels_is_kept(tmp_path: Path) -> None:
    first = kept_port(tmp_path, "listen", "127.0.0.1")
    other = kept_port(tmp_path, "routes", "127.0.0.1")
    assert first != other
    assert kept_port(tmp_path, "listen", "127.0.0.1") == first


def test_what_is_shared_arrives_and_what_was_there_is_kept_aside(tmp_path: Path) -> None:
    config = written(tmp_path / "a")
    for name in SHARED.values():
        (config.data_dir / name).parent.mkdir(parents=True, exist_ok=True)
    (config.data_dir / "keys" / "issuer.seed").write_text("seed")
    prepare(config, CLOCK)
    given = shared(config.data_dir)
    assert set(given) == set(SHARED)
    other = tmp_path / "b"
    (other / "tls").mkdir(parents=True)
    (other / "tls" / "ca.pem").write_text("mine")
    take(other, {**given, "unknown": "x"})
    assert shared(other) == given
    assert (other / "tls" / "ca.pem.before-joining").read_text() == "mine"
    assert all((other / place).stat().st_mode & 0o777 == 0o600 for place in SHARED.values())


def test_without_a_cluster_a_node_leads_and_all_work_is_its_own(tmp_path: Path) -> None:
    config = written(tmp_path)
    (tmp_path / "skerry.toml").write_text((tmp_path / "skerry.toml").read_text().replace("enabled = true", "enabled = false"))
    alone = NodeCluster(load(tmp_path / "skerry.toml"), CLOCK)
    assert not alone.enabled
    assert alone.leads
    assert alone.quorum
    assert alone.mine() == {"levels/0", "levels/1"}
    assert alone.hold("levels/1")
    assert not alone.hold("levels/2")
    assert alone.members() == []
    assert alone.status() is None
    assert not cluster_folder(config).exists()


def test_a_certificate_that_ends_soon_is_told(tmp_path: Path) -> None:
    config = written(tmp_path)
    clock = ManualClock(CLOCK.now())
    member = NodeCluster(config, clock)
    assert member.warnings() == []
    clock.advance(800 * DAY)
    (warning,) = member.warnings()
    assert warning.startswith("the node's certificate in the cluster ends on ")
    assert warning.endswith("start the node again, and it signs another")
    assert NodeCluster(config, clock).warnings() == []
