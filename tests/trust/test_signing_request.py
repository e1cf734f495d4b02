"""Certificates of nodes: what a request may ask for, and what OpenSSL takes of what is signed."""

import subprocess
from pathlib import Path

import pytest

from skerry.core.errors import RejectedError
from skerry.trust import Issued, certificate_facts, issue_node, new_request, signed_by
from skerry.trust.authority import new_authority
from skerry.trust.certificates import DAY, key_fits
from tests.fixtures.certificates import NOW
from tests.trust.test_authority import verified


@pytest.fixture(scope="module")
def authority() -> Issued:
    return new_authority("quay", NOW)


def openssl_request(*options: str) -> bytes:
    command = ["openssl", "req", "-new", "-nodes", "-subj", "/CN=a", "-keyout", "/dev/null", "-out", "-", *options]
    return subprocess.run(command, capture_output=True, check=True, timeout=30).stdout


def test_a_nodes_certificate_is_taken_for_server_and_client(authority: Issued, tmp_path: Path) -> None:
    asked = new_request("a")
    certificate = issue_node(authority, asked.certificate, "a", ("10.0.0.1", "a.local", "a"), NOW)
    issued = Issued(certificate, asked.key)
    assert verified(tmp_path, authority, issued, "sslserver") == ""
    assert verified(tmp_path, authority, issued, "sslclient") == ""
    assert key_fits(certificate, asked.key)
    assert signed_by(certificate, authority.certificate)
    facts = certificate_facts(certificate)
    assert facts.names == ("a", "a.local", "10.0.0.1")
    assert not facts.authority
    assert (facts.not_after - facts.not_before) // DAY == 825


def test_the_name_is_the_authoritys_choice(authority: Issued) -> None:
    certificate = issue_node(authority, new_request("somebody else").certificate, "a", (), NOW)
    assert certificate_facts(certificate).names == ("a",)


def test_what_openssl_asks_for_is_taken(authority: Issued) -> None:
    request = openssl_request("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
    assert certificate_facts(issue_node(authority, request, "a", (), NOW)).names == ("a",)


@pytest.mark.parametrize(
    ("options", "why"),
    [(("-newkey", "rsa:2048"), "not EC P-256"), (("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"), "not EC P-256")],
    ids=["rsa", "p-384"],
)
def test_other_keys_are_refused(authority: Issued, options: tuple[str, ...], why: str) -> None:
    with pytest.raises(RejectedError, match=why):
        issue_node(authority, openssl_request(*options), "a", (), NOW)


def test_rubbish_is_refused(authority: Issued) -> None:
    for rubbish in (b"", b"x" * 100_000, authority.certificate):
        with pytest.raises(RejectedError, match="no request"):
            issue_node(authority, rubbish, "a", (), NOW)
    with pytest.raises(RejectedError, match="no name for a certificate"):
        issue_node(authority, new_request("a").certificate, "", (), NOW)
    with pytest.raises(RejectedError, match="no host name"):
        issue_node(authority, new_request("a").certificate, "a", ("höst",), NOW)


def test_a_request_that_was_changed_is_refused(authority: Issued) -> None:
    import base64

    lines = new_request("aaaa").certificate.decode().splitlines()
    der = bytearray(base64.b64decode("".join(lines[1:-1])))
    der[der.index(b"aaaa")] = ord("b")
    text = base64.encodebytes(bytes(der)).decode()
    with pytest.raises(RejectedError, match="not signed by its own key"):
        issue_node(authority, f"{lines[0]}\n{text}{lines[-1]}\n".encode(), "a", (), NOW)
