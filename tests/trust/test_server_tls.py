"""TLS of a server whose files change: real handshakes over memory, without a socket."""

import contextlib
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from skerry.core.clock import ManualClock, SystemClock
from skerry.core.errors import ConfigError
from skerry.trust import ServerTls, TlsFiles, certificate_fingerprint, check_tls_files
from skerry.trust.certificates import DAY
from tests.fixtures.certificates import Site

CLOCK = SystemClock()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "tls", CLOCK.now())


def files(site: Site, *, ca: bool = False) -> TlsFiles:
    return TlsFiles("skerry.toml: broker.tls", site.cert, site.key, site.ca if ca else None)


def client(ca: Path, own: Path | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(ca))
    if own is not None:
        context.load_cert_chain(own)
    return context


def shake(server: ssl.SSLContext, peer: ssl.SSLContext, name: str = "localhost") -> tuple[str, bytes | None, str]:
    """The server's fingerprint and the client's certificate as each sees the other, and the suite. Raises `ssl.SSLError`."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    there = server.wrap_bio(to_server, to_client, server_side=True)
    here = peer.wrap_bio(to_client, to_server, server_hostname=name)
    left = {there, here}
    for _ in range(10):
        done = set()
        for each in left:
            with contextlib.suppress(ssl.SSLWantReadError):
                each.do_handshake()
                done.add(each)
        left -= done
    assert not left
    own = here.getpeercert(binary_form=True)
    suite = there.cipher()
    assert own is not None
    assert suite is not None
    return certificate_fingerprint(ssl.DER_cert_to_PEM_cert(own)), there.getpeercert(binary_form=True), suite[0]


def test_a_handshake(site: Site) -> None:
    served = ServerTls(files(site), CLOCK)
    seen, shown, _ = shake(served.context, client(site.ca, site.device("pump-1")))
    assert seen == served.facts.fingerprint == certificate_fingerprint(site.cert.read_bytes())
    assert shown is None, "nobody is asked for a certificate where there is no ca"


def test_a_client_certificate_may_be_shown_and_need_not(site: Site) -> None:
    context = ServerTls(files(site, ca=True), CLOCK).context
    own = site.device("pump-1")
    _, shown, _ = shake(context, client(site.ca, own))
    assert shown is not None
    assert certificate_fingerprint(ssl.DER_cert_to_PEM_cert(shown)) == certificate_fingerprint(own.read_bytes())
    assert shake(context, client(site.ca))[1] is None


def test_a_wrong_client_certificate_is_refused(site: Site) -> None:
    context = ServerTls(files(site, ca=True), CLOCK).context
    for own in (site.stranger("pump-1"), joined(site)):
        with pytest.raises(ssl.SSLError, match=r"CERTIFICATE_VERIFY_FAILED"):
            shake(context, client(site.ca, own))


def joined(site: Site) -> Path:
    """The node's own certificate, which is for servers: no device may be known by it."""
    path = site.directory / "joined.pem"
    path.write_bytes(site.key.read_bytes() + site.cert.read_bytes())
    return path


def test_new_files_are_for_new_handshakes(site: Site) -> None:
    served = ServerTls(files(site), CLOCK)
    before, peer = served.facts.fingerprint, client(site.ca)
    assert not served.refresh()
    site.renew()
    assert shake(served.context, peer)[0] == before
    assert served.refresh()
    assert shake(served.context, peer)[0] == served.facts.fingerprint != before
    assert not served.refresh()


def test_another_authority_is_taken_and_the_old_one_is_not_any_more(site: Site, tmp_path: Path) -> None:
    served = ServerTls(files(site, ca=True), CLOCK)
    stranger, own = Site(tmp_path / "other", CLOCK.now()), site.device("pump-1")
    site.ca.rename(site.directory / "before.pem")
    (site.directory / "ca.pem").write_bytes(stranger.ca.read_bytes())
    assert served.refresh()
    peer = site.directory / "before.pem"
    assert shake(served.context, client(peer, stranger.device("pump-2")))[1] is not None
    with pytest.raises(ssl.SSLError, match=r"CERTIFICATE_VERIFY_FAILED"):
        shake(served.context, client(peer, own))


def talk(server: ssl.SSLContext, peer: ssl.SSLContext, session: ssl.SSLSession | None) -> tuple[ssl.SSLSession | None, bool]:
    """A handshake that may resume a session: the session that comes of it, and whether the client's certificate was taken."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    there = server.wrap_bio(to_server, to_client, server_side=True)
    here = peer.wrap_bio(to_client, to_server, server_hostname="localhost", session=session)
    for _ in range(6):
        for each in (here, there):
            with contextlib.suppress(ssl.SSLWantReadError):
                each.do_handshake()
    with contextlib.suppress(ssl.SSLWantReadError):
        here.read()  # in TLS 1.3 what a session is resumed with comes after the handshake
    assert there.session_reused in (here.session_reused, None)
    return here.session, there.getpeercert(binary_form=True) is not None


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_outlives_a_renewal_and_not_the_authority(site: Site, tmp_path: Path, version: ssl.TLSVersion) -> None:
    served = ServerTls(files(site, ca=True), CLOCK)
    stranger, peer = Site(tmp_path / "other", CLOCK.now()), client(site.ca, site.device("pump-1"))
    peer.maximum_version = version
    session, known = talk(served.context, peer, None)
    assert known
    site.renew()
    assert served.refresh()
    assert talk(served.context, peer, session)[1]
    (site.directory / "ca.pem").write_bytes(stranger.ca.read_bytes())
    assert served.refresh()
    with pytest.raises(ssl.SSLError, match=r"CERTIFICATE_VERIFY_FAILED"):
        talk(served.context, peer, session)


def test_several_authorities_in_a_file(site: Site, tmp_path: Path) -> None:
    other = Site(tmp_path / "other", CLOCK.now())
    both = tmp_path / "both.pem"
    both.write_bytes(site.ca.read_bytes() + other.ca.read_bytes())
    context = ServerTls(TlsFiles("t", site.cert, site.key, both), CLOCK).context
    for own in (site.device("pump-1"), other.device("pump-2")):
        assert shake(context, client(site.ca, own))[1] is not None


def test_a_chain_is_shown_whole(tmp_path: Path) -> None:
    """As public authorities sign: root, one between, and the server's, of which a client knows the root only."""
    run(
        tmp_path,
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout root.key -out root.pem -subj /CN=root -days 9",
    )
    signer, extensions = "root", {"middle": "basicConstraints=critical,CA:TRUE", "own": "subjectAltName=DNS:localhost"}
    for name, extension in extensions.items():
        (tmp_path / "extension").write_text(extension)
        run(tmp_path, f"req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out r -subj /CN={name}")
        run(
            tmp_path,
            f"x509 -req -in r -CA {signer}.pem -CAkey {signer}.key -CAcreateserial -days 9 -extfile extension -out {name}.pem",
        )
        signer = name
    chain = tmp_path / "fullchain.pem"
    chain.write_bytes((tmp_path / "own.pem").read_bytes() + (tmp_path / "middle.pem").read_bytes())
    run(tmp_path, "verify -CAfile root.pem -untrusted fullchain.pem fullchain.pem")
    served = ServerTls(TlsFiles("t", chain, tmp_path / "own.key"), CLOCK)
    assert shake(served.context, client(tmp_path / "root.pem"))[0] == served.facts.fingerprint


def run(folder: Path, arguments: str) -> None:
    """OpenSSL in a directory."""
    subprocess.run(["openssl", *arguments.split()], cwd=folder, check=True, capture_output=True, timeout=20)


def test_files_that_do_not_fit_are_left_until_they_do(site: Site, tmp_path: Path) -> None:
    served = ServerTls(files(site), CLOCK)
    before, old = served.facts.fingerprint, site.key.read_bytes()
    site.renew()
    new = site.key.read_bytes()
    site.key.write_bytes(old)
    assert not served.refresh()
    assert served.trouble.startswith("skerry.toml: broker.tls.key: ")
    assert shake(served.context, client(site.ca))[0] == before
    site.key.write_bytes(new)
    assert served.refresh()
    assert (served.trouble, served.facts.fingerprint == before) == ("", False)


def test_files_that_come_back_as_they_were_are_no_trouble(site: Site) -> None:
    served = ServerTls(files(site), CLOCK)
    held = site.cert.read_bytes()
    site.cert.unlink()
    assert not served.refresh()
    assert "is not there" in served.trouble
    site.cert.write_bytes(held)
    assert served.refresh()
    assert served.trouble == ""


Spoil = Callable[[Site], TlsFiles]


def _expired(site: Site) -> TlsFiles:
    return TlsFiles("t", *site.expired_server())


def _mixed(site: Site) -> TlsFiles:
    return TlsFiles("t", site.cert, site.directory / "ca.key")


def _missing(site: Site) -> TlsFiles:
    return TlsFiles("t", site.directory / "none.pem", site.key)


def _directory(site: Site) -> TlsFiles:
    return TlsFiles("t", site.cert, site.directory)


def _swapped(site: Site) -> TlsFiles:
    return TlsFiles("t", site.key, site.cert)


def _no_key(site: Site) -> TlsFiles:
    return TlsFiles("t", site.cert, site.cert)


def _no_authority(site: Site) -> TlsFiles:
    return TlsFiles("t", site.cert, site.key, site.cert)


def _empty_authority(site: Site) -> TlsFiles:
    (site.directory / "empty.pem").write_text("")
    return TlsFiles("t", site.cert, site.key, site.directory / "empty.pem")


def _locked(site: Site) -> TlsFiles:
    out = site.directory / "locked.key"
    command = ["openssl", "pkcs8", "-topk8", "-in", site.key, "-out", out, "-passout", "pass:x", "-v2", "aes256"]
    subprocess.run(command, check=True, capture_output=True, timeout=20)
    return TlsFiles("t", site.cert, out)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_expired, r"t\.cert: .*expired\.pem ended on 20\d\d-\d\d-\d\d; have it renewed, or set the clock if that is wrong"),
        (_mixed, r"t\.key: .*ca\.key is not the key of .*server\.pem; name the key that the certificate was made for"),
        (_missing, r"t\.cert: .*none\.pem is not there; make certificates with skerry init --tls, or name your own"),
        (_directory, r"t\.key: .* cannot be read: is a directory; let the user who runs skerry read it"),
        (_swapped, r"t\.cert: .*server\.key is no certificate in PEM form"),
        (_no_key, r"t\.key: .*server\.pem is no private key in PEM form"),
        (_no_authority, r"t\.ca: .*server\.pem is no certificate authority; name the certificate that signs"),
        (_empty_authority, r"t\.ca: .*empty\.pem is no certificate in PEM form"),
        (_locked, r"t\.key: .*locked\.key is a key with a password; a node starts alone: take the password off"),
    ],
)
def test_each_fault_is_one_sentence_with_its_place_and_mend(site: Site, spoil: Spoil, says: str) -> None:
    given = spoil(site)
    with pytest.raises(ConfigError, match=says):
        check_tls_files(given, CLOCK.now())
    with pytest.raises(ConfigError, match=says):
        ServerTls(given, CLOCK)


def test_a_clock_that_is_slow_hinders_no_start(site: Site) -> None:
    """After a power cut a machine without a battery thinks that it is 1970: its devices need the node all the same."""
    assert ServerTls(files(site), ManualClock(0)).facts.not_before > 0


def test_one_that_ends_while_it_serves_goes_on_being_served(site: Site) -> None:
    clock = ManualClock(CLOCK.now())
    served = ServerTls(files(site), clock)
    clock.advance(900 * DAY)
    assert not served.refresh()
    assert served.trouble == ""
    assert served.facts.days_left(clock.now()) < 0


def test_old_versions_and_weak_suites_are_refused(site: Site) -> None:
    context = ServerTls(files(site), CLOCK).context
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        peer = client(site.ca)
        peer.minimum_version = peer.maximum_version = version
        assert "GCM" in shake(context, peer)[2]
    names = [each["name"] for each in context.get_ciphers()]
    assert names
    assert all("GCM" in name or "CHACHA20" in name for name in names)
    weak = client(site.ca)
    weak.maximum_version = ssl.TLSVersion.TLSv1_2
    weak.set_ciphers("ECDHE-ECDSA-AES128-SHA256")
    with pytest.raises(ssl.SSLError):
        shake(context, weak)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
