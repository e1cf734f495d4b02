"""Join tokens: one node may join one site's cluster once, until the token ends. Pure, but for who signs.

`skj1.<what it says>.<signature>`, both parts base64url. It names the site's authority by fingerprint, so that the node that joins
knows whom it gives the token to, and members' addresses, so that it knows where. The signature (Ed25519) is over
`b"skerry-join-v1\\0"` and the second part. That it works once is kept in the cluster's records (`JoinTokens`).
"""

import base64
import re
import secrets
from collections.abc import Callable

import msgspec

from skerry.core.errors import RejectedError

PREFIX = b"skerry-join-v1\0"
MOST_ADDRESSES = 8
_TOKEN = re.compile(r"skj1\.([A-Za-z0-9_-]{20,2000})\.([A-Za-z0-9_-]{86})")


class Ticket(msgspec.Struct, frozen=True):
    """What a token says. `expires`: Unix seconds; `authority`: fingerprint of the site's CA."""

    id: str
    site: str
    expires: int
    authority: str
    addresses: tuple[str, ...] = ()


def new_ticket(site: str, expires: int, authority: str, addresses: tuple[str, ...]) -> Ticket:
    """A ticket that nobody has seen."""
    return Ticket(secrets.token_urlsafe(12), site, expires, authority, addresses[:MOST_ADDRESSES])


def mint(ticket: Ticket, sign: Callable[[bytes], bytes]) -> str:
    """The token."""
    said = _text(msgspec.json.encode(ticket))
    return f"skj1.{said}.{_text(sign(PREFIX + said.encode()))}"


def read_token(text: str) -> Ticket:
    """What a token says, whoever signed it. Raises `RejectedError` for what is none."""
    return _parts(text)[0]


def check_token(text: str, verify: Callable[[bytes, bytes], bool], site: str, now: int) -> Ticket:
    """What a token says, if it was signed here, for this site, and has not ended. `now`: microseconds. Raises `RejectedError`."""
    ticket, said, signature = _parts(text)
    if not verify(said, signature):
        raise RejectedError("the token was not made by this cluster", mend=_ANOTHER)
    if ticket.site != site:
        raise RejectedError(f"the token is for the site {ticket.site}, this is {site}", mend=_ANOTHER)
    if ticket.expires * 1_000_000 < now:
        raise RejectedError("the token has ended", mend=_ANOTHER)
    return ticket


_ANOTHER = "have a member make another token"


def _parts(text: str) -> tuple[Ticket, bytes, bytes]:
    found = _TOKEN.fullmatch(text.strip())
    if found is None:
        raise RejectedError("that is no join token", mend=_ANOTHER)
    try:
        ticket = msgspec.json.decode(_bytes(found[1]), type=Ticket)
        signature = _bytes(found[2])
    except (ValueError, msgspec.DecodeError, msgspec.ValidationError) as error:
        raise RejectedError("that is no join token", mend=_ANOTHER) from error
    return ticket, PREFIX + found[1].encode(), signature


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
