"""Tokens: what is signed is read back; what was changed, mis-spelt or signed by another role is refused."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.core.errors import RejectedError
from skerry.trust import KeyPair, Role, TokenSigner, sign_token, verify_token

SERVER = KeyPair(Role.SERVER, bytes(range(32)))
ACCOUNT = KeyPair(Role.ACCOUNT, bytes(range(1, 33)))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def signed(header: object, claims: object, pair: KeyPair = SERVER) -> str:
    text = f"{part(header)}.{part(claims)}"
    return f"{text}.{base64.urlsafe_b64encode(pair.sign(text.encode())).decode().rstrip('=')}"


GOOD_HEADER = {"typ": "JWT", "alg": "ed25519-nkey"}


@given(st.dictionaries(st.text(max_size=8), VALUES, max_size=5))
def test_claims_come_back_with_their_issuer(claims: dict[str, Any]) -> None:
    token = sign_token(SERVER, claims)
    assert verify_token(token, Role.SERVER) == {**claims, "iss": SERVER.public}
    assert verify_token(token.encode(), Role.SERVER) == verify_token(token, Role.SERVER)


def test_the_header_is_the_one_that_servers_know() -> None:
    header = sign_token(SERVER, {}).split(".")[0]
    assert json.loads(base64.urlsafe_b64decode(header + "==")) == GOOD_HEADER


@given(st.data())
def test_no_sign_of_a_token_can_be_changed(data: st.DataObject) -> None:
    token = sign_token(SERVER, {"sub": "someone", "n": 1})
    at = data.draw(st.integers(0, len(token) - 1))
    sign = data.draw(st.sampled_from("ABCXYZabcxyz0189-_.=+/ \n"))
    changed = token[:at] + sign + token[at + 1 :]
    if changed != token:
        with pytest.raises(RejectedError):
            verify_token(changed, Role.SERVER)


@given(st.binary(max_size=100) | st.text(alphabet="eyJhbGciOiJ.-_=", max_size=60).map(str.encode))
def test_rubbish_is_refused(token: bytes) -> None:
    with pytest.raises(RejectedError):
        verify_token(token, Role.SERVER)


@pytest.mark.parametrize(
    ("header", "claims"),
    [
        ({"typ": "JWT", "alg": "none"}, {"iss": SERVER.public}),
        ({"typ": "JWT", "alg": "HS256"}, {"iss": SERVER.public}),
        ({"typ": "JWT"}, {"iss": SERVER.public}),
        ({"typ": "jose", "alg": "ed25519-nkey"}, {"iss": SERVER.public}),
        ([], {"iss": SERVER.public}),
        (GOOD_HEADER, {}),
        (GOOD_HEADER, {"iss": None}),
        (GOOD_HEADER, {"iss": ACCOUNT.public}),
        (GOOD_HEADER, [SERVER.public]),
    ],
)
def test_other_forms_are_refused_though_they_are_signed(header: object, claims: object) -> None:
    assert verify_token(signed(GOOD_HEADER, {"iss": SERVER.public}), Role.SERVER)
    with pytest.raises(RejectedError):
        verify_token(signed(header, claims), Role.SERVER)


def test_a_token_of_another_role_is_refused() -> None:
    token = sign_token(ACCOUNT, {"sub": "x"})
    assert verify_token(token, Role.ACCOUNT)["sub"] == "x"
    with pytest.raises(RejectedError, match="signature"):
        verify_token(token, Role.SERVER)


def test_a_token_without_end_is_not_read() -> None:
    with pytest.raises(RejectedError):
        verify_token(sign_token(SERVER, {"pad": "x" * 1_000_000}), Role.SERVER)


def test_nesting_without_end_is_refused() -> None:
    deep = base64.urlsafe_b64encode(b"[" * 100_000).decode().rstrip("=")
    with pytest.raises(RejectedError):
        verify_token(f"{part(GOOD_HEADER)}.{deep}.AAAA", Role.SERVER)


def test_a_signer_signs_with_its_key_and_verifies_servers() -> None:
    signer = TokenSigner(ACCOUNT)
    assert verify_token(signer.sign({"a": 1}), Role.ACCOUNT) == {"a": 1, "iss": signer.public}
    assert signer.verify_server(sign_token(SERVER, {"b": 2}).encode())["b"] == 2
    with pytest.raises(RejectedError):
        signer.verify_server(signer.sign({}).encode())
