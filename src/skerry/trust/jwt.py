"""Tokens as nats-server signs and reads them: JWT (RFC 7519) with the algorithm `ed25519-nkey`.

Source: github.com/nats-io/jwt, version 2: the issuer (`iss`) is the public nkey that signs `header.claims`.
"""

import base64
from typing import Any

import msgspec

from skerry.core.errors import RejectedError
from skerry.trust.nkeys import KeyPair, Role, verify

ALGORITHM = "ed25519-nkey"
LONGEST = 1024 * 1024
"""A server's question holds user name and password, 64 KiB each at most, the password twice, as base64."""
Claims = dict[str, Any]


def sign_token(pair: KeyPair, claims: Claims) -> str:
    """Encode and sign; `iss` is added. The caller sets `iat` (Unix seconds)."""
    signed = f"{_HEADER}.{_text(msgspec.json.encode({**claims, 'iss': pair.public}))}"
    return f"{signed}.{_text(pair.sign(signed.encode()))}"


def verify_token(token: str | bytes, role: Role) -> Claims:
    """The claims of a token that a key of that role issued.

    Neither who issued it nor `exp` is judged here. Raises `RejectedError` for another form, algorithm, role or signature."""
    text = token.decode("ascii", "replace") if isinstance(token, bytes) else token
    parts = text.split(".")
    if len(text) > LONGEST or len(parts) != 3:
        raise RejectedError("that is not a token")
    try:
        header: object = msgspec.json.decode(_bytes(parts[0]))
        claims: object = msgspec.json.decode(_bytes(parts[1]))
        signature = _bytes(parts[2])
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise RejectedError("that is not a token") from error
    if not isinstance(header, dict) or header.get("typ") != "JWT" or header.get("alg") != ALGORITHM:
        raise RejectedError(f"the token is not signed with {ALGORITHM}")
    if not isinstance(claims, dict) or not isinstance(issuer := claims.get("iss"), str):
        raise RejectedError("the token names no issuer")
    if not verify(issuer, f"{parts[0]}.{parts[1]}".encode(), signature, role):
        raise RejectedError("the token's signature does not fit its issuer")
    return claims


class TokenSigner:
    """One account's key as the broker's call-out wants it: what the server says is verified, what is answered is signed."""

    def __init__(self, pair: KeyPair) -> None:
        self._pair = pair
        self.public = pair.public

    def sign(self, claims: Claims) -> str:
        """See `sign_token`."""
        return sign_token(self._pair, claims)

    def verify_server(self, token: bytes) -> Claims:
        """The claims of a token that a server's own key signed. Raises `RejectedError`."""
        return verify_token(token, Role.SERVER)


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    # urlsafe_b64decode passes over signs that are not base64; a token must have one spelling only.
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if _text(data) != text:
        raise ValueError("not base64url")
    return data


_HEADER = _text(msgspec.json.encode({"typ": "JWT", "alg": ALGORITHM}))
