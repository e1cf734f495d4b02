"""Names of models and versions as they come over HTTP: decoded once, whatever is in them."""

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio
import tritonclient.http as triton

from skerry.serving.frames import Ask, Given
from skerry.serving.handlers import Handlers
from skerry.serving.models import LoadedModels
from tests.serving.conftest import adder, over_http, serving
from tests.serving.test_server import rows

pytestmark = pytest.mark.asyncio
NAMES = ["50%", "a%41", "a%2541", "%", "%zz", "a b", "a/b", "line/../a", "mäßig", "a+b", "a;b", "a?b#c", "aA", "."]
VERSIONS = ["1%", "%31", "2/3"]


def given(folder: Path) -> list[dict[str, object]]:
    """Models of odd names: each adds its number, so that an answer says who gave it."""
    for at in range(len(NAMES)):
        adder(folder / f"{at}.onnx", at)
    keys = [*((name, "1", at) for at, name in enumerate(NAMES)), *(("odd", version, at) for at, version in enumerate(VERSIONS))]
    return [{"name": name, "version": version, "file": f"{at}.onnx", "max_batch": 16} for name, version, at in keys]


def call(address: str, path: str, body: object = None) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(f"http://{address}{path}", data), timeout=10) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def path_of(name: str, rest: str = "") -> str:
    # a segment of dots alone would be taken away by what stands between
    return f"/v2/models/{quote(name, safe='').replace('.', '%2E') if set(name) == {'.'} else quote(name, safe='')}{rest}"


async def test_every_name_reaches_its_own_model(tmp_path: Path) -> None:
    usual = [name for name in NAMES if name != "."]  # what a URL library makes of a lone dot is not ours to say
    async with serving(tmp_path, given(tmp_path)) as server, over_http(server) as address:

        def ask() -> None:
            for name in usual:
                status, told = call(address, path_of(name, "/infer"), rows([0, 0]))
                assert (status, told.get("model_name")) == (200, name), told
                assert told["outputs"][0]["data"][0] == NAMES.index(name)
                assert call(address, path_of(name))[1]["name"] == name
            for at, version in enumerate(VERSIONS):
                status, told = call(address, path_of("odd", f"/versions/{quote(version, safe='')}/infer"), rows([0, 0]))
                assert (status, told["model_version"], told["outputs"][0]["data"][0]) == (200, version, at)
            status, told = call(address, path_of("50%25"))
            assert (status, "no model '50%25'" in told["error"]) == (404, True)

        await asyncio.to_thread(ask)


async def test_the_official_client_quotes_them(tmp_path: Path) -> None:
    async with serving(tmp_path, given(tmp_path)) as server, over_http(server) as address:

        def ask() -> None:
            client = triton.InferenceServerClient(address)
            try:
                for name in ("50%", "a%41", "a b", "mäßig"):
                    assert client.is_model_ready(name)
                    assert client.get_model_metadata(name)["name"] == name
                    assert client.get_model_metadata(name)["versions"] == ["1"]
                client.unload_model("a%41")
                assert not client.is_model_ready("a%41")
                assert client.is_model_ready("aA")
                client.load_model("a%41")
                assert client.is_model_ready("a%41")
            finally:
                client.close()

        await asyncio.to_thread(ask)


@pytest_asyncio.fixture
async def handlers(tmp_path: Path) -> AsyncIterator[Handlers]:
    models = LoadedModels()
    await models.give(Given(given(tmp_path), str(tmp_path), ""))
    yield Handlers(models)
    await models.close()


async def test_alone_and_in_a_group_a_path_means_the_same(handlers: Handlers) -> None:
    body = json.dumps(rows([0, 0])).encode()
    asks = [Ask(at + 1, "POST", path_of(name, "/infer"), {}, body) for at, name in enumerate(NAMES)]
    groups, others = handlers.sort(asks)
    assert not others
    assert [group.entry.config.name for group in groups] == NAMES
    for group in groups:
        group.entry.release()
    for name, ask in zip(NAMES, asks, strict=True):
        assert json.loads((await handlers.answer(ask)).body)["model_name"] == name


@pytest.mark.parametrize("path", ["/v2/models//infer", "/v2/models/a/b/infer", "/v2/models/%ff/infer", "/v2/models/50%/x"])
async def test_a_path_that_names_nothing(handlers: Handlers, path: str) -> None:
    answer = await handlers.answer(Ask(1, "POST", path, {}, b"{}"))
    assert answer.status in (400, 404)
    assert set(json.loads(answer.body)) == {"error"}
