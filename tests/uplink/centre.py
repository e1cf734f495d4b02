"""A centre for tests: an HTTP endpoint that keeps envelopes, and can misbehave in the ways that centres and portals do."""

import asyncio
from collections.abc import Callable

from skerry.http import HttpServer, Request, Response, Route, json_response
from skerry.uplink import digest_of, read_header
from skerry.uplink.envelope import read_envelope
from skerry.uplink.targets.http import PATH

Answer = Callable[[Request], Response]


def portal(request: Request) -> Response:
    """What a captive portal says to everything."""
    return Response(
        200, {"content-type": "text/html"}, b"<html><body>Welcome to the harbour's network. <a>Log in</a></body></html>"
    )


def status(number: int, body: bytes = b"", **headers: str) -> Answer:
    return lambda request: Response(number, headers, body)


class Centre:
    """Keeps what it has acknowledged: `taken` are envelopes; `items` the sequences of each lane, each only once.

    `answers` are used up first, one a request, in the place of the good one."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.answers: list[Answer] = []
        self.asked = 0
        self.slow = 0.0
        self.tokens: list[str] = []
        self.commands: list[str] = []
        self.port = 0
        self._server = HttpServer([Route("POST", PATH, self._receive, max_body=8 * 1024 * 1024)])

    async def __aenter__(self) -> "Centre":
        await self._server.__aenter__()
        self.port = await self._server.listen_tcp("127.0.0.1", 0, None)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._server.__aexit__(None, None, None)

    async def _receive(self, request: Request) -> Response:
        self.asked += 1
        self.tokens.append(request.headers.get("authorization", ""))
        await asyncio.sleep(self.slow)
        if self.answers:
            return self.answers.pop(0)(request)
        self.taken.append(request.body)
        return json_response({"digest": digest_of(request.body), "commands": self.commands})

    def sequences(self, lane: str) -> list[int]:
        """Numbers of the items of a lane in the order in which they came for the first time."""
        found: list[int] = []
        for envelope in self.taken:
            if read_header(envelope).lane == lane:
                found += [number for number, _ in read_envelope(envelope).items if not found or number > found[-1]]
        return found

    def again(self, lane: str) -> int:
        """How many items came more than once."""
        mine = [read_header(each) for each in self.taken]
        return sum(each.count for each in mine if each.lane == lane) - len(self.sequences(lane))
