"""The node's books: what runs is charged and given back, what does not fit in is refused, and what is passed is told."""

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from skerry.config import ResourcesSection, load
from skerry.core.errors import InsufficientResources
from skerry.inference import Version
from skerry.node import Node
from skerry.node.resources import AGENT, BASE_MEMORY, MIB, MODEL_SERVER, SERVER, WORKER, limits_of, worker_memory
from skerry.runtime import ResourceUsage
from skerry.worker import ModelReport, PipelineReport, Report, ShadowReport
from tests.fixtures import models
from tests.fixtures.nats import until
from tests.node.test_view import HEAD, running, write

MODEL = 'model = "m"\nfeatures = ["count", "sum"]\n[[models]]\nname = "m"\nfile = "1.onnx"\nmemory = "64MiB"\n'
PROCESSES = AGENT + SERVER + 2 * WORKER
Make = Callable[..., Node]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes nodes of two workers that are not run: their workers are what the test says they reported."""
    models.adding(tmp_path / "1.onnx", 1)
    made: list[Node] = []

    def one(resources: str = "", more: str = "") -> Node:
        head = HEAD.format(workers=2) + resources
        made.append(Node(load(write(tmp_path, "p", "q", head=head, p=more + MODEL))))
        return made[-1]

    yield one
    for node in made:
        node.models.host.close()
        node._lock.release()


def say(node: Node, worker: int, **pipelines: PipelineReport) -> None:
    node.pool.workers[worker].report = Report(ready=True, pipelines=pipelines)


def at_work(version: str = "1", memory: int = 3 * MIB, seconds: float = 0.5, **more: Any) -> PipelineReport:
    did = [ModelReport("m", "0", memory=70 * MIB), ModelReport("m", version, memory=memory, load_seconds=seconds)]
    return PipelineReport(state="running", model="m", version=version, models=did, **more)


def held(node: Node) -> dict[str, ResourceUsage]:
    node.resources.follow()
    return node.resources.manager.holders()


def test_limits_are_those_of_the_configuration() -> None:
    assert limits_of(ResourcesSection()) == ResourceUsage(memory=1 << 30, cpu=2.0, disk=8 << 30)
    section = ResourcesSection(memory="64MiB", cpu=0.5, network="256KiB/s", disk="1GiB")
    assert limits_of(section) == ResourceUsage(memory=64 * MIB, cpu=0.5, network=256 * 1024, disk=1 << 30)
    kernel = ResourceUsage(memory=32 * MIB, cpu=1.5)
    assert limits_of(section, kernel) == ResourceUsage(memory=32 * MIB, cpu=0.5, network=256 * 1024, disk=1 << 30)


def test_a_kernel_that_gives_less_is_told(make: Make) -> None:
    node = make()
    node.resources._kernel = ResourceUsage(memory=512 * MIB, cpu=4.0)
    assert node.resources.warnings() == ["resources.memory is 1.0 GiB, but the kernel gives this node 512.0 MiB"]


def test_processes_and_pipelines_hold_what_they_need(make: Make) -> None:
    node = make(more='resources = { memory = "32MiB", network = "64KiB/s" }\n')
    found = held(node)
    assert set(found) == {"agent", "nats-server", "worker-0", "worker-1", "pipeline p"}
    assert found["pipeline p"] == ResourceUsage(memory=32 * MIB, network=64 * 1024), "the default of cpu asks for nothing"
    assert found["nats-server"].memory == SERVER
    assert found["nats-server"].disk > 2 << 30, "the log and its streams"
    assert node.resources.manager.allocated.memory == PROCESSES + 32 * MIB
    assert held(node) == found, "nothing is counted twice"
    assert node.resources.warnings() == []


def test_a_loaded_model_is_charged_for_each_copy_until_it_is_let_go(make: Make) -> None:
    node = make()
    say(node, 0, p=at_work(), q=at_work(memory=MIB, seconds=0.1))
    assert held(node)["model m@1"] == ResourceUsage(memory=3 * MIB), "pipelines of one worker share it"
    say(node, 1, p=at_work(memory=5 * MIB, seconds=1.5))
    assert held(node)["model m@1"] == ResourceUsage(memory=8 * MIB)
    (charged,) = node.resources.charged("m")
    assert (charged.reference, charged.copies, charged.memory, charged.most) == ("m@1", 2, 8 * MIB, 5 * MIB)
    assert charged.load_seconds == 1.5
    assert node.resources.charged("other") == []
    say(node, 0, p=at_work("2", shadow=ShadowReport("m", "1", "2", memory=2 * MIB)))
    found = held(node)
    assert (found["model m@1"].memory, found["model m@2"].memory) == (7 * MIB, 3 * MIB)
    node.pool.workers[0].report = Report(ready=False)
    say(node, 1, p=PipelineReport(state="failed"))
    assert not [name for name in held(node) if name.startswith("model ")]
    assert node.resources.manager.allocated.memory == PROCESSES


def test_a_model_that_made_nothing_grow_is_charged_what_its_trial_saw(make: Make, tmp_path: Path) -> None:
    node = make()
    sha256, size = node.models.catalogue.store(tmp_path / "1.onnx")
    node.models.catalogue.add(Version("m", "2", sha256=sha256, size=size, memory=6 * MIB))
    say(node, 0, p=at_work("2", memory=0))
    say(node, 1, p=at_work("2", memory=4 * MIB))
    assert held(node)["model m@2"].memory == 10 * MIB
    say(node, 0, p=at_work("gone", memory=0))
    assert held(node)["model m@gone"].memory == 0


@pytest.mark.asyncio
async def test_a_version_that_does_not_fit_in_is_not_activated_and_the_error_says_who_holds_what(
    make: Make, tmp_path: Path
) -> None:
    node = make('[resources]\nmemory = "512MiB"\n')
    catalogue = node.models.catalogue
    sha256, size = catalogue.store(tmp_path / "1.onnx")
    for version, memory in (("2", 300 * MIB), ("3", 8 * MIB)):
        catalogue.add(Version("m", version, sha256=sha256, size=size, memory=memory))
    say(node, 0, p=at_work(memory=40 * MIB))
    say(node, 1, p=at_work(memory=40 * MIB))
    before = held(node)
    with pytest.raises(InsufficientResources) as refused:
        await node.models.activate("m", "2")
    short = 600 + 80 + (PROCESSES // MIB) - 512
    told = f"model m@2: memory is short by {short}.0 MiB: 600.0 MiB are asked for, the limit is 512.0 MiB"
    assert str(refused.value).startswith(told)
    assert "held by agent 96.0 MiB, worker-0 96.0 MiB, worker-1 96.0 MiB and 2 others" in str(refused.value)
    with pytest.raises(InsufficientResources, match=r"model m@2: memory is short by"):
        await node.models.shadow("m", "2")
    active = catalogue.active("m")
    assert active is not None
    assert (active.version, catalogue.find("m@2").state) == ("1", "staged"), "it may come in when there is room"
    assert held(node) == before
    await node.models.activate("m", "3")
    assert held(node) == before, "what was held for the change is given back: the workers say what they loaded"


def test_a_worker_may_take_what_its_pipelines_and_their_models_may(make: Make) -> None:
    node = make(more='resources = { memory = "32MiB" }\n')
    models_of = 2 * 64 * MIB  # the one that a pipeline names, and once more for a swap
    assert worker_memory(node.config, node.models.catalogue) == BASE_MEMORY + (32 + 256) * MIB + models_of
    bare = msgspec.structs.replace(node.config, pipelines=())
    assert worker_memory(bare, node.models.catalogue) == BASE_MEMORY
    small = msgspec.structs.replace(node.config, resources=ResourcesSection(memory="500MiB"))
    assert worker_memory(small, node.models.catalogue) == 500 * MIB - AGENT - SERVER, "what the node itself needs comes first"
    least = msgspec.structs.replace(node.config, resources=ResourcesSection(memory="1MiB"))
    assert worker_memory(least, node.models.catalogue) == 2 * WORKER


def test_limits_that_are_passed_are_told(make: Make) -> None:
    node = make('[resources]\nmemory = "300MiB"\ndisk = "1GiB"\n')
    say(node, 0, p=at_work(memory=90 * MIB))
    node.resources.used = ResourceUsage(memory=400 * MIB, cpu=9.0, disk=2 << 30)
    node.resources.follow()
    assert node.resources.warnings() == [
        f"{PROCESSES // MIB + 90}.0 MiB of memory are allocated, resources.memory is 300.0 MiB: no further model fits in",
        "the node uses 400.0 MiB of memory, resources.memory is 300.0 MiB",
        "model m@1 takes 90.0 MiB of memory, it may take 64.0 MiB (`memory` in its [[models]] table)",
    ]
    node.serving.restarts.end(None, own_fault=True)
    node.serving.last_words = "it used 530 MiB, allowed are 512 MiB"
    told = "the model server was restarted 1 times: it used 530 MiB, allowed are 512 MiB"
    assert {*node.resources.warnings(), told} <= set(node.warnings())


def test_the_figures_are_those_of_the_books(make: Make) -> None:
    node = make('[resources]\nnetwork = "1MiB/s"\n')
    say(node, 0, p=at_work())
    node.resources.used = ResourceUsage(memory=200 * MIB, cpu=0.25, network=1536, disk=4096)
    status = node.resources.status()
    assert status["sentence"] == (
        f"memory 200.0 MiB used, {PROCESSES // MIB + 3}.0 MiB allocated of 1.0 GiB; cpu 0.25 cores used of 2 cores; "
        f"network 1.5 KiB/s used of 1.0 MiB/s; {node.confinement.sentence}"
    )
    assert status["memory"] == {"limit": 1 << 30, "allocated": PROCESSES + 3 * MIB, "used": 200 * MIB}
    assert status["holders"]["model m@1"] == {"memory": 3 * MIB}
    assert status["measured_by"] in ("processes", "cgroup")
    json.dumps(status)
    figures = node.resources.figures()
    assert figures["limit"] == {"memory": 1 << 30, "cpu": 2.0, "network": MIB, "disk": 8 << 30}
    assert figures["used"] == {"memory": 200 * MIB, "cpu": 0.25, "network": 1536, "disk": 4096}


@pytest.mark.asyncio
async def test_a_node_at_work_charges_what_its_workers_and_its_model_server_load(tmp_path: Path) -> None:
    models.heavy(tmp_path / "1.onnx", 24)
    async with running(write(tmp_path, "p", p=MODEL)) as node:
        await until(lambda: [each.copies for each in node.resources.charged()] == [1])
        (charged,) = node.resources.charged("m")
        assert 20 * MIB < charged.memory < 120 * MIB
        assert charged.load_seconds > 0
        row = node.view.model("m")
        assert row is not None
        assert row["charged"] == [msgspec.to_builtins(charged)]
        answer = await node.serving.request("GET", "/v2/models/m/ready", {}, b"")
        assert answer.status == 200
        (charged,) = node.resources.charged()
        assert (charged.copies, charged.memory > 40 * MIB) == (2, True)
        found = held(node)
        assert found["model server"] == ResourceUsage(memory=MODEL_SERVER)
        assert found["model m@1"].memory == charged.memory
        await asyncio.sleep(0)
        assert 0 < node.serving.memory_limit <= 1 << 30
        assert set(node.resources.status()["loop"]) == {"lag_s", "stalls"}
        sample = {
            (sample.name, sample.labels.get("kind")): sample.value
            for family in text_string_to_metric_families(node.view.metrics())
            for sample in family.samples
        }
        assert sample["skerry_resource_limit", "memory"] == 1 << 30
        assert sample["skerry_resource_allocated", "memory"] == node.resources.manager.allocated.memory
        await until(lambda: node.resources.used.memory > 150 * MIB)
        assert (await node.serving.request("POST", "/v2/repository/models/m/unload", {}, b"{}")).status == 200
        await until(lambda: [each.copies for each in node.resources.charged()] == [1])
        assert held(node)["model m@1"].memory < found["model m@1"].memory
