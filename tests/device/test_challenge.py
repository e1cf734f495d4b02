"""Challenges: spent by the first attempt, for one device, for a while, and never more than there may be."""

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.device.challenge import BYTES, PREFIX, Challenges, from_base64, signed_message

TTL = 30.0
WHAT = st.sampled_from(["issue", "spend", "forget"])


def value(number: int) -> bytes:
    return number.to_bytes(BYTES, "big")


def test_a_challenge_works_once() -> None:
    challenges = Challenges(TTL)
    challenges.issue("a", "s", value(1), 0.0)
    assert challenges.spend("a", value(1), 1.0)
    assert not challenges.spend("a", value(1), 1.0)
    assert len(challenges) == 0


def test_a_challenge_is_for_one_device_and_spent_by_another() -> None:
    challenges = Challenges(TTL)
    challenges.issue("a", "s", value(1), 0.0)
    assert not challenges.spend("b", value(1), 1.0)
    assert not challenges.spend("a", value(1), 1.0)


def test_a_challenge_that_was_never_issued_is_none() -> None:
    challenges = Challenges(TTL)
    for wrong in (value(1), b"", b"x" * 33):
        assert not challenges.spend("a", wrong, 0.0)


@pytest.mark.parametrize(("after", "good"), [(0.0, True), (29.9, True), (30.0, False), (1e9, False)])
def test_a_challenge_lives_for_its_time(after: float, good: bool) -> None:
    challenges = Challenges(TTL)
    challenges.issue("a", "s", value(1), 100.0)
    assert challenges.spend("a", value(1), 100.0 + after) == good
    assert not challenges.spend("a", value(1), 100.0)


def test_what_is_over_is_forgotten_with_the_next() -> None:
    challenges = Challenges(TTL)
    for number in range(10):
        challenges.issue(f"d{number}", "s", value(number), float(number))
    challenges.issue("a", "s", value(99), 35.0)
    assert len(challenges) == 5


def test_a_forgotten_device_has_none() -> None:
    challenges = Challenges(TTL)
    challenges.issue("a", "s", value(1), 0.0)
    challenges.issue("a", "s", value(2), 0.0)
    challenges.issue("b", "s", value(3), 0.0)
    challenges.forget("a")
    challenges.forget("nobody")
    assert not challenges.spend("a", value(1), 0.0)
    assert not challenges.spend("a", value(2), 0.0)
    assert challenges.spend("b", value(3), 0.0)


def test_one_too_many_for_a_device_ends_the_oldest_of_its_source() -> None:
    challenges = Challenges(TTL, most_a_device=3)
    challenges.issue("a", "honest", value(0), 0.0)
    for number in range(1, 100):
        challenges.issue("a", "flood", value(number), 0.0)
    assert len(challenges) == 3
    assert challenges.spend("a", value(0), 1.0), "a flood from elsewhere does not end it"
    assert challenges.spend("a", value(99), 1.0)
    assert challenges.spend("a", value(98), 1.0)
    assert not challenges.spend("a", value(97), 1.0)


def test_one_too_many_of_all_ends_the_oldest_of_its_source() -> None:
    challenges = Challenges(TTL, most=10)
    challenges.issue("honest", "honest", value(0), 0.0)
    for number in range(1, 100):
        challenges.issue(f"d{number}", "flood", value(number), 0.0)
    assert len(challenges) == 10
    assert challenges.spend("honest", value(0), 1.0)
    challenges = Challenges(TTL, most=10)
    for number in range(20):
        challenges.issue(f"d{number}", f"s{number}", value(number), 0.0)
    assert len(challenges) == 10
    assert not challenges.spend("d9", value(9), 1.0)
    assert challenges.spend("d10", value(10), 1.0)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from("xyz"), WHAT, st.floats(0, 12)), max_size=120))
def test_the_bounds_hold_and_nothing_is_left_behind(steps: list[tuple[str, str, str, float]]) -> None:
    challenges = Challenges(TTL, most=12, most_a_device=4)
    now, issued = 0.0, 0
    for device, source, what, passed in steps:
        now += passed
        if what == "issue":
            issued += 1
            challenges.issue(device, source, value(issued), now)
        elif what == "spend":
            challenges.spend(device, value(max(1, issued - 1)), now)
        else:
            challenges.forget(device)
        assert len(challenges) <= 12
        assert all(1 <= len(mine) <= 4 for mine in challenges._of_device.values())
        for index in (challenges._of_device, challenges._of_source):
            assert sum(map(len, index.values())) == len(challenges)
            assert all(index.values())


def test_the_bytes_that_are_signed() -> None:
    assert PREFIX == b"skerry-login-v1\0"
    assert signed_message("pump-1", b"\1" * 32) == b"skerry-login-v1\0pump-1\0" + b"\1" * 32
    assert signed_message("\ud800", b"") == b"skerry-login-v1\0\xed\xa0\x80\0"


@given(st.binary(max_size=70))
def test_base64_has_one_spelling(data: bytes) -> None:
    text = base64.b64encode(data).decode()
    assert from_base64(text, len(data)) == data
    for wrong in (text + "=", text + "\n", " " + text, text[:-1] + "~", text + "AAAA", text.replace("=", "")):
        if wrong != text:
            assert from_base64(wrong, len(data)) is None
    assert from_base64(text, len(data) + 3) is None


@pytest.mark.parametrize("text", ["", "AAAA", "Ä" * 44, "A" * 43 + "=", "A" * 42 + "==", "_" * 43 + "=", "\ud800" * 44])
def test_base64_of_another_size_or_alphabet_is_none(text: str) -> None:
    good = text == "A" * 43 + "="
    assert (from_base64(text, 32) is not None) == good


def test_base64_with_loose_bits_is_none() -> None:
    assert from_base64("A" * 42 + "B=", 32) is None
