"""nkeys: encoding against the published examples, signatures, and the key file."""

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.core.errors import CorruptError, RejectedError, UnavailableError
from skerry.trust import KeyPair, Role, check_public, load_or_create, verify

SEEDS = st.binary(min_size=32, max_size=32)
ROLES = st.sampled_from(list(Role))
# The example pair that the documentation of nkeys prints.
DOCUMENTED_SEED = "SUAKYRHVIOREXV7EUZTBHUHL7NUMHPMAS7QMDU3GTIUWEI5LDNOXD43IZY"
DOCUMENTED_PUBLIC = "UD466L6EBCM3YY5HEGHJANNTN4LSKTSUXTH7RILHCKEQMQHTBNLHJJXT"


def test_the_documented_pair_is_read_as_documented() -> None:
    pair = KeyPair.from_seed(DOCUMENTED_SEED)
    assert pair.public == DOCUMENTED_PUBLIC
    assert pair.role == Role.USER
    assert pair.seed == DOCUMENTED_SEED


@pytest.mark.parametrize(("role", "letter"), [(Role.ACCOUNT, "A"), (Role.SERVER, "N"), (Role.USER, "U")])
def test_the_first_letter_tells_the_role(role: Role, letter: str) -> None:
    pair = KeyPair.new(role)
    assert pair.public[0] == letter
    assert pair.seed[:2] == f"S{letter}"
    assert len(pair.public) == 56
    assert len(pair.seed) == 58


@given(ROLES, SEEDS)
def test_a_pair_comes_back_from_its_seed(role: Role, seed: bytes) -> None:
    pair = KeyPair(role, seed)
    again = KeyPair.from_seed(pair.seed)
    assert (again.public, again.role, again.seed) == (pair.public, role, pair.seed)
    assert len(check_public(pair.public, role)) == 32


@given(ROLES, SEEDS, st.binary(max_size=100), st.binary(max_size=100))
def test_a_signature_is_good_for_its_message_only(role: Role, seed: bytes, message: bytes, other: bytes) -> None:
    pair = KeyPair(role, seed)
    signature = pair.sign(message)
    assert verify(pair.public, message, signature, role)
    assert verify(pair.public, other, signature, role) == (other == message)
    assert not verify(pair.public, message, signature[:-1], role)
    assert not verify(pair.public, message, bytes(64), role)


def test_a_key_of_another_role_verifies_nothing() -> None:
    pair = KeyPair.new(Role.USER)
    assert not verify(pair.public, b"m", pair.sign(b"m"), Role.SERVER)


@given(SEEDS, st.integers(0, 55), st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"))
def test_one_wrong_sign_is_seen(seed: bytes, at: int, sign: str) -> None:
    public = KeyPair(Role.SERVER, seed).public
    changed = public[:at] + sign + public[at + 1 :]
    if changed != public:
        with pytest.raises(RejectedError):
            check_public(changed, Role.SERVER)


@given(st.text(max_size=70))
def test_rubbish_is_refused(text: str) -> None:
    with pytest.raises(RejectedError):
        KeyPair.from_seed(text)
    with pytest.raises(RejectedError):
        check_public(text, Role.ACCOUNT)
    assert not verify(text, b"", bytes(64), Role.ACCOUNT)


def test_a_public_key_is_no_seed_and_a_seed_no_public_key() -> None:
    pair = KeyPair.new(Role.ACCOUNT)
    with pytest.raises(RejectedError):
        KeyPair.from_seed(pair.public)
    with pytest.raises(RejectedError):
        check_public(pair.seed, Role.ACCOUNT)
    with pytest.raises(RejectedError):
        check_public(pair.public.lower(), Role.ACCOUNT)


def test_the_private_half_is_not_shown() -> None:
    pair = KeyPair.new(Role.ACCOUNT)
    assert pair.public in repr(pair)
    assert pair.seed not in repr(pair) + str(pair)


def test_the_file_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "issuer.seed"
    made = load_or_create(path)
    assert made.role == Role.ACCOUNT
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert load_or_create(path).public == made.public
    assert [entry.name for entry in path.parent.iterdir()] == ["issuer.seed"]


def test_a_file_that_others_may_read_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "issuer.seed"
    made = load_or_create(path)
    path.chmod(0o644)
    assert load_or_create(path).public == made.public
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_left_over_of_a_power_cut_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / f".issuer.seed.{os.getpid()}").write_text("SA")
    assert load_or_create(tmp_path / "issuer.seed").public.startswith("A")
    assert [entry.name for entry in tmp_path.iterdir()] == ["issuer.seed"]


@pytest.mark.parametrize("content", ["", "rubbish", DOCUMENTED_SEED, "\xff\xfe"])
def test_a_damaged_file_is_named_and_kept(tmp_path: Path, content: str) -> None:
    path = tmp_path / "issuer.seed"
    path.write_text(content, "latin-1")
    with pytest.raises(CorruptError, match=r"issuer\.seed") as caught:
        load_or_create(path)
    assert path.read_text("latin-1") == content
    assert not content or content not in str(caught.value)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("a file where the directory should be")
    with pytest.raises(UnavailableError, match="keys"):
        load_or_create(tmp_path / "keys" / "issuer.seed")
