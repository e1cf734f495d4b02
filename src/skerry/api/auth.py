"""`/auth`: where a device gets the challenge that it signs, and the token that is its password for MQTT.

All refusals are one answer: who asks learns neither why nor whether there is such a device.
"""

import msgspec

from skerry.api import arguments
from skerry.api.endpoints import Endpoint
from skerry.api.view import NodeView
from skerry.http import Request, Response, UnauthorizedError, json_response, problem_of

MOST_BODY = 4096
_NO_STORE = {"cache-control": "no-store"}
_TOLD = problem_of(UnauthorizedError("not authorised"))
# no token of the API will do here: RFC 9110, 11.6.1 wants another scheme named
_REFUSED = Response(_TOLD.status, {**_TOLD.headers, **_NO_STORE, "www-authenticate": 'Skerry-Challenge realm="skerry"'}, _TOLD.body)


class ChallengeWanted(msgspec.Struct):
    """Body of `POST /auth/challenge`."""

    device: str


class SignedChallenge(msgspec.Struct):
    """Body of `POST /auth/token`: challenge and signature in base64."""

    device: str
    challenge: str
    signature: str


class AuthHandlers:
    """The two endpoints; neither needs a token of the API."""

    def __init__(self, view: NodeView) -> None:
        self._view = view

    def endpoints(self) -> list[Endpoint]:
        """Both, for routes and OpenAPI."""
        return [
            Endpoint(
                "POST", "/auth/challenge", self.challenge, "32 random bytes for a device to sign, in base64; they work once",
                body=arguments.schema(ChallengeWanted), max_body=MOST_BODY,
            ),
            Endpoint(
                "POST", "/auth/token", self.token, "A device's password for MQTT, for a signed challenge",
                body=arguments.schema(SignedChallenge), max_body=MOST_BODY,
            ),
        ]  # fmt: skip

    async def challenge(self, request: Request) -> Response:
        wanted = arguments.body(request, ChallengeWanted)
        return json_response(await self._view.auth_challenge(wanted.device, request.remote), headers=_NO_STORE)

    async def token(self, request: Request) -> Response:
        given = arguments.body(request, SignedChallenge)
        answer = await self._view.auth_token(given.device, given.challenge, given.signature, request.remote)
        return _REFUSED if answer is None else json_response(answer, headers=_NO_STORE)
