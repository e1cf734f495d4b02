"""The certificate of an application: made once, read again, and made anew where it does not fit its key."""

from pathlib import Path

import pytest

from skerry.core.errors import SkerryError
from skerry.trust import application_identity, application_uri


def test_an_identity_is_made_once_and_again_where_it_does_not_fit(tmp_path: Path) -> None:
    cert, key = tmp_path / "a" / "own.pem", tmp_path / "a" / "own.key"
    application_identity(cert, key, "n", "urn:n")
    first = cert.read_bytes(), key.read_bytes()
    application_identity(cert, key, "n", "urn:n")
    assert (cert.read_bytes(), key.read_bytes()) == first
    assert application_uri(first[0]) == "urn:n"
    key.unlink()
    application_identity(cert, key, "n", "urn:n")
    assert cert.read_bytes() != first[0]
    key.write_bytes(b"no key")
    with pytest.raises(SkerryError, match="no private key"):
        application_identity(cert, key, "n", "urn:n")
    assert sorted(each.name for each in cert.parent.iterdir()) == ["own.key", "own.pem"]
