"""Passwords: made, hashed, verified, and what is refused."""

import pytest
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.core.errors import CorruptError, RejectedError
from skerry.trust import PasswordHash, hash_password, new_password, verify_password
from skerry.trust.passwords import ALPHABET, LOG2_N

CHEAP = "scrypt$ln=4,r=1,p=1$"


def cheap_hash(password: str, salt: bytes = b"0123456789abcdef") -> str:
    key = Scrypt(salt=salt, length=32, n=16, r=1, p=1).derive(password.encode())
    return PasswordHash(4, 1, 1, salt, key).encode()


def test_a_password_fits_its_own_hash_only() -> None:
    encoded = hash_password("correct horse battery")
    assert verify_password("correct horse battery", encoded)
    assert not verify_password("correct horse batterz", encoded)
    assert not verify_password("", encoded)


def test_a_hash_says_what_made_it_and_never_repeats() -> None:
    first, second = hash_password("same-password"), hash_password("same-password")
    assert first != second
    assert first.startswith(f"scrypt$ln={LOG2_N},r=8,p=1$")
    assert "same-password" not in first


def test_the_derivation_is_scrypt_of_rfc_7914() -> None:
    # RFC 7914, section 12, second vector; its key is 64 bytes, of which scrypt's last PBKDF2 makes the first 32 alike.
    key = bytes.fromhex("fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b373162")
    stored = PasswordHash(10, 8, 16, b"NaCl", key)
    assert stored.matches("password")
    assert not stored.matches("Password")


def test_old_parameters_still_verify() -> None:
    assert verify_password("some-password", cheap_hash("some-password"))
    assert not verify_password("other-password", cheap_hash("some-password"))


@settings(max_examples=50, deadline=None)
@given(st.text(min_size=0, max_size=40), st.text(min_size=0, max_size=40))
def test_two_passwords_share_a_hash_only_when_they_are_one(first: str, second: str) -> None:
    assert verify_password(second, cheap_hash(first)) == (first == second)


def test_half_a_surrogate_pair_is_a_wrong_password() -> None:
    assert not verify_password("\ud800", cheap_hash("some-password"))


@given(
    st.integers(1, 14), st.integers(1, 32), st.integers(1, 16), st.binary(min_size=16, max_size=16),
    st.binary(min_size=32, max_size=32),
)  # fmt: skip
def test_text_form_round_trips(log2_n: int, r: int, p: int, salt: bytes, key: bytes) -> None:
    made = PasswordHash(log2_n, r, p, salt, key)
    assert PasswordHash.decode(made.encode()) == made


@pytest.mark.parametrize(
    "text",
    [
        "", "scrypt", "plain", "bcrypt$ln=14,r=8,p=1$" + "A" * 22 + "$" + "A" * 43, CHEAP + "A" * 21 + "$" + "A" * 43,
        CHEAP + "A" * 22 + "$" + "A" * 43 + "\n", "scrypt$ln=21,r=8,p=1$" + "A" * 22 + "$" + "A" * 43,
        "scrypt$ln=20,r=32,p=1$" + "A" * 22 + "$" + "A" * 43, "scrypt$ln=0,r=8,p=1$" + "A" * 22 + "$" + "A" * 43,
        "scrypt$ln=14,r=8,p=99$" + "A" * 22 + "$" + "A" * 43,
    ],
)  # fmt: skip
def test_what_is_no_hash_is_corrupt_and_not_a_wrong_password(text: str) -> None:
    with pytest.raises(CorruptError):
        verify_password("some-password", text)


@pytest.mark.parametrize("password", ["", "short", "seven77", "x" * 257, "ü" * 129, "with\nnewline", "with\0zero..", "tab\ttab.."])
def test_a_bad_choice_is_refused_with_what_would_do(password: str) -> None:
    with pytest.raises(RejectedError, match="8 to 256 bytes") as caught:
        hash_password(password)
    assert password not in str(caught.value) or password == ""


@pytest.mark.parametrize("password", ["eight888", "x" * 256, "Grüße aus dem Hafen"])
def test_a_good_choice_is_taken(password: str) -> None:
    assert verify_password(password, hash_password(password))


def test_made_passwords_are_readable_and_all_different() -> None:
    made = {new_password() for _ in range(200)}
    assert len(made) == 200
    for password in made:
        assert len(password) == 29
        assert set(password) <= set(ALPHABET) | {"-"}
    assert not set(ALPHABET) & set("0o1il")
    assert len(ALPHABET) ** 25 > 2**120
