"""Tokens: one spelling, bound to device and key, small enough for small clients."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.device.token import mint, read_token, short_hash, token_message
from skerry.trust import SigningKey, verify_strict

NODE = SigningKey.new()
KEY = SigningKey.new().public
LATER = 1_795_521_600


def token(device: str = "pump-1", key: bytes = KEY, expires: int = LATER) -> str:
    return mint(NODE.sign, short_hash(NODE.public), device, key, expires)


def holds(text: str, device: str) -> bool:
    found = read_token(text)
    return found is not None and verify_strict(NODE.public, token_message(device, found.signed), found.signature)


def test_a_token_says_who_signed_until_when_and_for_which_key() -> None:
    found = read_token(token())
    assert found is not None
    assert (found.key_id, found.expires, found.credential) == (short_hash(NODE.public), LATER, short_hash(KEY))
    assert len(token()) == 125
    assert token().isascii()


def test_the_bytes_that_are_signed() -> None:
    assert token_message("d", "st1.a.1.b") == b"skerry-token-v1\0d\0st1.a.1.b"


def test_a_token_is_good_for_its_device_alone() -> None:
    assert holds(token("pump-1"), "pump-1")
    for other in ("pump-2", "pump-1\0", "", "PUMP-1"):
        assert not holds(token("pump-1"), other)


@given(st.integers(0, 124), st.sampled_from("ABCXYZabcxyz0189-_."))
def test_one_other_sign_is_seen(at: int, sign: str) -> None:
    good = token()
    changed = good[:at] + sign + good[at + 1 :]
    assert holds(changed, "pump-1") == (changed == good)


@pytest.mark.parametrize(
    "wrong",
    [
        "", "st1", "st1....", token() + "=", token() + "\n", " " + token(), token().replace("st1", "st2"), token()[:-1],
        token() + "A", token().replace(".1", ".01"), token().replace(".1", ".-1"), token(expires=10**12), token(expires=0),
    ],
)  # fmt: skip
def test_other_forms_are_none(wrong: str) -> None:
    assert read_token(wrong) is None


def test_loose_bits_of_the_last_sign_are_none() -> None:
    good = token()
    signs = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    at = signs.index(good[-1])
    assert at % 16 == 0, "the last sign of 64 bytes carries two bits"
    for more in range(1, 16):
        assert read_token(good[:-1] + signs[at + more]) is None


@given(st.text(max_size=200))
def test_rubbish_is_none(text: str) -> None:
    assert read_token(text) is None


def test_a_short_hash_is_of_the_key() -> None:
    assert short_hash(KEY) == short_hash(bytes(KEY))
    assert len(short_hash(KEY)) == 11
    assert short_hash(KEY) != short_hash(NODE.public)
