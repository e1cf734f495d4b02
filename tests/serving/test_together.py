"""Requests that come together: answered in one run, each with its own answer, its own error and its own version."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from skerry.serving.frames import Answer, Ask, Given
from skerry.serving.handlers import JOINED, Handlers
from skerry.serving.models import LoadedModels
from tests.serving.conftest import adders, identity
from tests.serving.test_server import rows

pytestmark = pytest.mark.asyncio
INFER = "/v2/models/add/infer"


class Room:
    """Handlers on loaded models, without a process or a socket."""

    def __init__(self, models: LoadedModels) -> None:
        self.models = models
        self.handlers = Handlers(models)

    async def answer(self, *asks: Ask) -> list[tuple[int, Any]]:
        """What each is told, in their order."""
        groups, others = self.handlers.sort(asks)
        found: list[Answer] = []
        await asyncio.gather(*(self.handlers.answer_group(group, found.append) for group in groups))
        found += await asyncio.gather(*map(self.handlers.answer, others))
        assert sorted(each.id for each in found) == sorted(each.id for each in asks)
        return [(each.status, json.loads(each.body)) for each in sorted(found, key=lambda each: each.id)]

    @property
    def runs(self) -> int:
        entry = self.models.ready("add", None)
        assert entry is not None
        return entry.model.stats.runs


@pytest_asyncio.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    identity(tmp_path / "other.onnx", "FP32")
    models = LoadedModels()
    given = [*adders(tmp_path), {"name": "other", "file": "other.onnx", "max_batch": 16}]
    await models.give(Given(given, str(tmp_path), ""))
    yield Room(models)
    await models.close()


def infer(number: int, value: float, path: str = INFER, **more: Any) -> Ask:
    return Ask(number, "POST", path, {}, json.dumps({**rows([value, value]), **more}).encode())


async def test_one_run_and_each_its_own_answer(room: Room) -> None:
    before = room.runs
    found = await room.answer(*(infer(at, float(at), outputs=[{"name": "y"}], id=f"i{at}") for at in range(8)))
    assert room.runs == before + 1
    for at, (status, told) in enumerate(found):
        assert (status, told["id"], told["outputs"][0]["data"]) == (200, f"i{at}", [at + 1.0] * 2)


async def test_models_versions_and_outputs_are_kept_apart(room: Room) -> None:
    asks = [
        infer(1, 1.0, outputs=[{"name": "y"}]),
        infer(2, 1.0, outputs=[{"name": "z"}]),
        infer(3, 1.0, "/v2/models/add/versions/1/infer"),
        infer(4, 1.0, "/v2/models/add/versions/2/infer"),
        infer(5, 1.0, "/v2/models/other/infer"),
        Ask(6, "GET", "/v2/health/live", {}, b""),
        Ask(7, "GET", INFER, {}, b""),
    ]
    groups, others = room.handlers.sort(asks)
    assert [[ask.id for ask in group.asks] for group in groups] == [[1], [2], [3], [5]]
    assert [ask.id for ask in others] == [4, 6, 7]  # version 2 is not loaded yet
    for group in groups:
        group.entry.release()
    found = dict(zip(range(1, 8), await room.answer(*asks), strict=True))
    assert [each["name"] for each in found[1][1]["outputs"]] == ["y"]
    assert [each["name"] for each in found[2][1]["outputs"]] == ["z"]
    assert [each["data"] for each in found[3][1]["outputs"]] == [[2.0, 2.0], [2.0, 2.0]]
    assert [each["data"] for each in found[4][1]["outputs"]] == [[3.0, 3.0], [2.0, 2.0]]
    assert found[5][1]["model_name"] == "other"
    assert found[6] == (200, {"live": True})
    assert found[7][0] == 400
    groups, others = room.handlers.sort(asks)
    assert [ask.id for group in groups for ask in group.asks] == [1, 2, 3, 4, 5]
    for group in groups:
        group.entry.release()


async def test_one_mistake_is_nobody_elses(room: Room) -> None:
    bad = Ask(4, "POST", INFER, {}, json.dumps(rows([1.0, 2.0, 3.0])).encode())
    asks = [infer(1, 1.0), Ask(2, "POST", INFER, {}, b"{"), infer(3, 3.0), bad, infer(5, 5.0)]
    found = await room.answer(*asks, infer(6, 1.0, "/v2/models/none/infer"), infer(7, 1.0, outputs=[{"name": "q"}]))
    assert [status for status, _ in found] == [200, 400, 200, 400, 200, 404, 400]
    assert [found[at][1]["outputs"][0]["data"][0] for at in (0, 2, 4)] == [2.0, 4.0, 6.0]
    assert "no inference request" in found[1][1]["error"]
    assert "x" in found[3][1]["error"]
    assert "no output 'q'" in found[6][1]["error"]


async def test_what_is_no_text_at_all_takes_nobody_with_it(room: Room) -> None:
    """Bytes that no decoder takes, in one read with good requests: each is told its own, and the others have their run."""
    mad = Ask(1, "POST", INFER, {}, b'{"inputs":[{"name":"\xff","shape":[1,2],"datatype":"FP32","data":[1,2]}]}')
    deep = Ask(2, "POST", INFER, {}, b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":' + b"[" * 50_000)
    found = await room.answer(mad, infer(3, 3.0), deep, infer(4, 4.0), Ask(5, "POST", "/v2/models/%ff/infer", {}, b"{}"))
    assert [status for status, _ in found] == [400, 400, 200, 200, 400]
    assert [told["outputs"][0]["data"][0] for _, told in found[2:4]] == [4.0, 5.0]


async def test_large_ones_go_alone(room: Room) -> None:
    large = Ask(1, "POST", INFER, {}, infer(1, 1.0).body + b" " * JOINED)
    groups, others = room.handlers.sort([large, infer(2, 2.0)])
    assert ([ask.id for ask in groups[0].asks], [ask.id for ask in others]) == ([2], [1])
    groups[0].entry.release()
    assert [status for status, _ in await room.answer(large, infer(2, 2.0))] == [200, 200]


async def test_a_version_is_held_from_the_moment_it_is_sorted(room: Room) -> None:
    groups, _ = room.handlers.sort([infer(1, 1.0), infer(2, 2.0)])
    await room.models.unload("add")
    await asyncio.sleep(0.02)
    found: list[Answer] = []
    await room.handlers.answer_group(groups[0], found.append)
    assert [each.status for each in found] == [200, 200]
    assert (await room.answer(infer(3, 1.0)))[0][0] == 503
