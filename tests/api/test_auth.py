"""`/auth` over a real HTTP server: the shapes of the answers, and that all refusals are one answer."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from skerry.api import Api, ApiConfig
from skerry.core.clock import SystemClock
from skerry.core.service import cancel_and_wait
from skerry.device import Attempts, DeviceAuthenticator, Holding, TokenLogin
from skerry.device.challenge import signed_message
from skerry.trust import SigningKey
from tests.api.fake_view import FakeView

KEY = SigningKey.new()
Row = dict[str, Any]


class Devices(FakeView):
    """A node in memory whose devices log in for real."""

    def __init__(self) -> None:
        super().__init__()
        clock = SystemClock()
        self.authenticator = DeviceAuthenticator(clock=clock)
        self.tokens = TokenLogin(self.authenticator, clock, Holding(clock, Attempts()))

    async def auth_challenge(self, device: str, address: str) -> Row:
        found = await self.tokens.challenge(device, address)
        return {"challenge": found.challenge, "expires_in": found.expires_in}

    async def auth_token(self, device: str, challenge: str, signature: str, address: str) -> Row | None:
        self.token_asks.append((device, challenge, signature, address))
        found = await self.tokens.token(device, challenge, signature, address)
        return None if found is None else {"token": found.token, "expires_in": found.expires_in}


class Caller:
    """Asks one API."""

    def __init__(self, view: Devices, base: str, session: aiohttp.ClientSession) -> None:
        self.view = view
        self._base = base
        self._session = session

    async def post(self, path: str, body: Any) -> tuple[int, dict[str, str], Any]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self._session.post(self._base + path, data=data) as answer:
            headers = {name.lower(): value for name, value in answer.headers.items() if name.lower() != "date"}
            return answer.status, headers, json.loads(await answer.read())

    async def signed(self, device: str = "pump-1", key: SigningKey = KEY) -> Row:
        status, _, asked = await self.post("/auth/challenge", {"device": device})
        assert status == 200
        signature = key.sign(signed_message(device, base64.b64decode(asked["challenge"])))
        return {"device": device, "challenge": asked["challenge"], "signature": base64.b64encode(signature).decode()}


@pytest_asyncio.fixture
async def caller(tmp_path: Path) -> AsyncIterator[Caller]:
    view = Devices()
    api = Api(view, ApiConfig(listen="127.0.0.1:0"), tmp_path / "s", "0.1.0")
    task = asyncio.create_task(api.run())
    await api.listening.wait()
    async with aiohttp.ClientSession() as session:
        yield Caller(view, f"http://{api.address}", session)
    await cancel_and_wait(task)


@pytest.mark.asyncio
async def test_a_signed_challenge_brings_a_token(caller: Caller) -> None:
    await caller.view.authenticator.add_trusted_device("pump-1", KEY.public)
    status, headers, asked = await caller.post("/auth/challenge", {"device": "pump-1"})
    assert (status, set(asked), asked["expires_in"], headers["cache-control"]) == (200, {"challenge", "expires_in"}, 30, "no-store")
    assert len(base64.b64decode(asked["challenge"], validate=True)) == 32
    status, headers, answer = await caller.post("/auth/token", await caller.signed())
    assert (status, set(answer), answer["expires_in"], headers["cache-control"]) == (200, {"token", "expires_in"}, 3600, "no-store")
    assert caller.view.token_asks[-1][-1] == "127.0.0.1"


@pytest.mark.asyncio
async def test_a_device_that_is_not_there_gets_a_challenge_of_the_same_shape(caller: Caller) -> None:
    await caller.view.authenticator.add_trusted_device("pump-1", KEY.public)
    answers = [await caller.post("/auth/challenge", {"device": device}) for device in ("pump-1", "nobody", "a b", "", "x" * 2000)]
    shapes = {(status, tuple(sorted(headers.items())), tuple(body), len(body["challenge"])) for status, headers, body in answers}
    assert len(shapes) == 1
    assert len({body["challenge"] for _, _, body in answers}) == 5


@pytest.mark.asyncio
async def test_all_refusals_are_one_answer(caller: Caller) -> None:
    auth = caller.view.authenticator
    await auth.add_trusted_device("pump-1", KEY.public)
    await auth.add_trusted_device("gone", KEY.public)
    await auth.devices.add_with("with-password", password="some-password")
    used = await caller.signed()
    assert (await caller.post("/auth/token", used))[0] == 200
    revoked = await caller.signed("gone")
    await auth.revoke("gone")
    fresh = await caller.signed()
    cases = [
        used, revoked, await caller.signed("nobody"), await caller.signed("with-password"),
        await caller.signed(key=SigningKey.new()), {**fresh, "device": "nobody"}, {**fresh, "challenge": ""},
        {**await caller.signed(), "signature": "rubbish"}, {**await caller.signed(), "signature": "A" * 88},
        {"device": "", "challenge": "", "signature": ""}, {"device": "x" * 1000, "challenge": "é", "signature": "\ud83d\ude00"},
    ]  # fmt: skip
    answers = [await caller.post("/auth/token", case) for case in cases]
    assert len({json.dumps(answer, sort_keys=True) for answer in answers}) == 1
    status, headers, body = answers[0]
    assert (status, headers["content-type"], body["detail"]) == (401, "application/problem+json", "not authorised")
    assert (body["mend"], body["where"]) == ("", "")
    assert headers["www-authenticate"].startswith("Skerry-Challenge")
    assert set(caller.view.tokens.refused) == {"bad-challenge", "revoked", "unknown", "no-key", "bad-signature"}


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "body", [b"", b"rubbish", b"[]", b"{}", b'{"device": 1}', b'{"device": null}', b'"pump-1"', b"\xff", b"[" * 4000]
)
@pytest.mark.parametrize("path", ["/auth/challenge", "/auth/token"])
async def test_a_body_of_another_form_is_a_wrong_request(caller: Caller, path: str, body: bytes) -> None:
    status, headers, answer = await caller.post(path, body)
    assert (status, headers["content-type"], answer["status"]) == (400, "application/problem+json", 400)


@pytest.mark.asyncio
async def test_a_large_body_is_not_read(caller: Caller) -> None:
    for path in ("/auth/challenge", "/auth/token"):
        assert (await caller.post(path, {"device": "x" * 5000, "challenge": "", "signature": ""}))[0] == 413


@pytest.mark.asyncio
async def test_fields_of_tomorrow_are_no_hindrance(caller: Caller) -> None:
    await caller.view.authenticator.add_trusted_device("pump-1", KEY.public)
    assert (await caller.post("/auth/challenge", {"device": "pump-1", "version": 2}))[0] == 200
    assert (await caller.post("/auth/token", {**await caller.signed(), "firmware": "1.2"}))[0] == 200
