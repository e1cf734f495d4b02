"""Signatures: only a trusted key counts, and each refusal says which it was."""

from pathlib import Path

import pytest

from skerry.bundle import BundleFile, Signatures, fingerprint, read_private, read_trusted, sign_manifest, signer_of, signers
from skerry.bundle.signing import MOST_SIGNATURES, Signature, decode_signatures
from skerry.core.errors import ConfigError, CorruptError, RejectedError
from skerry.trust import SigningKey
from tests.bundle.rig import built, signed

ONE, TWO = SigningKey.new(), SigningKey.new()
DATA = b'{"a": 1}'


def test_a_trusted_signature_counts_and_others_beside_it_do_not_matter(tmp_path: Path) -> None:
    file = signed(signed(built(tmp_path), ONE), TWO)
    for key in (ONE, TWO):
        assert signer_of(file.data, file.signatures, [key.public]) == fingerprint(key.public)
    assert sorted(signers(file.data, file.signatures)) == sorted(fingerprint(key.public) for key in (ONE, TWO))
    file.check()


def test_signing_changes_nothing_but_the_signatures(tmp_path: Path) -> None:
    plain = built(tmp_path)
    before, known = plain.path.read_bytes(), plain.id
    found = signed(plain, ONE)
    assert found.id == known
    found.signed(Signatures())
    assert found.path.read_bytes() == before
    again = signed(signed(found, ONE), ONE)
    assert len(again.signatures.signatures) == 1


def test_each_refusal_says_what_it_is(tmp_path: Path) -> None:
    file = built(tmp_path)
    with pytest.raises(RejectedError, match="it is not signed"):
        signer_of(file.data, file.signatures, [ONE.public])
    file = signed(file, ONE)
    with pytest.raises(RejectedError, match="no key is trusted here"):
        signer_of(file.data, file.signatures, [])
    with pytest.raises(RejectedError, match=f"signed by {fingerprint(ONE.public)}, and that key is not trusted"):
        signer_of(file.data, file.signatures, [TWO.public])
    with pytest.raises(RejectedError, match="does not fit: it was changed"):
        signer_of(file.data + b" ", file.signatures, [ONE.public])


def test_the_signature_of_another_bundle_or_of_another_purpose_does_not_fit() -> None:
    other = sign_manifest(b"other", ONE)
    with pytest.raises(RejectedError, match="does not fit"):
        signer_of(DATA, other, [ONE.public])
    import base64

    bare = Signature(base64.b64encode(ONE.public).decode(), base64.b64encode(ONE.sign(DATA)).decode())
    with pytest.raises(RejectedError, match="does not fit"):
        signer_of(DATA, Signatures([bare]), [ONE.public])  # a key that signs other things too signs no bundle by that
    assert signers(DATA, Signatures([bare, Signature("!", "!")])) == []


def test_a_changed_manifest_is_not_signed_any_more(tmp_path: Path) -> None:
    file = signed(built(tmp_path), ONE)
    data = file.path.read_bytes()
    assert data.count(b'"version":"2"') == 1
    file.path.write_bytes(data.replace(b'"version":"2"', b'"version":"3"'))
    changed = BundleFile(file.path)
    changed.check()
    with pytest.raises(RejectedError, match="does not fit"):
        signer_of(changed.data, changed.signatures, [ONE.public])


def test_what_is_damaged_is_not_signed(tmp_path: Path) -> None:
    file = built(tmp_path)
    file.path.write_bytes(file.path.read_bytes()[:-20])
    before = file.path.read_bytes()
    with pytest.raises(CorruptError):
        signed(BundleFile(file.path), ONE)
    assert file.path.read_bytes() == before


def test_there_is_an_end_to_signatures() -> None:
    found = Signatures()
    for _ in range(MOST_SIGNATURES):
        found = sign_manifest(DATA, SigningKey.new(), found)
    with pytest.raises(RejectedError, match="16 signatures already"):
        sign_manifest(DATA, ONE, found)
    with pytest.raises(CorruptError, match="cannot be read"):
        decode_signatures(b"[]")


def test_keys_are_read_from_pem_and_errors_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "k").write_text(ONE.pem())
    (tmp_path / "k.pub").write_text(ONE.public_pem())
    assert read_private(tmp_path / "k").public == ONE.public
    assert read_trusted(["k.pub"], tmp_path) == [ONE.public]
    with pytest.raises(ConfigError, match=r"bundles\.trusted\[1\].*none.*cannot be read"):
        read_trusted(["k.pub", "none"], tmp_path)
    with pytest.raises(ConfigError, match="private key"):
        read_trusted(["k"], tmp_path)
    (tmp_path / "text").write_text("hello")
    with pytest.raises(ConfigError, match="no public key"):
        read_trusted(["text"], tmp_path)
    with pytest.raises(RejectedError, match="no private key"):
        read_private(tmp_path / "k.pub")
