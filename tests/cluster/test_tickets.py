"""Join tokens: what they say, and that only a member's are taken, for one site, until they end."""

import base64

import pytest

from skerry.cluster.tickets import PREFIX, Ticket, check_token, mint, new_ticket, read_token
from skerry.core.errors import RejectedError
from skerry.trust import SigningKey, verify_strict

KEY, OTHER = SigningKey.new(), SigningKey.new()
NOW = 1_790_000_000_000_000
TICKET = Ticket("abc", "quay", 1_790_000_060, "sha256:00", ("10.0.0.1:7443",))


def signed(message: bytes, signature: bytes) -> bool:
    return verify_strict(KEY.public, message, signature)


def test_there_and_back() -> None:
    token = mint(TICKET, KEY.sign)
    assert token.startswith("skj1.")
    assert read_token(f" {token}\n") == TICKET
    assert check_token(token, signed, "quay", NOW) == TICKET


def test_each_is_new_and_names_few_addresses() -> None:
    first, second = (new_ticket("quay", 1, "", tuple("abcdefghij")) for _ in range(2))
    assert first.id != second.id
    assert len(first.addresses) == 8


@pytest.mark.parametrize(
    ("token", "site", "now", "why"),
    [
        (mint(TICKET, OTHER.sign), "quay", NOW, "not made by this cluster"),
        (mint(TICKET, KEY.sign), "farm", NOW, "for the site quay, this is farm"),
        (mint(TICKET, KEY.sign), "quay", NOW + 61_000_000, "has ended"),
        ("skj1.x.y", "quay", NOW, "no join token"),
        ("", "quay", NOW, "no join token"),
        (mint(TICKET, KEY.sign)[:-1], "quay", NOW, "no join token"),
    ],
    ids=["forged", "site", "ended", "short", "empty", "cut"],
)
def test_what_is_refused(token: str, site: str, now: int, why: str) -> None:
    with pytest.raises(RejectedError, match=why):
        check_token(token, signed, site, now)


def test_what_it_says_cannot_be_changed() -> None:
    _, said, signature = mint(TICKET, KEY.sign).split(".")
    longer = base64.urlsafe_b64decode(said + "=" * (-len(said) % 4)).replace(b"1790000060", b"9790000060")
    forged = f"skj1.{base64.urlsafe_b64encode(longer).decode().rstrip('=')}.{signature}"
    assert read_token(forged).expires == 9_790_000_060
    with pytest.raises(RejectedError, match="not made by this cluster"):
        check_token(forged, signed, "quay", NOW)


def test_a_signature_for_something_else_is_none_here() -> None:
    said = mint(TICKET, KEY.sign).split(".")[1]
    bare = base64.urlsafe_b64encode(KEY.sign(said.encode())).decode().rstrip("=")
    with pytest.raises(RejectedError, match="not made by this cluster"):
        check_token(f"skj1.{said}.{bare}", signed, "quay", NOW)
    assert PREFIX not in said.encode()
