"""`/api/v1/tokens`: tokens are made, listed and revoked; all of it needs the scope `admin`."""

import asyncio

import msgspec

from skerry.api import arguments
from skerry.api.endpoints import API, Endpoint
from skerry.api.tokens import TokenStore
from skerry.http import Request, Response, json_response

_NO_STORE = {"cache-control": "no-store"}


class NewToken(msgspec.Struct, forbid_unknown_fields=True):
    """Body of `POST /api/v1/tokens`; `expires_in` is a duration such as `90d`, null for ever."""

    name: str
    scopes: list[str]
    expires_in: str | None = None


class TokenHandlers:
    """The three endpoints. What they change counts from the next request on."""

    def __init__(self, tokens: TokenStore) -> None:
        self._tokens = tokens

    def endpoints(self) -> list[Endpoint]:
        """All of them, for routes and OpenAPI."""
        return [
            Endpoint("GET", f"{API}/tokens", self.tokens, "All tokens: names, scopes and times"),
            Endpoint(
                "POST", f"{API}/tokens", self.create, "Make a token; the answer shows it this once",
                status=201, body=arguments.schema(NewToken), event="token created",
            ),
            Endpoint("DELETE", f"{API}/tokens/{{name}}", self.revoke, "Refuse a token from now on", event="token revoked"),
        ]  # fmt: skip

    async def tokens(self, request: Request) -> Response:
        arguments.query(request, ())
        return json_response({"tokens": self._tokens.rows()})

    async def create(self, request: Request) -> Response:
        new = arguments.body(request, NewToken)
        row, secret = await asyncio.to_thread(self._tokens.create, new.name, new.scopes, new.expires_in)
        return json_response({**row, "token": secret}, 201, _NO_STORE)

    async def revoke(self, request: Request) -> Response:
        name = request.params["name"]
        await asyncio.to_thread(self._tokens.revoke, name)
        return json_response({"revoked": name})
