"""What nats-server asks about a client that wants to connect, and what it is answered. Pure.

Source: nats-server's auth call-out (ADR-26) and github.com/nats-io/jwt version 2: `authorization_request`,
`authorization_response`, `user`. The answer names the server (`aud`) and the client's one-time key (`sub`), so it is good
for this one connection only. A JWT's payload limit is not among the claims: the server does not hold MQTT clients to it.
"""

from typing import Any, Literal

import msgspec

from skerry.core.errors import RejectedError

Claims = dict[str, Any]
Transport = Literal["mqtt", "nats", "websocket", "other"]
_TRANSPORTS: dict[str, Transport] = {"mqtt": "mqtt", "nats": "nats", "websocket": "websocket"}
UNLIMITED = -1
SECOND = 1_000_000


class ConnectRequest(msgspec.Struct, frozen=True):
    """One client that wants to connect; `repr` leaves the password out.

    `certificates` are PEM, the client's own first; `verified`: the server's CA has signed them.
    """

    server: str
    user_key: str
    transport: Transport = "other"
    client_id: str = ""
    username: str = ""
    password: str = ""
    address: str = ""
    connection: int = 0
    certificates: tuple[str, ...] = ()
    verified: bool = False

    def __repr__(self) -> str:
        return f"ConnectRequest({self.username!r}, client_id={self.client_id!r}, {self.transport} from {self.address})"


class Grant(msgspec.Struct, frozen=True):
    """Let in: as whom, and the subjects it may use.

    `expires`: microseconds since the epoch; then the server ends the connection.
    """

    name: str
    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    expires: int | None = None


class Refusal(msgspec.Struct, frozen=True):
    """Not let in. The reason goes to the logs; the client only learns that it is not authorised."""

    reason: str


Decision = Grant | Refusal


class _Server(msgspec.Struct):
    id: str


class _Client(msgspec.Struct):
    host: str = ""
    id: int = 0
    kind: str = ""
    type: str = ""
    mqtt_id: str = ""


class _Options(msgspec.Struct):
    user: str = ""
    password: str = msgspec.field(default="", name="pass")


class _Tls(msgspec.Struct):
    certs: tuple[str, ...] = ()
    verified_chains: tuple[tuple[str, ...], ...] = ()


class _Body(msgspec.Struct):
    type: str
    server_id: _Server
    user_nkey: str
    client_info: _Client = msgspec.field(default_factory=_Client)
    connect_opts: _Options = msgspec.field(default_factory=_Options)
    client_tls: _Tls | None = None


class _Request(msgspec.Struct):
    iss: str
    nats: _Body
    aud: str = ""
    sub: str = ""


def read_request(claims: Claims, issuer: str) -> ConnectRequest:
    """The request in claims whose signature has been verified.

    Raises `RejectedError` when they are no request to this issuer, or speak for another server than the one that signed."""
    try:
        request = msgspec.convert(claims, _Request)
    except msgspec.ValidationError as error:
        raise RejectedError(f"the server's log-in question cannot be read: {error}") from error
    body = request.nats
    if body.type != "authorization_request" or request.aud != "nats-authorization-request" or request.sub != issuer:
        raise RejectedError("the server's log-in question is not meant for this node")
    if body.server_id.id != request.iss:
        raise RejectedError("the server's log-in question is signed by another server")
    tls = body.client_tls or _Tls()
    client = body.client_info
    return ConnectRequest(
        server=request.iss,
        user_key=body.user_nkey,
        transport=_TRANSPORTS.get(client.type.lower(), "other") if client.kind == "Client" else "other",
        client_id=client.mqtt_id,
        username=body.connect_opts.user,
        password=body.connect_opts.password,
        address=client.host,
        connection=client.id,
        certificates=tls.verified_chains[0] if tls.verified_chains else tls.certs,
        verified=bool(tls.verified_chains),
    )


def user_claims(request: ConnectRequest, grant: Grant, account: str, issued: int) -> Claims:
    """The user that a grant makes of the client: MQTT only, in that account, with nothing but the granted subjects.

    `issued`: microseconds since the epoch."""
    claims: Claims = {
        "aud": account,
        "sub": request.user_key,
        "name": grant.name,
        "iat": issued // SECOND,
        "nats": {
            "type": "user",
            "version": 2,
            "pub": _allowed(grant.publish),
            "sub": _allowed(grant.subscribe),
            "subs": UNLIMITED,
            "data": UNLIMITED,
            "payload": UNLIMITED,
            "allowed_connection_types": ["MQTT", "MQTT_WS"],
        },
    }
    if grant.expires is not None:
        claims["exp"] = grant.expires // SECOND
    return claims


def response_claims(request: ConnectRequest, issued: int, *, user: str = "", error: str = "") -> Claims:
    """The answer: the signed user, or why not."""
    body: Claims = {"type": "authorization_response", "version": 2}
    body |= {"jwt": user} if user else {"error": error or "not authorised"}
    return {"aud": request.server, "sub": request.user_key, "iat": issued // SECOND, "nats": body}


def _allowed(subjects: tuple[str, ...]) -> Claims:
    # An empty allow list would mean: everything.
    return {"allow": list(subjects)} if subjects else {"deny": [">"]}
