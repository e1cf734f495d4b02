"""The call-out's claims: what the server asks is read, what is answered says no more than was granted."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.broker.claims import ConnectRequest, Grant, read_request, response_claims, user_claims
from skerry.core.errors import RejectedError

ISSUER = "AISSUER"
ASKED: dict[str, Any] = {
    "aud": "nats-authorization-request",
    "exp": 1795547640,
    "iat": 1795547638,
    "iss": "NSERVER",
    "sub": ISSUER,
    "nats": {
        "server_id": {"name": "t", "host": "127.0.0.1", "id": "NSERVER", "version": "2.15.1"},
        "user_nkey": "UKEY",
        "client_info": {"host": "10.0.0.7", "id": 11, "user": "d1", "kind": "Client", "type": "mqtt", "mqtt_id": "c1"},
        "connect_opts": {"auth_token": "secret", "user": "d1", "pass": "secret", "protocol": 0},
        "type": "authorization_request",
        "version": 2,
    },
}
REQUEST = ConnectRequest("NSERVER", "UKEY", "mqtt", "c1", "d1", "secret", "10.0.0.7", 11)


def asked(**changes: Any) -> dict[str, Any]:
    """The claims with values changed, by path: `nats__type="x"`; None takes the value out."""
    claims = copy.deepcopy(ASKED)
    for path, value in changes.items():
        *way, last = path.split("__")
        table = claims
        for step in way:
            table = table.setdefault(step, {})
        if value is None:
            del table[last]
        else:
            table[last] = value
    return claims


def test_a_question_is_read() -> None:
    assert read_request(ASKED, ISSUER) == REQUEST


def test_a_client_without_a_name_is_read_too() -> None:
    claims = asked(nats__connect_opts={"protocol": 0}, nats__client_info__user=None)
    assert read_request(claims, ISSUER) == ConnectRequest("NSERVER", "UKEY", "mqtt", "c1", "", "", "10.0.0.7", 11)


@pytest.mark.parametrize(
    ("kind", "type", "transport"),
    [
        ("Client", "mqtt", "mqtt"),
        ("Client", "nats", "nats"),
        ("Client", "websocket", "websocket"),
        ("Client", "carrier-pigeon", "other"),
        ("Leafnode", "nats", "other"),
        ("Leafnode", "mqtt", "other"),
    ],
)
def test_how_it_connects(kind: str, type: str, transport: str) -> None:
    assert read_request(asked(nats__client_info__kind=kind, nats__client_info__type=type), ISSUER).transport == transport


def test_certificates_that_were_verified_go_first() -> None:
    assert read_request(asked(nats__client_tls={"certs": ["own", "ca"]}), ISSUER).certificates == ("own", "ca")
    both = {"certs": ["x"], "verified_chains": [["own", "ca"], ["own", "other"]]}
    assert read_request(asked(nats__client_tls=both), ISSUER).certificates == ("own", "ca")


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "something-else"},
        {"aud": None},
        {"sub": "AOTHER"},
        {"iss": "NOTHER"},
        {"iss": None},
        {"nats__type": "user"},
        {"nats__type": None},
        {"nats__user_nkey": None},
        {"nats__user_nkey": 7},
        {"nats__server_id": None},
        {"nats__server_id__id": "NOTHER"},
        {"nats__connect_opts__pass": ["secret"]},
        {"nats": None},
    ],
)
def test_what_is_no_question_to_this_node_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(RejectedError):
        read_request(asked(**changes), ISSUER)


@given(
    st.dictionaries(st.sampled_from(["iss", "aud", "sub", "nats", "x"]), st.none() | st.text(max_size=5) | st.lists(st.integers()))
)
def test_rubbish_is_refused(claims: dict[str, Any]) -> None:
    with pytest.raises(RejectedError):
        read_request(claims, ISSUER)


def test_a_grant_becomes_an_mqtt_user_of_the_account() -> None:
    claims = user_claims(REQUEST, Grant("d1", ("devices.d1.>",), ("commands.d1.>",)), "AGENT", 1_795_547_638_999_999)
    assert (claims["aud"], claims["sub"], claims["name"], claims["iat"]) == ("AGENT", "UKEY", "d1", 1_795_547_638)
    assert claims["nats"]["pub"] == {"allow": ["devices.d1.>"]}
    assert claims["nats"]["sub"] == {"allow": ["commands.d1.>"]}
    assert claims["nats"]["allowed_connection_types"] == ["MQTT", "MQTT_WS"]
    assert (claims["nats"]["type"], claims["nats"]["version"]) == ("user", 2)
    assert "exp" not in claims


def test_a_grant_that_ends_says_when() -> None:
    assert user_claims(REQUEST, Grant("d1", (), (), expires=5_999_999), "AGENT", 0)["exp"] == 5


def test_a_grant_of_nothing_is_not_a_grant_of_everything() -> None:
    claims = user_claims(REQUEST, Grant("d1", (), ()), "AGENT", 0)
    assert claims["nats"]["pub"] == claims["nats"]["sub"] == {"deny": [">"]}


def test_an_answer_is_for_this_server_and_this_client() -> None:
    good = response_claims(REQUEST, 7_000_000, user="signed")
    assert good == {
        "aud": "NSERVER", "sub": "UKEY", "iat": 7,
        "nats": {"type": "authorization_response", "version": 2, "jwt": "signed"},
    }  # fmt: skip
    assert response_claims(REQUEST, 0, error="refused: unknown")["nats"]["error"] == "refused: unknown"


def test_an_answer_without_a_user_is_always_a_refusal() -> None:
    assert response_claims(REQUEST, 0)["nats"]["error"] == "not authorised"


def test_the_password_is_not_shown() -> None:
    assert "secret" not in repr(REQUEST) + str(REQUEST) + f"{REQUEST}"
    assert "d1" in repr(REQUEST)
