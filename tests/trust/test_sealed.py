"""Sealed secrets: whole with the passphrase, nothing without it."""

import pytest

from skerry.core.errors import CorruptError, RejectedError
from skerry.trust import seal, unseal

WORDS = "twelve stones in a row"


@pytest.fixture(scope="module")
def sealed() -> bytes:
    return seal(b"the node's key" * 10, WORDS)


def test_what_was_sealed_comes_back(sealed: bytes) -> None:
    assert unseal(sealed, WORDS) == b"the node's key" * 10
    assert b"the node's key" not in sealed
    assert seal(b"", WORDS) != seal(b"", WORDS), "a new salt and nonce each time"


def test_a_wrong_passphrase_is_refused(sealed: bytes) -> None:
    with pytest.raises(RejectedError, match="passphrase is wrong"):
        unseal(sealed, WORDS + "!")


@pytest.mark.parametrize("at", [19, 20, 40, 60, -1])
def test_a_changed_byte_is_seen(sealed: bytes, at: int) -> None:
    changed = bytearray(sealed)
    changed[at] ^= 1
    with pytest.raises((RejectedError, CorruptError)):
        unseal(bytes(changed), WORDS)


@pytest.mark.parametrize("cost", [b"\x1f\x08\x01", b"\x10\xff\x01", b"\x00\x08\x01"])
def test_parameters_that_would_take_all_memory_are_refused(sealed: bytes, cost: bytes) -> None:
    with pytest.raises(CorruptError, match="does not know"):
        unseal(sealed[:16] + cost + sealed[19:], WORDS)


def test_what_is_cut_off_or_too_short_is_refused(sealed: bytes) -> None:
    with pytest.raises(CorruptError, match="cut off"):
        unseal(sealed[:20], WORDS)
    with pytest.raises(RejectedError, match="too short"):
        seal(b"x", "short")
