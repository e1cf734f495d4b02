"""Certificates, read: against OpenSSL's own words on them."""

import subprocess
from pathlib import Path

import pytest

from skerry.core.clock import to_rfc3339
from skerry.core.errors import RejectedError
from skerry.trust import certificate_facts, certificate_fingerprint, certificate_names
from skerry.trust.certificates import DAY, key_fits, read_certificate, read_key, signed_by, to_microseconds, to_moment
from tests.fixtures.certificates import NOW, Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path, NOW)


def openssl(*arguments: object, given: bytes = b"") -> str:
    done = subprocess.run(["openssl", *map(str, arguments)], input=given, capture_output=True, timeout=20, check=True)
    return done.stdout.decode()


def test_the_fingerprint_is_openssls(site: Site) -> None:
    told = openssl("x509", "-in", site.cert, "-noout", "-fingerprint", "-sha256").strip().partition("=")[2]
    assert certificate_fingerprint(site.cert.read_text()) == "sha256:" + told.replace(":", "").lower()
    assert certificate_fingerprint(site.cert.read_bytes()) == certificate_fingerprint(site.cert.read_text())


def test_names_are_the_common_name_and_the_dns_names(site: Site) -> None:
    site.renew(("rock", "rock.local", "10.1.2.3", "fe80::1"))
    pem = site.cert.read_bytes()
    assert certificate_names(pem) == ("rock", "rock.local")
    assert certificate_facts(pem).names == ("rock", "rock.local", "10.1.2.3", "fe80::1")
    assert certificate_names(site.device("pump-1").read_bytes()) == ("pump-1",)


def test_of_several_certificates_in_a_file_the_first_counts_and_a_key_before_it_is_skipped(site: Site) -> None:
    chain = site.cert.read_bytes() + site.ca.read_bytes()
    assert certificate_fingerprint(chain) == certificate_fingerprint(site.cert.read_bytes())
    assert certificate_names(site.key.read_bytes() + chain) == ("localhost",)


def test_facts(site: Site) -> None:
    facts = certificate_facts(site.cert.read_bytes())
    assert not facts.authority
    assert certificate_facts(site.ca.read_bytes()).authority
    assert facts.issuer == "CN=skerry site CA,O=quay"
    told = openssl("x509", "-in", site.cert, "-noout", "-enddate", "-dateopt", "iso_8601").strip()
    assert told == f"notAfter={to_rfc3339(facts.not_after)[:10]} {to_rfc3339(facts.not_after)[11:19]}Z"
    assert [facts.days_left(facts.not_after - before) for before in (0, DAY, -1)] == [0, 1, -1]


def test_a_certificate_without_extensions_has_its_common_name(tmp_path: Path) -> None:
    """As small tools make them: version 1, without an alternative name."""
    key = tmp_path / "k.pem"
    key.write_text(openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout"))
    request = openssl("req", "-new", "-key", key, "-subj", "/O=plant/CN=old-1")
    pem = openssl("x509", "-req", "-signkey", key, "-days", "3", given=request.encode())
    facts = certificate_facts(pem)
    assert (facts.names, facts.authority, certificate_names(pem)) == (("old-1",), False, ("old-1",))


def test_whether_a_key_fits(site: Site) -> None:
    assert key_fits(site.cert.read_bytes(), site.key.read_bytes())
    assert not key_fits(site.ca.read_bytes(), site.key.read_bytes())
    old = openssl("ec", "-in", site.key).encode()
    assert b"BEGIN EC PRIVATE KEY" in old or b"BEGIN PRIVATE KEY" in old
    assert key_fits(site.cert.read_bytes(), old)


def test_whether_an_authority_signed_it(site: Site, tmp_path: Path) -> None:
    stranger = site.stranger("pump-1").read_bytes()
    assert signed_by(site.cert.read_bytes(), site.ca.read_bytes())
    assert not signed_by(stranger, site.ca.read_bytes())
    assert not signed_by(site.ca.read_bytes(), site.cert.read_bytes())


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", b"\xff" * 99]
)
def test_what_is_no_certificate_is_told_in_a_sentence(content: bytes) -> None:
    with pytest.raises(RejectedError, match="is no certificate in PEM form; it begins with -----BEGIN CERTIFICATE-----"):
        read_certificate(content)
    with pytest.raises(RejectedError, match="is no private key in PEM form"):
        read_key(content)
    with pytest.raises(RejectedError):
        certificate_names(content)


def test_a_key_with_a_password_is_told_in_a_sentence(site: Site) -> None:
    locked = openssl("pkcs8", "-topk8", "-in", site.key, "-passout", "pass:secret", "-v2", "aes256")
    with pytest.raises(RejectedError, match=r"is a key with a password; a node starts alone"):
        read_key(locked.encode())


def test_times_go_both_ways() -> None:
    assert to_microseconds(to_moment(NOW)) == NOW
    assert to_rfc3339(NOW).startswith("2026-09-21T")
