"""The API over a node in memory, on real sockets, with the real client."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from skerry.api import Api, ApiConfig
from skerry.core.errors import ConfigError, RejectedError
from skerry.core.service import cancel_and_wait
from skerry.http import AsyncClient, NotFoundError, RefusedError
from tests.api.fake_view import FakeView, event

pytestmark = pytest.mark.asyncio
V1 = "/api/v1"


@asynccontextmanager
async def serving(tmp_path: Path, **config: Any) -> AsyncIterator[tuple[FakeView, Api]]:
    view = FakeView()
    api = Api(view, ApiConfig(**{"listen": "127.0.0.1:0", **config}), tmp_path / "s.sock", "0.1.0")
    task = asyncio.create_task(api.run())
    try:
        await asyncio.wait_for(api.listening.wait(), 5)
        yield view, api
    finally:
        await cancel_and_wait(task)


@asynccontextmanager
async def asking(tmp_path: Path) -> AsyncIterator[tuple[FakeView, AsyncClient]]:
    async with serving(tmp_path) as (view, api), AsyncClient(f"http://{api.address}") as client:
        yield view, client


async def raw(api: Api, ask: str) -> tuple[int, str, bytes]:
    """Status, content type and body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(ask.replace("\n", "\r\n").encode() + b"\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    kind = next(line.partition(b": ")[2] for line in head.split(b"\r\n") if line.lower().startswith(b"content-type"))
    return int(head.split()[1]), kind.decode(), body


async def test_health_and_readiness(tmp_path: Path) -> None:
    async with serving(tmp_path) as (view, api):
        assert (await raw(api, "GET /healthz HTTP/1.1\nHost: localhost"))[0] == 200
        status, _, body = await raw(api, "GET /readyz HTTP/1.1\nHost: localhost")
        assert (status, body) == (200, b'{"ready":true,"reason":"all works"}')
        view.is_ready = False
        status, _, body = await raw(api, "GET /readyz HTTP/1.1\nHost: localhost")
        assert (status, body) == (503, b'{"ready":false,"reason":"the broker is starting"}')
        assert (await raw(api, "GET /healthz HTTP/1.1\nHost: localhost"))[0] == 200


async def test_metrics(tmp_path: Path) -> None:
    async with serving(tmp_path) as (view, api):
        status, kind, body = await raw(api, "GET /metrics HTTP/1.1\nHost: localhost")
        assert (status, kind, body.decode()) == (200, "text/plain; version=0.0.4; charset=utf-8", view.metrics())


async def test_node_pipelines_models_config(tmp_path: Path) -> None:
    async with asking(tmp_path) as (view, client):
        assert await client.get(f"{V1}/node") == await view.status()
        assert await client.get(f"{V1}/node/uptime") == view.uptime(0)
        assert await client.get(f"{V1}/node/uptime", {"over": "30d"}) == view.uptime(30 * 86_400_000_000)
        assert await client.get(f"{V1}/pipelines") == {"pipelines": view.pipelines()}
        assert await client.get(f"{V1}/pipelines/bearing") == view.pipeline("bearing")
        assert await client.get(f"{V1}/models") == {"models": view.models()}
        assert await client.get(f"{V1}/config") == {"config": view.config()}
        with pytest.raises(
            NotFoundError, match=r"there is no pipeline 'baering', did you mean 'bearing'\?; there are bearing, level"
        ):
            await client.get(f"{V1}/pipelines/baering")
        with pytest.raises(RejectedError, match="unknown parameter"):
            await client.get(f"{V1}/node", {"x": 1})


async def test_models_are_added_switched_shadowed_and_removed(tmp_path: Path) -> None:
    one = f"{V1}/models/bearing"
    async with asking(tmp_path) as (view, client):
        assert await client.get(one) == view.model("bearing")
        given = {"labels": ["good", "bad"], "threshold": 0.5, "features": ["a", "b"], "convert": True}
        added = await client.post(f"{V1}/models", {"name": "bearing", "file": "/tmp/n.onnx", **given})
        assert added == {"name": "bearing", "version": "3", "state": "staged", **given}
        sent = await client.upload(f"{one}/upload?version=4", b"\x08model", "application/octet-stream")
        assert sent == {"name": "bearing", "version": "4", "state": "staged", "size": 6}
        for wrong in (b"", b"no model"):
            with pytest.raises(RejectedError):
                await client.upload(f"{one}/upload", wrong, "application/octet-stream")
        assert (await client.post(f"{one}/activate", {"version": "1"}))["active"] == "1"
        assert (await client.post(f"{one}/activate", {"version": "2"}))["active"] == "2"
        assert (await client.post(f"{one}/rollback"))["active"] == "1"
        assert (await client.post(f"{one}/shadow", {"version": "2"}))["shadow"] == "2"
        assert (await client.post(f"{one}/shadow", {"version": None}))["shadow"] is None
        assert await client.delete(f"{one}/versions/2") == {"removed": "bearing@2"}
        assert [row["version"] for row in (await client.get(one))["versions"]] == ["1"]


@pytest.mark.parametrize(
    ("verb", "body", "reason"),
    [
        ("bearing/activate", {"version": "9"}, "no version '9'; allowed: 1, 2"),
        ("bearing/activate", {}, "missing required field `version`"),
        ("bearing/activate", {"version": 2}, "Expected `str`, got `int`"),
        ("bearing/activate", {"version": "2", "now": True}, "unknown field `now`"),
        ("bearing/shadow", {}, "missing required field `version`"),
        ("baering/activate", {"version": "2"}, "there is no model 'baering', did you mean 'bearing'"),
        ("baering/rollback", {}, "there is no model 'baering'"),
        ("", {"name": "bearing", "file": "n.txt"}, "the file is no ONNX model"),
        ("", {"name": "bearing"}, "missing required field `file`"),
    ],
)
async def test_what_is_wrong_with_a_request_for_a_model_is_said(
    tmp_path: Path, verb: str, body: dict[str, Any], reason: str
) -> None:
    async with asking(tmp_path) as (view, client):
        with pytest.raises(RejectedError) as caught:
            await client.post(f"{V1}/models/{verb}".rstrip("/"), body)
        assert reason in str(caught.value)
        assert view.active == "2"


async def test_pause_and_resume(tmp_path: Path) -> None:
    async with asking(tmp_path) as (view, client):
        assert (await client.post(f"{V1}/pipelines/bearing/pause"))["state"] == "paused"
        assert view.paused == {"bearing"}
        assert (await client.post(f"{V1}/pipelines/bearing/resume"))["state"] == "running"
        assert view.paused == set()
        for verb in ("pause", "resume", "deadletters/retry", "deadletters/drop"):
            with pytest.raises(NotFoundError):
                await client.post(f"{V1}/pipelines/none/{verb}")
        with pytest.raises(RejectedError, match="GET is not for"):
            await client.get(f"{V1}/pipelines/bearing/pause")


async def test_dead_letters(tmp_path: Path) -> None:
    async with asking(tmp_path) as (view, client):
        view.letters["bearing"] = [{"sequence": number, "reason": "late"} for number in range(5)]
        path = f"{V1}/pipelines/bearing/deadletters"
        first = await client.get(path, {"limit": 3})
        rest = await client.get(path, {"limit": 3, "after": first["next"]})
        assert [row["sequence"] for row in first["dead_letters"] + rest["dead_letters"]] == [0, 1, 2, 3, 4]
        assert rest["next"] is None
        assert await client.post(f"{path}/retry") == {"retried": 5}
        assert await client.post(f"{path}/drop") == {"dropped": 0}
        with pytest.raises(NotFoundError):
            await client.get(f"{V1}/pipelines/none/deadletters")


async def test_events_in_pages(tmp_path: Path) -> None:
    async with asking(tmp_path) as (view, client):
        view.log = [event(number, key=f"pump-{number % 2}") for number in range(7)]
        pages, after = [], None
        while True:
            page = await client.get(f"{V1}/events", {"limit": 3, "after": after})
            pages.append(page["events"])
            after = page["next"]
            if after is None:
                break
        assert [len(page) for page in pages] == [3, 3, 1]
        assert [row for page in pages for row in page] == view.log
        odd = await client.get(f"{V1}/events", {"key": "pump-1", "pipeline": "bearing"})
        assert odd == {"events": view.log[1::2], "next": None}
        since = await client.get(f"{V1}/events", {"since": view.log[4]["end"]})
        assert since["events"] == view.log[4:]
        newest = await client.get(f"{V1}/events", {"last": 2, "key": "pump-0"})
        assert newest == {"events": [view.log[4], view.log[6]], "next": None, "sequence": 7}
        for wrong in ({"limit": 0}, {"since": "x"}, {"after": "x"}, {"last": "x"}, {"pipe": "x"}):
            with pytest.raises(RejectedError):
                await client.get(f"{V1}/events", wrong)


async def test_a_stream_resumes_where_it_stopped(tmp_path: Path) -> None:
    async with asking(tmp_path) as (view, client):
        for number in range(3):
            await view.add_event(event(number))
        stream = client.stream(f"{V1}/events/stream", last_id="1")
        got = [await anext(stream), await anext(stream)]
        assert [(found.id, found.event) for found in got] == [("2", "event"), ("3", "event")]
        await stream.aclose()
        await view.add_event(event(3))
        stream = client.stream(f"{V1}/events/stream", last_id=got[-1].id)
        assert (await anext(stream)).id == "4"
        await stream.aclose()


async def test_a_stream_from_now_on_and_of_one_key(tmp_path: Path) -> None:
    async with asking(tmp_path) as (view, client):
        await view.add_event(event(0, key="b"))
        stream = client.stream(f"{V1}/events/stream", {"key": "b"})
        found = asyncio.ensure_future(anext(stream))
        await asyncio.wait_for(view.opened.wait(), 5)
        await view.add_event(event(1, key="a"))
        await view.add_event(event(2, key="b"))
        assert (await found).id == "3"
        after = client.stream(f"{V1}/events/stream", {"after": 0})
        assert (await anext(after)).id == "1"
        for each in (stream, after):
            await each.aclose()
        with pytest.raises(RejectedError, match="Last-Event-ID"):
            await anext(client.stream(f"{V1}/events/stream", last_id="x"))


async def test_a_stream_that_breaks_says_so(tmp_path: Path) -> None:
    async with asking(tmp_path) as (view, client):
        view.broken_stream = True
        found = [each async for each in client.stream(f"{V1}/events/stream")]
        assert [each.event for each in found] == ["error"]
        assert "the log does not answer" in found[0].data


async def test_a_reader_that_leaves_is_forgotten(tmp_path: Path) -> None:
    async with asking(tmp_path) as (view, client):
        view.log = [event(0)]
        stream = client.stream(f"{V1}/events/stream", last_id="0")
        await anext(stream)
        assert view.streams == 1
        await stream.aclose()
        await asyncio.wait_for(view.closed.wait(), 5)
        assert view.streams == 0


async def test_the_service_ends_in_time_with_streams_open(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    async with AsyncClient(tmp_path / "s.sock") as client:
        async with serving(tmp_path) as (view, _):
            view.log = [event(0)]
            streams = [client.stream(f"{V1}/events/stream", last_id="0") for _ in range(3)]
            for stream in streams:
                await anext(stream)
            began = loop.time()
        assert loop.time() - began < 2.0
        assert view.streams == 0
        for stream in streams:
            assert [each async for each in stream] == []


async def test_devices(tmp_path: Path) -> None:
    async with asking(tmp_path) as (view, client):
        path = f"{V1}/devices"
        made = await client.post(path, {"id": "pump 1", "topics": ["sub:events/#"]})
        assert made["password"] == "made-for-pump 1"
        assert (await client.post(path, {"id": "b", "password": "own"}))["password"] == "own"
        listed = await client.get(path)
        assert [row["id"] for row in listed["devices"]] == ["pump 1", "b"]
        assert "password" not in str(listed).replace("'kind': 'password'", "")
        assert (await client.get(f"{path}/pump%201"))["topics"] == ["sub:events/#"]
        with pytest.raises(RejectedError, match="is there already"):
            await client.post(path, {"id": "b"})
        assert (await client.post(f"{path}/b/revoke"))["revoked"] is True
        assert await client.delete(f"{path}/b") == {"removed": "b"}
        assert list(view.known) == ["pump 1"]
        for wrong in (client.get(f"{path}/b"), client.delete(f"{path}/b"), client.post(f"{path}/b/revoke")):
            with pytest.raises(NotFoundError, match="there is no device 'b'"):
                await wrong
        for body in (None, {}, {"id": 1}, {"id": "c", "passwort": "x"}):
            with pytest.raises(RejectedError, match="the body will not do"):
                await client.post(path, body)


async def test_reload(tmp_path: Path) -> None:
    async with asking(tmp_path) as (view, client):
        assert await client.post(f"{V1}/config/reload") == {"changed": ["pipelines"], "needs_restart": ["broker"]}
        view.wrong_file = True
        with pytest.raises(ConfigError, match="unknown key 'nmae'") as caught:
            await client.post(f"{V1}/config/reload")
        assert caught.value.where == "skerry.toml: node"


async def test_openapi_names_every_route_and_each_is_there(tmp_path: Path) -> None:
    async with asking(tmp_path) as (view, client):
        await client.post(f"{V1}/devices", {"id": "x"})
        await client.post(f"{V1}/kv/k", {"value": "v"})
        view.history = {"bearing": []}
        document = await client.get(f"{V1}/openapi.json")
        assert document["openapi"].startswith("3.1")
        operations = [(path, method, each) for path, methods in document["paths"].items() for method, each in methods.items()]
        assert len({each["operationId"] for _, _, each in operations}) == len(operations) >= 20
        for path, method, operation in operations:
            named = [each["name"] for each in operation["parameters"] if each["in"] == "path"]
            assert all(f"{{{name}}}" in path for name in named)
            if method == "get" and "/stream" not in path:
                answer = path.replace("{name}", "bearing").replace("{id}", "x").replace("{key}", "k")
                if "json" in str(operation["responses"]["200"]["content"]):
                    assert await client.get(answer) is not None
        assert document["paths"][f"{V1}/devices"]["post"]["requestBody"]["content"]["application/json"]["schema"]["required"] == [
            "id"
        ]
        await (await view.store()).close()


async def test_a_page_of_another_site_cannot_drive_the_node(tmp_path: Path) -> None:
    async with serving(tmp_path) as (view, api):
        pause = f"POST {V1}/pipelines/bearing/pause HTTP/1.1\nContent-Length: 0\nHost: "
        rebound = await raw(api, f"{pause}evil.example:{api.port}")
        cross = await raw(api, f"{pause}127.0.0.1:{api.port}\nOrigin: http://evil.example")
        for status, kind, _ in (rebound, cross):
            assert (status, kind) == (403, "application/problem+json")
        assert (await raw(api, f"GET /metrics HTTP/1.1\nHost: evil.example:{api.port}"))[0] == 403
        assert view.paused == set()
        assert (await raw(api, f"{pause}127.0.0.1:{api.port}\nOrigin: http://127.0.0.1:{api.port}"))[0] == 200
        assert view.paused == {"bearing"}


async def test_a_port_for_reading_only(tmp_path: Path) -> None:
    async with serving(tmp_path, loopback="read") as (_, api):
        async with AsyncClient(f"http://{api.address}") as client:
            assert await client.get(f"{V1}/pipelines")
            with pytest.raises(RefusedError, match="use the `skerry` command on the node's computer"):
                await client.post(f"{V1}/pipelines/bearing/pause")
        async with AsyncClient(tmp_path / "s.sock") as client:
            assert (await client.post(f"{V1}/pipelines/bearing/pause"))["state"] == "paused"


async def test_a_taken_port_is_said_and_tried_again(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        api = Api(FakeView(), ApiConfig(listen=f"127.0.0.1:{port}"), tmp_path / "s.sock", "0.1.0")
        task = asyncio.create_task(api.run())
        await asyncio.wait_for(api.ready.wait(), 5)
        await asyncio.sleep(0.05)
        assert api.status.startswith(f"127.0.0.1:{port}: cannot listen for HTTP: address already in use")
        async with AsyncClient(tmp_path / "s.sock") as client:
            assert await client.get(f"{V1}/pipelines")
    await asyncio.wait_for(api.listening.wait(), 5)
    assert api.status == f"listening on http://127.0.0.1:{port}"
    await cancel_and_wait(task)
    assert (api.status, api.address) == ("stopped", "")
