"""Where a node stands, as its files say."""

from pathlib import Path

import pytest

from skerry.broker import ALONE
from skerry.cluster import Servers, write_servers
from skerry.config import NodeConfig, load
from skerry.core.clock import SystemClock
from skerry.core.errors import ConfigError
from skerry.node.cluster import Growth, NodeCluster, cluster_folder
from skerry.node.cluster.seat import PROMOTED, TURN, Seat
from skerry.trust import KeyPair, Role

SEED = KeyPair.new(Role.ACCOUNT).seed
MEMBERS = (("a", "127.0.0.1:7001"), ("b", "127.0.0.1:7002"), ("c", "127.0.0.1:7003"))


def written(folder: Path, cluster: str, name: str = "a") -> NodeConfig:
    folder.mkdir(exist_ok=True)
    (folder / "skerry.toml").write_text(f'[node]\nname = "{name}"\nsite = "quay"\n[cluster]\n{cluster}\n')
    return load(folder / "skerry.toml")


def seat_of(config: NodeConfig) -> Seat:
    return Seat(config, SEED, NodeCluster(config, SystemClock()))


def test_a_node_in_no_cluster_is_alone_whatever_lies_there(tmp_path: Path) -> None:
    config = written(tmp_path, "enabled = false")
    write_servers(cluster_folder(config), Servers("quay", 3, MEMBERS))
    seat = seat_of(config)
    seat.quiet = True
    assert (seat.state, seat.place()) == ("alone", ALONE)


def test_a_log_that_the_cluster_keeps_is_not_left_behind_unasked(tmp_path: Path) -> None:
    config = written(tmp_path, "enabled = false")

    async def stop() -> None:
        raise AssertionError("nothing runs")

    def made() -> Growth:
        return Growth(config, SystemClock(), SEED, NodeCluster(config, SystemClock()), stop)

    growth = made()
    assert (growth.settled.is_set(), growth.may_serve.is_set(), growth.replicas, growth.place()) == (True, True, 1, ALONE)
    write_servers(cluster_folder(config), Servers("quay", 3, MEMBERS))
    with pytest.raises(ConfigError, match="kept by the servers of its cluster"):
        made()


def test_a_founder_goes_from_alone_to_whole_and_is_quiet_only_alone(tmp_path: Path) -> None:
    seat = seat_of(written(tmp_path, 'enabled = true\nlisten = "127.0.0.1:0"'))
    assert (seat.state, seat.founder, seat.place()) == ("alone", True, ALONE)
    seat.quiet = True
    assert seat.place().quiet
    write_servers(seat.folder, Servers("quay-1", 3, MEMBERS, "growing", 1))
    place = seat.place()
    assert (seat.state, place.quiet, place.store, place.replicas) == ("growing", False, "clustered-1", 3)
    write_servers(seat.folder, Servers("quay-1", 3, MEMBERS, "whole", 1))
    assert seat.state == "whole"
    write_servers(seat.folder, None)
    assert seat.state == "alone", "it went back"


def test_who_has_joined_stands_by_until_a_person_promotes_it(tmp_path: Path) -> None:
    config = written(tmp_path, 'enabled = true\nlisten = "127.0.0.1:0"')
    seat = seat_of(config)
    joined = seat.folder / "joined.json"
    joined.write_text(joined.read_text().replace('"by":"a"', '"by":"other"'))
    seat = seat_of(config)
    assert (seat.state, seat.founder) == ("standby", False)
    assert seat.read(TURN) == ""
    seat.write(PROMOTED, "filling")
    assert (seat.state, seat.founder) == ("promoting", True)
    seat.write(PROMOTED, "done")
    assert (seat.state, seat.founder) == ("alone", True)


@pytest.mark.parametrize(
    ("cluster", "routes", "listen"),
    [
        ('listen = "127.0.0.1:7443"\nroutes = "127.0.0.1:7001"', "127.0.0.1:7001", ("127.0.0.1", 7001)),
        (
            'listen = "127.0.0.1:7443"\nadvertise = "box.example:7443"\nroutes = "0.0.0.0:7001"',
            "box.example:7001",
            ("0.0.0.0", 7001),
        ),
        ('listen = "[::1]:7443"\nroutes = "[::1]:7001"', "[::1]:7001", ("::1", 7001)),
    ],
)
def test_where_it_takes_routes(tmp_path: Path, cluster: str, routes: str, listen: tuple[str, int]) -> None:
    seat = seat_of(written(tmp_path, f"enabled = true\n{cluster}"))
    assert seat.routes() == routes
    write_servers(seat.folder, Servers("quay-1", 3, (("a", routes), *MEMBERS[1:])))
    place = seat.place()
    assert place.routes is not None
    assert (place.routes.host, place.routes.port) == listen


def test_an_address_that_has_changed_keeps_its_port(tmp_path: Path) -> None:
    config = written(tmp_path, 'enabled = true\nlisten = "0.0.0.0:7443"\nadvertise = "10.0.0.9:7443"')
    seat = seat_of(config)
    servers = Servers("quay-1", 3, (("a", "10.0.0.5:7001"), *MEMBERS[1:]))
    assert seat.routes_now(servers) == "10.0.0.9:7001"
    write_servers(seat.folder, servers)
    routes = seat.place().routes
    assert routes is not None
    assert (routes.host, routes.port) == ("0.0.0.0", 7001)


def test_a_port_of_the_kernel_is_kept(tmp_path: Path) -> None:
    config = written(tmp_path, 'enabled = true\nlisten = "127.0.0.1:0"')
    first = seat_of(config).routes()
    assert first == seat_of(config).routes() != "127.0.0.1:0"
