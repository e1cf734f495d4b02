"""The site's own authority: what it signs is taken by OpenSSL in its strictest mode, and only for what it is meant for."""

import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from skerry.core.errors import RejectedError
from skerry.trust import Issued, certificate_facts
from skerry.trust.authority import issue_device, issue_server, new_authority
from skerry.trust.certificates import DAY, key_fits, read_certificate
from tests.fixtures.certificates import NOW

RSA = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=other", "-days", "9", "-keyout", "-", "-out", "-"]


@pytest.fixture(scope="module")
def authority() -> Issued:
    return new_authority("quay", NOW)


def verified(folder: Path, authority: Issued, issued: Issued, purpose: str, at: int = NOW) -> str:
    """Empty when OpenSSL takes it, else what it says."""
    (folder / "ca.pem").write_bytes(authority.certificate)
    (folder / "own.pem").write_bytes(issued.certificate)
    command = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-attime", str(at // 1_000_000)]
    command += ["-CAfile", str(folder / "ca.pem"), str(folder / "own.pem")]
    done = subprocess.run(command, capture_output=True, timeout=20, check=False)
    return "" if done.returncode == 0 else done.stderr.decode()


def test_a_servers_certificate_is_taken_for_a_server_only(authority: Issued, tmp_path: Path) -> None:
    issued = issue_server(authority, ("rock", "10.0.0.7"), NOW)
    assert verified(tmp_path, authority, issued, "sslserver") == ""
    assert "unsuitable certificate purpose" in verified(tmp_path, authority, issued, "sslclient")
    assert key_fits(issued.certificate, issued.key)


def test_a_devices_certificate_is_taken_for_a_client_only(authority: Issued, tmp_path: Path) -> None:
    issued = issue_device(authority, "pump-1", NOW, 30)
    assert verified(tmp_path, authority, issued, "sslclient") == ""
    assert "unsuitable certificate purpose" in verified(tmp_path, authority, issued, "sslserver")
    assert certificate_facts(issued.certificate).names == ("pump-1",)


def test_dates(authority: Issued, tmp_path: Path) -> None:
    """From a day before, for devices whose clocks are slow; a server's for no more than 825 days, the authority's for ten years."""
    server = certificate_facts(issue_server(authority, ("rock",), NOW).certificate)
    assert (server.not_before, (server.not_after - server.not_before) // DAY) == (NOW - DAY, 825)
    device = certificate_facts(issue_device(authority, "pump-1", NOW, 30).certificate)
    assert device.not_after == NOW + 30 * DAY
    assert certificate_facts(authority.certificate).not_after == NOW + 3650 * DAY
    issued = issue_server(authority, ("rock",), NOW)
    assert "expired" in verified(tmp_path, authority, issued, "sslserver", NOW + 825 * DAY)
    assert "not yet valid" in verified(tmp_path, authority, issued, "sslserver", NOW - 2 * DAY)


def test_nothing_outlives_its_authority(authority: Issued) -> None:
    end = certificate_facts(authority.certificate).not_after
    assert certificate_facts(issue_server(authority, ("rock",), end - 40 * DAY).certificate).not_after == end
    with pytest.raises(RejectedError, match="the authority has ended, or this machine's clock is wrong; set the clock"):
        issue_server(authority, ("rock",), end + 2 * DAY)


def test_keys_are_small_enough_for_small_devices_and_never_the_same(authority: Issued) -> None:
    first, second = (issue_device(authority, "pump-1", NOW) for _ in range(2))
    assert first.key != second.key
    own = read_certificate(first.certificate)
    key = own.public_key()
    assert isinstance(key, EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"
    assert own.serial_number != read_certificate(second.certificate).serial_number


def test_a_device_cannot_sign_for_others(authority: Issued, tmp_path: Path) -> None:
    device = issue_device(authority, "pump-1", NOW)
    forged = issue_device(device, "pump-2", NOW)
    (tmp_path / "middle.pem").write_bytes(device.certificate)
    (tmp_path / "ca.pem").write_bytes(authority.certificate)
    (tmp_path / "own.pem").write_bytes(forged.certificate)
    command = ["openssl", "verify", "-attime", str(NOW // 1_000_000), "-CAfile", tmp_path / "ca.pem"]
    done = subprocess.run([*command, "-untrusted", tmp_path / "middle.pem", tmp_path / "own.pem"], capture_output=True, check=False)
    assert done.returncode != 0
    assert b"invalid CA certificate" in done.stderr


def test_names_and_addresses_of_all_kinds(authority: Issued) -> None:
    names = ("rock", "rock.local", "xn--sknk-5qa.example", "10.0.0.7", "::1", "fd00::17")
    issued = read_certificate(issue_server(authority, names, NOW).certificate)
    found = issued.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert found.get_values_for_type(x509.DNSName) == list(names[:3])
    assert [str(each) for each in found.get_values_for_type(x509.IPAddress)] == list(names[3:])


@pytest.mark.parametrize("name", ["", "x" * 65])
def test_names_that_do_not_fit_are_refused(authority: Issued, name: str) -> None:
    with pytest.raises(RejectedError, match="is no name for a certificate; a name has 1 to 64 characters"):
        issue_device(authority, name, NOW)


def test_a_name_that_dns_does_not_know_is_refused(authority: Issued) -> None:
    with pytest.raises(RejectedError, match="is no host name; write names as DNS does"):
        issue_server(authority, ("rock", "röck"), NOW)


def test_an_authority_of_another_kind_is_refused() -> None:
    made = subprocess.run(RSA, capture_output=True, timeout=20, check=True).stdout
    with pytest.raises(RejectedError, match="the authority's key is none that skerry made"):
        issue_device(Issued(made, made), "pump-1", NOW)


def test_a_key_is_never_shown(authority: Issued) -> None:
    assert b"PRIVATE" in authority.key
    assert "PRIVATE" not in repr(authority)


def test_a_site_may_have_any_name(tmp_path: Path) -> None:
    for site in ("", "Vägen 5, Åre", "x" * 200):
        authority = new_authority(site, NOW)
        assert verified(tmp_path, authority, issue_server(authority, ("rock",), NOW), "sslserver") == ""
