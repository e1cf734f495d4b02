"""A node and an OpenTelemetry collector: what it gets is what `/metrics` and `pipeline trace` say; a dead one holds nothing up."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from skerry.config import load
from skerry.core.errors import ConfigError
from skerry.node import Node
from tests.node.test_view import HEAD, come, device, running, send, write
from tests.telemetry.collector import Collector, attributes

WINDOW = 'window = { kind = "tumbling", size = "1s", lateness = "0s" }\nfeatures = ["mean"]'


def telemetry(url: str, more: str = "") -> str:
    return f'{HEAD.format(workers=1)}[telemetry]\nendpoint = "{url}"\nmetrics = "1s"\ntraces = "1s"\n{more}\n'


async def until(good: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not good():  # noqa: ASYNC110 - in a thread, and in another task
            await asyncio.sleep(0.05)


@pytest.mark.asyncio
async def test_a_collector_gets_the_metrics_and_the_way_of_messages(tmp_path: Path) -> None:
    (tmp_path / "headers").write_text("Authorization: Bearer t1\n")
    with Collector() as collector:
        file = write(tmp_path, "a", "b", head=telemetry(collector.url, 'headers_file = "headers"'), b=WINDOW)
        async with running(file) as node, device(node) as client:

            def roots() -> dict[str, object]:
                found = {attributes(span.attributes).get("skerry.pipeline"): span for span in collector.spans()}
                return {str(name): span for name, span in found.items() if name}

            async with asyncio.timeout(60):
                while set(roots()) != {"a", "b"}:
                    await send(client, "a", 1.5)
                    await send(client, "b", 2.5)
                    await asyncio.sleep(0.2)
            root = roots()["a"]
            told = attributes(root.attributes)
            assert (told["skerry.key"], told["messaging.destination.name"], told["skerry.outcome"]) == ("d", "devices/d/a", "event")
            events, _ = await node.view.events("a", None, None, 1000, None)
            assert told["skerry.event"] in [event["id"] for event in events]
            steps = [span for span in collector.spans() if span.parent_span_id == root.span_id]
            assert [span.name for span in steps if span.name != "open"] == [
                "log", "turn", "decode", "window", "features", "model", "rule", "stored", "sink mqtt",
            ]  # fmt: skip
            assert steps[0].start_time_unix_nano == root.start_time_unix_nano
            assert steps[-1].end_time_unix_nano == root.end_time_unix_nano
            assert {span.trace_id for span in steps} == {root.trace_id}

            count = len(collector.metrics)
            await until(lambda: len(collector.metrics) > count + 1)
            received = collector.newest()["skerry_messages_received_total"].sum.data_points
            scraped = node.view.metrics()
            wanted = {sample.name for family in text_string_to_metric_families(scraped) for sample in family.samples}
            bare = {name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum") for name in wanted}
            assert set(collector.newest()) == {name for name in bare if not name.endswith("_created")}
            now = {each.labels["pipeline"]: each.value for family in text_string_to_metric_families(scraped)
                   for each in family.samples if each.name == "skerry_messages_received_total"}  # fmt: skip
            assert {attributes(each.attributes)["pipeline"]: each.as_double for each in received} == now
            assert collector.headers[-1]["Authorization"] == "Bearer t1"
            resource = attributes(collector.metrics[-1].resource_metrics[0].resource.attributes)
            assert (resource["service.name"], resource["service.namespace"], resource["service.instance.id"]) == (
                "skerry", "quay", "box",
            )  # fmt: skip
            status = await node.view.status()
            assert status["telemetry"]["spans"]["sent"] == len(collector.spans())
            assert status["telemetry"]["points"]["dropped"] == 0
            assert not [warning for warning in status["warnings"] if "telemetry" in warning]


@pytest.mark.asyncio
async def test_a_collector_that_hangs_holds_nothing_up(tmp_path: Path) -> None:
    with Collector() as collector:
        collector.held.clear()
        file = write(tmp_path, "a", head=telemetry(collector.url, 'queue = "16KiB"\ntimeout = "300ms"'))
        async with running(file) as node, device(node) as client:
            await send(client, "a", *range(50))
            await until(node.telemetry.warnings)
            assert "in time" in node.telemetry.warnings()[0]
            await come(node, "a", *range(50))
            # the queue is full after some rounds: the oldest goes, and is counted on /metrics
            await until(lambda: node.telemetry.figures()["points"][1] > 0)
            row = (await node.view.status())["telemetry"]
            assert row["points"]["waiting_bytes"] <= 16 * 1024
            dropped = [
                sample.value for family in text_string_to_metric_families(node.view.metrics()) for sample in family.samples
                if sample.name == "skerry_telemetry_dropped_total" and sample.labels == {"kind": "points"}
            ]  # fmt: skip
            assert dropped[0] > 0
            began = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - began < 30  # nor does it when the node ends


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    file = write(tmp_path, "a", head=telemetry("http://127.0.0.1:1", 'headers_file = "none"'))
    with pytest.raises(ConfigError, match="cannot be read") as refused:
        Node(load(file))
    assert "telemetry" in str(refused.value)


def test_where_it_is_off_nothing_of_it_is_imported(tmp_path: Path) -> None:
    file = write(tmp_path, "a")
    code = (
        "import sys; from pathlib import Path; from skerry.config import load; from skerry.node import Node\n"
        f"node = Node(load(Path({str(file)!r})))\n"
        "assert node.telemetry.status() is None and node.telemetry.figures() == {}\n"
        "print([name for name in sys.modules if name.startswith(('opentelemetry', 'google.protobuf', 'skerry.telemetry.'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "['skerry.telemetry.config']"
