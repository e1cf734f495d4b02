"""Scopes, tokens and sites over real sockets: every route of the API with every kind of token, and what a browser would send."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from skerry.api import Api, ApiConfig, TokenStore
from skerry.api.config import ApiTls
from skerry.api.endpoints import API
from skerry.api.handlers import INFERENCE_BODY, Handlers
from skerry.api.scopes import SCOPES, covers, scope_of
from skerry.core.clock import SystemClock
from skerry.core.service import cancel_and_wait
from skerry.http import AsyncClient, NotFoundError, RefusedError, TooManyRequestsError, UnauthorizedError
from tests.api.fake_view import FakeView, event
from tests.api.noted import Noted
from tests.http import issued

pytestmark = pytest.mark.asyncio
REACH = {str(scope): {each for each in SCOPES if covers([scope], each)} for scope in SCOPES}


class Rig:
    """An API that others reach, on loopback, with a token of each scope."""

    def __init__(self, folder: Path, **config: Any) -> None:
        self.view = FakeView()
        self.noted = Noted()
        self.file = folder / "tokens.json"
        self.tokens = TokenStore(self.file, SystemClock())
        self.secrets: dict[str, str] = {scope: self.tokens.create(scope, [scope])[1] for scope in SCOPES}
        self.socket = folder / "s.sock"
        given = {"listen": "127.0.0.1:0", "token_file": "tokens.json", **config}
        tls = None
        if "tls" in given:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(given["tls"].cert)
        self.api = Api(self.view, ApiConfig(**given), self.socket, "0.1.0", tokens=self.tokens, audit=self.noted, tls=tls)

    @property
    def url(self) -> str:
        return f"http://{self.api.address}"

    def client(self, scope: str = "") -> AsyncClient:
        return AsyncClient(self.url, token=self.secrets[scope] if scope else "")

    async def raw(self, method: str, path: str, *headers: str, body: bytes = b"", host: str = "") -> tuple[int, dict[str, str]]:
        """Status and headers; the body of the answer is not waited for."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.api.port)
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host or self.api.address}", f"Content-Length: {len(body)}", *headers]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        finally:
            writer.close()
        first, *rest = head.decode().strip().split("\r\n")
        return int(first.split()[1]), {name.lower(): value for name, _, value in (line.partition(": ") for line in rest)}


@asynccontextmanager
async def serving(folder: Path, **config: Any) -> AsyncIterator[Rig]:
    rig = Rig(folder, **config)
    task = asyncio.create_task(rig.api.run())
    try:
        await asyncio.wait_for(rig.api.listening.wait(), 5)
        yield rig
    finally:
        await cancel_and_wait(task)


def every_route() -> list[tuple[str, str]]:
    handlers = Handlers(FakeView(), "0")
    patterns = [(each.method, each.pattern) for each in handlers.endpoints()]
    patterns += [(each.method, each.pattern.replace("{rest:.*}", "models/m/infer")) for each in handlers.inference_routes()]
    patterns += [("HEAD", f"{API}/node"), ("POST", "/v2/repository/models/m/unload")]
    known = {"{name}": "bearing", "{version}": "1", "{id}": "x", "{key}": "k"}
    return [(method, _filled(pattern, known)) for method, pattern in patterns]


def _filled(pattern: str, known: dict[str, str]) -> str:
    for name, value in known.items():
        pattern = pattern.replace(name, value)
    return pattern


async def test_every_route_with_every_token(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        for method, path in every_route():
            needed = scope_of(method, path)
            for held in (None, "wrong", *SCOPES):
                bearer = [] if held is None else [f"Authorization: Bearer {rig.secrets.get(held, 'sk_wrong')}"]
                rig.view.log = []
                status, headers = await rig.raw(method, path, *bearer, body=b"" if method in ("GET", "HEAD") else b"{}")
                asked = headers.get("www-authenticate", "")
                where = (method, path, held, status)
                if needed is None:
                    assert status not in (403, 429), where
                    assert not asked, where
                elif held is None:
                    assert (status, asked) == (401, 'Bearer realm="skerry"'), where
                elif held == "wrong":
                    assert status in (401, 429), where
                elif needed in REACH[held]:
                    assert status not in (401, 403, 429), where
                else:
                    assert (status, asked) == (403, f'Bearer realm="skerry", error="insufficient_scope", scope="{needed}"'), where
                if held == "admin" and path == f"{API}/tokens/bearing":
                    assert status == 404


async def test_the_openapi_document_names_the_scope_of_each_route(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig, rig.client("read") as client:
        document = await client.get(f"{API}/openapi.json")
        assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                scope = scope_of(method.upper(), path)
                assert operation["security"] == ([] if scope is None else [{"token": [scope]}]), (method, path)


async def test_tokens_over_the_api_count_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig, rig.client("admin") as admin:
        made = await admin.post(f"{API}/tokens", {"name": "new", "scopes": ["operate"], "expires_in": "1d"})
        assert (made["name"], made["scopes"], made["expired"]) == ("new", ["operate"], False)
        listed = (await admin.get(f"{API}/tokens"))["tokens"]
        assert [row["name"] for row in listed] == ["admin", "infer", "ingest", "new", "operate", "read", "uplink"]
        assert made["token"] not in str(listed)
        async with AsyncClient(rig.url, token=made["token"]) as new:
            assert (await new.post(f"{API}/pipelines/bearing/pause"))["state"] == "paused"
            with pytest.raises(RefusedError, match="needs the scope 'admin', which this token has not"):
                await new.post(f"{API}/tokens", {"name": "mine", "scopes": ["admin"]})
            assert await admin.delete(f"{API}/tokens/new") == {"revoked": "new"}
            with pytest.raises(UnauthorizedError, match="this token is not known here, or no longer"):
                await new.get(f"{API}/node")
        with pytest.raises(NotFoundError, match="there is no token 'new'"):
            await admin.delete(f"{API}/tokens/new")
        assert [line for line in rig.noted.lines if line["event"].startswith("token")] == [
            {"event": "token created", "by": "token:admin", "address": "127.0.0.1", "name": "new"},
            {"event": "token revoked", "by": "token:admin", "address": "127.0.0.1", "name": "new"},
        ]
        assert made["token"] not in str(rig.noted.lines)


async def test_a_token_made_in_the_file_is_taken_by_a_running_node(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        _, secret = TokenStore(rig.file, SystemClock()).create("elsewhere", ["read"])
        async with AsyncClient(rig.url, token=secret) as client:
            for _ in range(50):
                try:
                    await client.get(f"{API}/pipelines")
                    break
                except UnauthorizedError:
                    await asyncio.sleep(0.1)
            else:
                raise AssertionError("not within 5 s")


async def test_an_event_stream_ends_when_its_token_is_revoked(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig, rig.client("read") as reader, AsyncClient(rig.socket) as local:
        rig.view.log = [event(0)]
        revoked, stays = (client.stream(f"{API}/events/stream", last_id="0") for client in (reader, local))
        assert [(await anext(each)).id for each in (revoked, stays)] == ["1", "1"]
        await asyncio.to_thread(rig.tokens.revoke, "read")
        last = await asyncio.wait_for(anext(revoked), 4)
        assert (last.event, "revoked" in last.data) == ("error", True)
        with pytest.raises(StopAsyncIteration):
            await asyncio.wait_for(anext(revoked), 4)
        await rig.view.add_event(event(1))
        assert (await anext(stays)).id == "2"
        await stays.aclose()
        with pytest.raises(UnauthorizedError):
            await anext(reader.stream(f"{API}/events/stream"))


PAUSE = f"{API}/pipelines/bearing/pause"


@pytest.mark.parametrize("loopback", ["all", "none"])
@pytest.mark.parametrize(
    "headers",
    [
        ("Origin: http://evil.example", "Content-Type: text/plain"),
        ("Origin: null", "Content-Type: application/x-www-form-urlencoded"),
        ("Origin: http://evil.example", "Content-Type: multipart/form-data; boundary=x"),
        ("Referer: http://evil.example/page", "Content-Type: application/x-www-form-urlencoded"),
        ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"),
        ("Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: cors"),
        ("Host-Is: evil.example",),
    ],
    ids=["simple-post", "sandboxed", "form", "old-form", "no-cors", "sibling", "rebinding"],
)
async def test_no_page_can_drive_the_node(tmp_path: Path, loopback: str, headers: tuple[str, ...]) -> None:
    async with serving(tmp_path, loopback=loopback) as rig:
        host = "evil.example" if headers[0].startswith("Host-Is") else ""
        status, answer = await rig.raw("POST", PAUSE, *headers, host=host)
        assert status == 403
        assert "access-control-allow-origin" not in answer
        assert rig.view.paused == set()
        status, answer = await rig.raw("OPTIONS", PAUSE, *headers, "Access-Control-Request-Method: POST", host=host)
        assert status in (403, 405)
        assert not [name for name in answer if name.startswith("access-control")]


async def test_with_a_token_the_host_may_be_any(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        bearer = f"Authorization: Bearer {rig.secrets['operate']}"
        assert (await rig.raw("POST", PAUSE, bearer, host="through.a.proxy.example"))[0] == 200
        assert rig.view.paused == {"bearing"}


async def test_a_stranger_s_body_is_not_read(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        for path in ("/v2/models/m/infer", f"{API}/models"):
            reader, writer = await asyncio.open_connection("127.0.0.1", rig.api.port)
            writer.write(f"POST {path} HTTP/1.1\r\nHost: {rig.api.address}\r\nContent-Length: 1000000\r\n\r\n".encode())
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
            assert b" 401 " in head.split(b"\r\n")[0]
            writer.close()
        bearer = f"Authorization: Bearer {rig.secrets['infer']}"
        body = bytes(3_000_000)
        assert len(body) < INFERENCE_BODY
        assert (await rig.raw("POST", "/v2/models/m/infer", bearer, body=body))[0] == 200


async def test_refusals_of_inference_are_in_its_own_form(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        for path in ("/v2/health/ready", "/v2/models/a%20b/infer"):
            reader, writer = await asyncio.open_connection("127.0.0.1", rig.api.port)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {rig.api.address}\r\nConnection: close\r\n\r\n".encode())
            head, _, body = (await asyncio.wait_for(reader.read(), 5)).partition(b"\r\n\r\n")
            assert b" 401 " in head.split(b"\r\n")[0]
            assert b"www-authenticate: bearer" in head.lower()
            assert "is not open on this port without a token" in msgspec.json.decode(body)["error"]
            writer.close()


async def test_pipelined_refusals_are_answered_one_by_one(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.api.port)
        one = f"GET /v2/health/ready HTTP/1.1\r\nHost: {rig.api.address}\r\n"
        good = f"Authorization: Bearer {rig.secrets['infer']}\r\n"
        writer.write(f"{one}\r\n{one}{good}\r\n{one}\r\n".encode())
        seen = []
        for _ in range(3):
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
            seen.append(int(head.split()[1]))
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
            await reader.readexactly(int(length.split()[1]))
        assert seen == [401, 200, 401]
        writer.close()


async def test_too_many_requests_are_told_when_to_come_back(tmp_path: Path) -> None:
    async with serving(tmp_path, rate="1/m") as rig, rig.client("read") as client:
        answers = [await rig.raw("GET", "/metrics") for _ in range(12)]
        assert [status for status, _ in answers] == [401] * 10 + [429] * 2
        assert 50 <= int(answers[-1][1]["retry-after"]) <= 60
        for _ in range(10):
            assert await client.get(f"{API}/pipelines")
        with pytest.raises(TooManyRequestsError, match=r"too many requests at once \(api\.rate\)"):
            await client.get(f"{API}/pipelines")
        async with AsyncClient(rig.socket) as local:
            for _ in range(30):
                await local.get(f"{API}/pipelines")


async def test_over_tls_it_is_the_same(tmp_path: Path) -> None:
    ca, made, key = issued.authority(tmp_path)
    file = str(issued.server(tmp_path, made, key))
    async with serving(tmp_path, tls=ApiTls(file, file), loopback="all") as rig:
        url = f"https://{rig.api.address}"
        async with AsyncClient(url, token=rig.secrets["read"], ca=ca) as client:
            assert await client.get(f"{API}/pipelines")
            with pytest.raises(RefusedError):
                await client.post("/v2/models/m/infer")
            rig.view.log = [event(0)]
            stream = client.stream(f"{API}/events/stream", last_id="0")
            assert (await anext(stream)).id == "1"
            await asyncio.to_thread(rig.tokens.revoke, "read")
            assert (await asyncio.wait_for(anext(stream), 4)).event == "error"
            await stream.aclose()
        async with AsyncClient(url, token=rig.secrets["infer"], ca=ca) as client:
            assert await client.post("/v2/models/m/infer", [1]) == {"served": "/v2/models/m/infer", "bytes": 3}
        async with AsyncClient(url, ca=ca) as local:
            assert (await local.post(PAUSE))["state"] == "paused"
        assert not any("not encrypted" in each for each in rig.api.warnings())


async def test_what_a_person_should_know_is_on_the_status(tmp_path: Path) -> None:
    beyond: dict[str, Any] = {"listen": "0.0.0.0:0", "token_file": "t"}
    rig = Rig(tmp_path, **beyond)
    assert any("is not encrypted: tokens can be read on the way; set api.tls" in each for each in rig.api.warnings())
    empty = Api(FakeView(), ApiConfig(**beyond), tmp_path / "e.sock", "0")
    assert any("lets nobody in: make a token with `skerry token create`" in each for each in empty.warnings())
    async with serving(tmp_path / "more") as fine:
        assert fine.api.warnings() == []
        fine.file.write_text("{")
        fine.tokens.refresh()
        assert [each.split(":")[0] for each in fine.api.warnings()] == ["tokens"]


async def test_a_node_that_listens_for_others_is_reached_at_its_addresses(tmp_path: Path) -> None:
    async with serving(tmp_path, listen="0.0.0.0:0") as rig:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(("192.0.2.1", 9))  # sends nothing: which address would be used
            except OSError:
                pytest.skip("this machine has no address but loopback")
            own = probe.getsockname()[0]
        async with AsyncClient(f"http://{own}:{rig.api.port}", token=rig.secrets["read"]) as client:
            assert await client.get(f"{API}/pipelines")
        async with AsyncClient(f"http://{own}:{rig.api.port}") as nobody:
            assert await nobody.get("/healthz") == {"status": "ok"}
            with pytest.raises(UnauthorizedError, match="needs a token"):
                await nobody.get(f"{API}/pipelines")
