"""A node's TLS: what is checked before anything listens, what is renewed, and what is told."""

import asyncio
import socket
import ssl
from pathlib import Path

import pytest

from skerry.broker import NatsServer
from skerry.config import NodeConfig, load
from skerry.core.clock import ManualClock, SystemClock, to_rfc3339
from skerry.core.errors import ConfigError, RejectedError
from skerry.core.service import cancel_and_wait
from skerry.node.tls import NodeTls, is_own, judge, make_certificates, room_for, site_authority, tls_files
from skerry.runtime import machine_names
from skerry.trust import certificate_facts
from skerry.trust.certificates import DAY
from tests.fixtures.certificates import Site
from tests.fixtures.nats import until

TLS = """\
[broker]
mqtt = "127.0.0.1:0"
mqtts = "127.0.0.1:0"
websocket = "127.0.0.1:0"
tls = { cert = "data/tls/server.pem", key = "data/tls/server.key", ca = "data/tls/ca.pem" }
[api]
tls = { cert = "data/tls/server.pem", key = "data/tls/server.key" }
"""
ISSUER = "ABJHLOVMPA4CI6R5KLNGOB4GSLNIY7IOUPAJC4YFNDLQVIOBYQGUWVLA"


def configured(folder: Path, text: str = TLS) -> NodeConfig:
    (folder / "skerry.toml").write_text(text)
    return load(folder / "skerry.toml")


def made(config: NodeConfig, clock: ManualClock | SystemClock) -> NodeTls:
    return NodeTls(config, NatsServer(config.broker, config.data_dir, ISSUER, 1 << 26, clock), clock)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(SystemClock().now())


@pytest.fixture
def config(tmp_path: Path, clock: ManualClock) -> NodeConfig:
    found = configured(tmp_path)
    make_certificates(found, clock)
    return found


def serial(config: NodeConfig) -> str:
    return certificate_facts(site_authority(config).server[0].read_bytes()).fingerprint


def test_without_tls_there_is_nothing(tmp_path: Path, clock: ManualClock) -> None:
    config = configured(tmp_path, '[broker]\nmqtt = "127.0.0.1:0"\n')
    found = made(config, clock)
    assert (found.addresses, found.api_context, found.warnings()) == ({}, None, [])
    assert tls_files(config) == {}


def test_certificates_are_for_all_names_of_the_machine(config: NodeConfig) -> None:
    names = certificate_facts(site_authority(config).server[0].read_bytes()).names
    assert {socket.gethostname().lower()[:64], "localhost", "127.0.0.1", "::1", *machine_names()} <= set(names)
    assert f"{socket.gethostname().lower().partition('.')[0]}.local" in names


def test_certificates_made_again_go_on_with_the_same_authority(config: NodeConfig, clock: ManualClock) -> None:
    authority, before = site_authority(config), serial(config)
    ca = authority.certificate.read_bytes()
    written = make_certificates(config, clock, ("box1.plant.example",))
    assert written == list(authority.server)
    assert authority.certificate.read_bytes() == ca
    assert serial(config) != before
    assert "box1.plant.example" in certificate_facts(authority.server[0].read_bytes()).names
    assert (config.data_dir.stat().st_mode & 0o777, authority.directory.stat().st_mode & 0o777) == (0o700, 0o700)


def test_a_name_that_is_none_is_refused(config: NodeConfig, clock: ManualClock) -> None:
    with pytest.raises(RejectedError, match="is no host name"):
        make_certificates(config, clock, ("bø",))


def test_a_fault_stops_the_start_and_names_the_line(config: NodeConfig, clock: ManualClock) -> None:
    site_authority(config).certificate.unlink()
    site_authority(config).server[1].unlink()
    place = str(config.path)
    with pytest.raises(ConfigError) as caught:
        made(config, clock)
    assert str(caught.value).startswith(f"{place}: broker.tls.key: ")
    assert str(caught.value).endswith("server.key is not there; make certificates with skerry init --tls, or name your own")


def test_what_the_node_signs_itself_is_renewed_at_the_start(config: NodeConfig, clock: ManualClock) -> None:
    before = serial(config)
    made(config, clock)
    assert serial(config) == before
    clock.advance(800 * DAY)
    assert made(config, clock).warnings()[2:] == []
    assert serial(config) != before
    clock.advance(2000 * DAY)
    made(config, clock)
    assert certificate_facts(site_authority(config).server[0].read_bytes()).not_after > clock.now() + 300 * DAY


def test_a_machine_that_has_another_address_gets_another_certificate(config: NodeConfig, clock: ManualClock) -> None:
    site_authority(config).issue_server(("localhost",), clock.now())
    before = serial(config)
    made(config, clock)
    assert serial(config) != before
    assert set(machine_names()) <= set(certificate_facts(site_authority(config).server[0].read_bytes()).names)


def test_what_is_brought_is_never_written_and_told_of_in_time(tmp_path: Path, clock: ManualClock) -> None:
    site = Site(tmp_path / "brought", clock.now())
    text = (
        '[broker]\nmqtt = "127.0.0.1:0"\nmqtts = "127.0.0.1:0"\ntls = { cert = "brought/server.pem", key = "brought/server.key" }\n'
    )
    config = configured(tmp_path, text)
    make_certificates(config, clock)
    assert not is_own(config, tls_files(config)["broker"])
    before = site.cert.read_bytes()
    end = to_rfc3339(certificate_facts(before).not_after)[:10]
    served = made(config, clock)
    assert not any("certificate" in each for each in served.warnings())
    clock.advance(800 * DAY)
    assert made(config, clock).warnings()[1:] == [f"the certificate of broker.tls ends on {end}, in 23 days"]
    clock.advance(30 * DAY)
    assert served.warnings()[1:] == [f"the certificate of broker.tls ended on {end}: nobody can connect"]
    with pytest.raises(ConfigError, match=rf"broker\.tls\.cert: .*server\.pem ended on {end}; have it renewed, or set the clock"):
        made(config, clock)
    assert site.cert.read_bytes() == before


def test_a_wrong_clock_renews_nothing_and_hinders_nothing(config: NodeConfig) -> None:
    before = serial(config)
    found = made(config, ManualClock(0))
    assert serial(config) == before
    assert any("is good from" in each and "is this machine's clock right?" in each for each in found.warnings())


def test_a_renewal_that_fails_is_told_and_the_old_one_is_used(config: NodeConfig, clock: ManualClock) -> None:
    (site_authority(config).directory / "ca.key").write_text("spoilt")
    clock.advance(800 * DAY)
    warnings = made(config, clock).warnings()
    assert any(each.startswith("the node's certificate cannot be renewed: ") for each in warnings)
    assert any(each.startswith("the certificate of api.tls ends on ") and each.endswith(", in 23 days") for each in warnings)


@pytest.mark.parametrize(
    ("files", "most", "room"), [(100_000, 10_000, 10_000), (4096, 10_000, 1792), (1024, 10_000, 256), (256, 10, 16)]
)
def test_there_are_never_more_connections_than_open_files(files: int, most: int, room: int) -> None:
    assert room_for(files, most) == room


def test_dates_in_words(config: NodeConfig) -> None:
    facts = certificate_facts(site_authority(config).server[0].read_bytes())
    assert (
        judge(facts, facts.not_before - 1, 30)
        == f"is good from {to_rfc3339(facts.not_before)[:10]} only: is this machine's clock right?"
    )
    assert judge(facts, facts.not_before, 30) == ""
    assert judge(facts, facts.not_after - 30 * DAY, 30) == ""
    end = to_rfc3339(facts.not_after)[:10]
    assert judge(facts, facts.not_after - 30 * DAY + 1, 30) == f"ends on {end}, in 29 days"
    assert judge(facts, facts.not_after - DAY, 30) == f"ends on {end}, in 1 day"
    assert judge(facts, facts.not_after + 1, 30) == f"ended on {end}: nobody can connect"


@pytest.mark.asyncio
async def test_files_that_change_are_taken_while_it_runs(config: NodeConfig, capsys: pytest.CaptureFixture[str]) -> None:
    clock = SystemClock()
    server = NatsServer(config.broker, config.data_dir, ISSUER, 1 << 26, clock)
    found = NodeTls(config, server, clock, look_s=0.05)
    assert any("mqtts is starting" in each for each in found.warnings())
    task = asyncio.create_task(found.run())
    try:
        await until(lambda: all(found.addresses.values()))
        assert sorted(found.addresses) == ["mqtts", "websocket"]
        assert found.warnings() == []
        site_authority(config).renew(("localhost",), clock.now())
        expected = serial(config)

        async def taken() -> bool:
            return await shown(found, config) == expected

        await until(taken)
    finally:
        await cancel_and_wait(task)
    assert found.addresses == {"mqtts": "", "websocket": ""}


async def shown(found: NodeTls, config: NodeConfig) -> str:
    context = ssl.create_default_context(cafile=str(site_authority(config).certificate))
    host, _, port = found.addresses["mqtts"].rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port), ssl=context, server_hostname="localhost")
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return certificate_facts(ssl.DER_cert_to_PEM_cert(der)).fingerprint


@pytest.mark.asyncio
async def test_what_is_due_while_it_runs_is_signed_and_shown(config: NodeConfig) -> None:
    clock = SystemClock()
    server = NatsServer(config.broker, config.data_dir, ISSUER, 1 << 26, clock)
    found = NodeTls(config, server, clock, look_s=0.02, renew_every=5)
    task = asyncio.create_task(found.run())
    try:
        await until(lambda: all(found.addresses.values()))
        site_authority(config).issue_server(("localhost",), clock.now())
        missing = set(machine_names())

        async def complete() -> bool:
            facts = certificate_facts(site_authority(config).server[0].read_bytes())
            return missing <= set(facts.names) and await shown(found, config) == facts.fingerprint

        await until(complete)
        (site_authority(config).directory / "ca.pem").write_text("torn")
        await until(lambda: any("cannot be renewed" in each for each in found.warnings()))
        assert not task.done()
        assert all(found.addresses.values())
    finally:
        await cancel_and_wait(task)


def test_websockets_without_tls_are_the_servers_own(tmp_path: Path, clock: ManualClock) -> None:
    config = configured(tmp_path, '[broker]\nwebsocket = "127.0.0.1:8083"\n')
    assert made(config, clock).addresses == {"websocket": "127.0.0.1:8083"}
